// What became of every call, from what its client was answered, what the API says and what the ledger counted.

import { z } from 'zod';
import { jobShape, type JobView } from '../flows/product.ts';
import type { Entry } from './ledger.ts';
import type { Life, Lives } from './lives.ts';
import type { Call } from './load.ts';

const instant = z.iso.datetime().transform((text) => Date.parse(text));
const timesShape = jobShape.extend({ created_at: instant, finished_at: instant.nullable() });
type Job = z.infer<typeof timesShape>;

export interface Evidence {
  readonly calls: readonly Call[];
  readonly lives: Lives;
  readonly jobs: readonly JobView[];
  readonly ledger: ReadonlyMap<string, readonly Entry[]>;
}

/** A job that was open at a kill: how long after the next start, or after it was due, it ended. */
export interface Recovery {
  /** From the first such start: later kills may have hit it again. */
  readonly ms: number;
  /** From the last: nobody disturbed it any more. */
  readonly undisturbedMs: number;
}

export interface Accounts {
  readonly accepted: number;
  /** Keys that were answered more than one id, or that have more than one row. */
  readonly twice: readonly string[];
  /** Accepted, and not SUCCESS; or their effect is in no ledger. */
  readonly lost: readonly string[];
  /** Rows and ledger entries that belong to nobody's call. */
  readonly strange: readonly string[];
  readonly rerunKeys: number;
  readonly reruns: number;
  /** Keys with a request whose answer nobody got. */
  readonly unknown: number;
  readonly recoveries: readonly Recovery[];
  /** Those whose attempt died with its process. */
  readonly vanished: number;
  /** From the last spawn to the end of the last job; Infinity where one is open. */
  readonly settledAfterMs: number;
}

export function accountsOf({ calls, lives, jobs: views, ledger }: Evidence): Accounts {
  const jobs = new Map(views.map((view) => [view.id, timesShape.parse(view)]));
  const accepted = calls.filter(({ ids }) => ids.size > 0);
  const owned = new Map(accepted.flatMap((call) => [...call.ids].map((id) => [id, call] as const)));
  const runs = [...ledger.values()];
  const lastSpawn = lives.all.at(-1)?.spawnedAt ?? 0;
  return {
    accepted: accepted.length,
    twice: accepted.filter(({ ids, key }) => idsOf(key, ids, ledger).size > 1).map(({ key }) => key),
    lost: accepted.filter((call) => isLost(call, jobs, ledger)).map(({ key }) => key),
    strange: [
      ...[...jobs.keys()].filter((id) => !owned.has(id)),
      ...runs.flat().flatMap(({ job_id: id, key }) => (owned.get(id)?.key === key ? [] : [`${key} by ${id}`])),
    ],
    rerunKeys: runs.filter(({ length }) => length > 1).length,
    reruns: runs.reduce((sum, { length }) => sum + length - 1, 0),
    unknown: calls.filter(({ unknown }) => unknown > 0).length,
    recoveries: [...jobs.values()].flatMap((job) => recoveryOf(job, owned.get(job.id), lives)),
    vanished: views.filter(({ attempts }) => attempts.some(({ outcome }) => outcome === 'lost')).length,
    settledAfterMs: Math.max(0, ...[...jobs.values()].map((job) => (job.finished_at ?? Infinity) - lastSpawn)),
  };
}

function idsOf(key: string, answered: ReadonlySet<string>, ledger: Evidence['ledger']): ReadonlySet<string> {
  return new Set([...answered, ...(ledger.get(key) ?? []).map(({ job_id: id }) => id)]);
}

function isLost({ key, task, ids }: Call, jobs: ReadonlyMap<string, Job>, ledger: Evidence['ledger']): boolean {
  const succeeded = [...ids].every((id) => jobs.get(id)?.state === 'SUCCESS');
  return !succeeded || (task === 'debug.effect' && !ledger.has(key));
}

function recoveryOf(job: Job, call: Call | undefined, { all }: Lives): readonly Recovery[] {
  const hit = all.filter(({ killedAt }) => killedAt !== undefined && isOpen(job, killedAt));
  const [first, last] = [hit.at(0), hit.at(-1)];
  if (first === undefined || last === undefined) return [];
  const dueAt = job.created_at + (call?.options.countdown ?? 0) * 1_000;
  const since = (life: Life): number => {
    const readyAt = all.slice(all.indexOf(life) + 1).find((next) => next.readyAt !== undefined)?.readyAt ?? Infinity;
    // The consumers are at work a little before the first tick has ended and it says that it is ready.
    return Math.max(0, (job.finished_at ?? Infinity) - Math.max(readyAt, dueAt));
  };
  return [{ ms: since(first), undisturbedMs: since(last) }];
}

function isOpen({ created_at: createdAt, finished_at: finishedAt }: Job, at: number): boolean {
  return createdAt < at && (finishedAt ?? Infinity) > at;
}

/** The accounting, as it is printed. */
export function blockOf(accounts: Accounts, lives: Lives, wallMs: number): string {
  const { recoveries, accepted, reruns, rerunKeys } = accounts;
  const starts = lives.startsMs();
  const lines = {
    accepted,
    'answered twice': accounts.twice.length,
    lost: accounts.lost.length,
    'run twice': `${String(rerunKeys)} keys, ${String(reruns)} extra runs (${((100 * reruns) / accepted).toFixed(2)} %)`,
    unknown: `${String(accounts.unknown)} keys had a request whose answer was lost`,
    recovered: `${String(recoveries.length)} jobs were open at a kill; of ${String(accounts.vanished)} an attempt vanished`,
    'recovery time': spread(recoveries.map(({ ms }) => ms)),
    'since last kill': spread(recoveries.map(({ undisturbedMs }) => undisturbedMs)),
    'last restart': `all had ended ${seconds(accounts.settledAfterMs)} after it was spawned`,
    kills: `${String(lives.all.length - 1)}, ${String(lives.all.length - starts.length)} of them before it was ready`,
    'start-up time': spread(starts),
    wall: seconds(wallMs),
  };
  return Object.entries(lines)
    .map(([name, value]) => `  ${name.padEnd(15)} ${String(value)}`)
    .join('\n');
}

function spread(ms: readonly number[]): string {
  const sorted = [...ms].sort((a, b) => a - b);
  const at = (part: number): string => seconds(sorted[Math.ceil(part * sorted.length) - 1] ?? 0);
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
