// The real process tree, SIGKILLed again and again at random moments, on one state and one port. Effects are counted
// outside. JOBS, KILLS and SEED choose the dose; the moments follow from the seed, what they hit does not.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { apiAt, countEffects, freePort, listJobs, temporaryFolder, type Api } from '../flows/product.ts';
import { accountsOf, blockOf } from './accounts.ts';
import { mulberry32 } from '../mulberry32.ts';
import { between, type Chance } from './chance.ts';
import { openLedger, type Ledger } from './ledger.ts';
import { Lives, planKills, type Kill, type Life } from './lives.ts';
import { effectCall, Load, sleeperCall, type Call } from './load.ts';

const JOBS = numberOf('JOBS', 2_000);
const KILLS = numberOf('KILLS', 20);
const SEED = numberOf('SEED', 20_260_105);

/** From the last restart: a job that ran when its process died is taken over when its lease of 90 s has run out. */
const RECOVERED_WITHIN_MS = 120_000;
/** Longer than that, so that a miss is measured. */
const WATCH_MS = 160_000;
const DEADLINE_MS = 60_000 + KILLS * 25_000 + JOBS * 10 + WATCH_MS;
/** What a kill may cost at most: the batch of `default` that was running. */
const BATCH = 100;
/** Those whose attempt vanished run one after the other. */
const MOST_SLEEPERS = 2;
const STEP_MS = 50;
/** Most of a share comes at most so long before the kill, so that much is under way when it comes. */
const BURST_MS = 400;

test(
  'killed at any moment, it loses nothing that was accepted and runs twice only what was running',
  async () => {
    const over = AbortSignal.timeout(DEADLINE_MS);
    const ledger = await openLedger(join(await temporaryFolder(), 'effects.jsonl'));
    const [port, key] = [String(await freePort()), 'kill-test-key'];
    const env = { PORT: port, PERSIST_TO: await temporaryFolder(), ADMIN_API_KEY: key, DEBUG_TASKS: '1' };
    const lives = new Lives({ ...env, DEBUG_EFFECTS_URL: ledger.url }, over);
    try {
      await killAndCount(lives, apiAt(`http://127.0.0.1:${port}`, key), ledger, over);
    } finally {
      await lives.end();
      await ledger.close();
    }
  },
  DEADLINE_MS + 60_000,
);

async function killAndCount(lives: Lives, api: Api, ledger: Ledger, over: AbortSignal): Promise<void> {
  say(`${String(JOBS)} jobs, ${String(KILLS)} kills, seed ${String(SEED)}`);
  const from = Date.now();
  const chance = mulberry32(SEED);
  const load = new Load(api, over);
  const effects = Array.from({ length: JOBS }, (_, n) => effectCall(n, chance));
  const kills = planKills(KILLS, chance);
  const serving = kills.filter(({ when }) => when === 'serving').length;
  const sleepers = Array.from({ length: Math.min(MOST_SLEEPERS, serving) }, (_, n) => sleeperCall(n));
  const last = await killAgainAndAgain(lives, load, { kills, effects, sleepers, chance });
  await load.finish();
  await untilAllEnded(api, last.spawnedAt + WATCH_MS, over);

  const calls = [...effects, ...sleepers];
  const again = new Load(api, over);
  again.add(calls);
  await again.finish();
  const jobs = await listJobs(api);
  const runs = ledger.read();
  const accounts = accountsOf({ calls, lives, jobs, ledger: runs });
  say(blockOf(accounts, lives, Date.now() - from));
  tellWhatWasSaid(lives);

  expect([...load.unexpected, ...again.unexpected]).toEqual([]);
  expect(accounts).toMatchObject({ accepted: calls.length, twice: [], lost: [], strange: [] });
  expect(jobs.filter(({ state }) => state !== 'SUCCESS')).toEqual([]);
  const rows = await countEffects(api, '');
  expect(effects.filter(({ key }) => !isBetween(rows.get(key), 1, runs.get(key)?.length))).toEqual([]);
  expect(accounts.vanished).toBeGreaterThanOrEqual(sleepers.length);
  expect(accounts.reruns).toBeLessThanOrEqual(KILLS * BATCH);
  expect(accounts.settledAfterMs).toBeLessThanOrEqual(RECOVERED_WITHIN_MS);
}

interface Dose {
  readonly kills: readonly Kill[];
  readonly effects: readonly Call[];
  readonly sleepers: readonly Call[];
  readonly chance: Chance;
}

/** Lives and dies as planned, with a share of the load each time; returns the life that nobody kills. */
async function killAgainAndAgain(lives: Lives, load: Load, { kills, effects, sleepers, chance }: Dose): Promise<Life> {
  const share = Math.ceil(effects.length / Math.max(1, kills.length));
  const sleeping = [...sleepers];
  for (const [n, kill] of kills.entries()) {
    const calls = effects.slice(n * share, (n + 1) * share);
    const life = lives.begin();
    if (kill.when === 'starting') {
      load.add(calls);
      await lives.killStarting(life, kill.part);
    } else {
      await lives.untilReady(life);
      const burstBeforeMs = between(chance, 20, BURST_MS);
      load.add(sleeping.splice(0, 1));
      await pour(load, calls.splice((3 * share) / 4), kill.afterMs - burstBeforeMs);
      load.add(calls);
      await lives.killAfter(life, burstBeforeMs);
    }
  }
  if (kills.length === 0) load.add(effects);
  const last = lives.begin();
  await lives.untilReady(last);
  return last;
}

/** Adds calls evenly over a time. */
async function pour(load: Load, calls: readonly Call[], overMs: number): Promise<void> {
  const steps = Math.max(1, Math.floor(overMs / STEP_MS));
  const from = Date.now();
  for (let step = 1; step <= steps; step += 1) {
    const upTo = (at: number): number => Math.round((calls.length * at) / steps);
    load.add(calls.slice(upTo(step - 1), upTo(step)));
    await sleep(Math.max(0, from + (overMs * step) / steps - Date.now()));
  }
}

/** What does not end in time is left open: the accounting says so. */
async function untilAllEnded(api: Api, giveUpAt: number, over: AbortSignal): Promise<void> {
  while (Date.now() < giveUpAt) {
    const jobs = await listJobs(api);
    if (jobs.every(({ ready }) => ready)) return;
    await sleep(1_000, undefined, { signal: over });
  }
}

/** What the processes printed beside their greeting, by what it was. */
function tellWhatWasSaid(lives: Lives): void {
  const lines = lives.all.flatMap(({ group }) => group.output().split('\n'));
  const events = lines.flatMap(
    (line) => /"event":"([^"]+)","error":"([^"]{0,80})/.exec(line)?.slice(1).join(': ') ?? [],
  );
  const counts = Map.groupBy(events, (event) => event);
  for (const [event, same] of counts) say(`  logged ${String(same.length)} times: ${event}`);
}

function isBetween(value = 0, from: number, to = 0): boolean {
  return from <= value && value <= to;
}

function numberOf(name: string, otherwise: number): number {
  const value = Number(process.env[name] ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${name} must be a whole number.`);
  return value;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
