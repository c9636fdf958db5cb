// What a job was allowed before it was claimed: leases of locks, grants of rate limits. And what has to be said of them
// afterwards: which grants were used, and that a lease is free again.

import { answerWithin } from '../core/deadline.ts';
import { HEARTBEAT_MS, LEASE_MS, LIMIT_DEADLINE_MS, MAX_HOLD_MS } from '../core/limits.ts';
import type { Envelope } from '../core/envelope.ts';
import type { LeaseAsk } from '../durable/lock-table.ts';
import type { Attempt } from './attempt.ts';
import type { Lock, RateLimit } from './limits.ts';
import { logError } from './log.ts';
import { RateLimited } from './outcome.ts';
import { wakeTurns } from './park.ts';
import type { Runtime } from './runtime.ts';

export interface Grant {
  readonly limit: RateLimit;
  readonly grant: number;
  /** Epoch ms: started later it would be one start too many. */
  readonly startBy: number;
}

export interface Pass {
  /** Whose leases these are: the invocation's claim token. */
  readonly token: string;
  /** Epoch ms: before any lease of it was asked for. */
  readonly askedAt: number;
  readonly locks: readonly Lock[];
  /** Locks whose lease another invocation had for this job. */
  readonly elsewhere: readonly Lock[];
  readonly grants: readonly Grant[];
  /** Another delivery of the job began after it was looked at: what it was allowed then may be used up, and its leases gone. */
  readonly overtaken?: true;
}

/** Why a job with this pass may not start at `now` (epoch ms) after all; undefined where it may. */
export function missedPass(pass: Pass | undefined, now: number): string | undefined {
  if (pass === undefined) return undefined;
  if (pass.overtaken === true) return 'another delivery of it, which began first';
  // An isolate that stood still may have leases that run out before its first heartbeat.
  const stale = now - pass.askedAt > LEASE_MS - 2 * HEARTBEAT_MS;
  const [lock] = stale ? pass.locks : pass.elsewhere;
  return lock?.text ?? pass.grants.find(({ startBy }) => startBy <= now)?.limit.text;
}

/** Once all of a group have started or never will, says which grants were used. Never rejects. */
export async function reportStarts(rt: Runtime, attempts: readonly Attempt[]): Promise<void> {
  const begun = await Promise.all(
    attempts.map(async ({ pass, begun: { promise } }) => ({ pass, started: await promise })),
  );
  const passes = (started: boolean): readonly Pass[] =>
    begun.flatMap((each) => (each.pass !== undefined && each.started === started ? [each.pass] : []));
  await settleGrants(rt, passes(true), passes(false));
}

/** Frees the locks of a job that has ended. Never rejects. */
export async function freeLocks(rt: Runtime, { won, pass }: Attempt): Promise<void> {
  if (pass !== undefined && pass.locks.length > 0) await releaseLocks(rt, new Map([[won.id, pass]]));
}

/** Where the far side said that it is asked too often, the job's own rate limits let nobody start until it will answer. */
export function heed429(rt: Runtime, { pass }: Attempt, error: unknown): void {
  if (!(error instanceof RateLimited) || !(error.afterSeconds > 0)) return;
  const forMs = Math.min(error.afterSeconds * 1_000, MAX_HOLD_MS);
  const limits = (pass?.grants ?? []).map(({ limit }) => limit).filter(({ heeds429 }) => heeds429);
  for (const { name } of limits) {
    rt.waitUntil(quietly('rate_limit.not_held', name, () => inTime(rt, rt.rates.hold(name, forMs))));
  }
}

export function askOf({ id, priority, acceptedAt }: Envelope): LeaseAsk {
  return { job: id, priority, since: acceptedAt };
}

/** A call of a Durable Object that has to answer in time. */
export async function inTime<T>(rt: Runtime, call: Promise<T>): Promise<T> {
  return answerWithin(rt.clock, LIMIT_DEADLINE_MS, call, 'It');
}

/** Gives back what is not used. Never rejects: a grant runs out by itself, and so does a lease. */
export async function giveBack(rt: Runtime, passes: ReadonlyMap<string, Pass>): Promise<void> {
  await Promise.all([settleGrants(rt, [], [...passes.values()]), releaseLocks(rt, passes)]);
}

/** Says which grants have started and which will not be used: one call a limit. Never rejects. */
async function settleGrants(rt: Runtime, started: readonly Pass[], unused: readonly Pass[]): Promise<void> {
  const said = new Map<string, { limit: RateLimit; started: number[]; unused: number[] }>();
  for (const [what, passes] of [['started', started] as const, ['unused', unused] as const]) {
    for (const { limit, grant } of passes.flatMap(({ grants }) => grants)) {
      const entry = said.get(limit.name) ?? { limit, started: [], unused: [] };
      said.set(limit.name, entry);
      entry[what].push(grant);
    }
  }
  await Promise.all(
    [...said].map(async ([name, { limit, ...grants }]) =>
      quietly('rate_limit.unsettled', name, () =>
        inTime(rt, rt.rates.settle(name, limit.rate, grants.started, grants.unused)),
      ),
    ),
  );
}

/** Frees the locks of jobs, and wakes who is next. Never rejects: a lease that is not freed runs out. */
async function releaseLocks(rt: Runtime, passes: ReadonlyMap<string, Pass>): Promise<void> {
  await Promise.all(
    [...jobsByLock(passes)].map(async ([name, { token, jobs }]) =>
      quietly('lock.unreleased', name, async () => {
        await wakeNext(rt, name, await inTime(rt, rt.locks.release(name, token, jobs)));
      }),
    ),
  );
}

/**
 * Renews the leases of running jobs; returns those that have lost one. Never rejects: a lock that does not answer has its
 * leases run out no sooner than the database's would.
 */
export async function renewLocks(rt: Runtime, passes: ReadonlyMap<string, Pass>): Promise<ReadonlySet<string>> {
  const lost = new Set<string>();
  await Promise.all(
    [...jobsByLock(passes)].map(async ([name, { token, jobs }]) =>
      quietly('lock.unrenewed', name, async () => {
        for (const job of await inTime(rt, rt.locks.renew(name, token, jobs))) lost.add(job);
      }),
    ),
  );
  return lost;
}

/** Takes jobs out of the lines of locks (by name) they do not wait for by now. Never rejects: a turn not used runs out. */
export async function leaveLines(rt: Runtime, lines: ReadonlyMap<string, readonly string[]>): Promise<void> {
  await Promise.all(
    [...lines].map(async ([name, jobs]) =>
      quietly('lock.not_left', name, async () => {
        await wakeNext(rt, name, await inTime(rt, rt.locks.leave(name, jobs)));
      }),
    ),
  );
}

/** Wakes whose turn it is; for each that will not come the next one. Never rejects: a turn that is not used runs out. */
export async function wakeNext(rt: Runtime, name: string, jobs: readonly string[]): Promise<void> {
  await quietly('lock.wake_failed', name, async () => {
    await wakeTurns(rt, jobs, {
      next: () => inTime(rt, rt.locks.line(name)),
      leave: (gone) => inTime(rt, rt.locks.leave(name, gone)),
    });
  });
}

function jobsByLock(passes: ReadonlyMap<string, Pass>): ReadonlyMap<string, { token: string; jobs: string[] }> {
  const byLock = new Map<string, { token: string; jobs: string[] }>();
  for (const [job, { token, locks }] of passes) {
    for (const { name } of locks) {
      const entry = byLock.get(name) ?? { token, jobs: [] };
      byLock.set(name, entry);
      entry.jobs.push(job);
    }
  }
  return byLock;
}

async function quietly(event: string, name: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    // Of the name only the task: the rest is a key out of an input.
    logError(event, error, { of: name.split('/', 2).join('/') });
  }
}
