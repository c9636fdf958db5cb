// The plain statement of what schedules promise: thousands of ticks of which many are missing and many come twice.

import { expect, it } from 'vitest';
import { fireSchedules } from '../../src/cron/fire.ts';
import { syncSchedules } from '../../src/cron/sync.ts';
import { Prng } from './sim/prng.ts';
import { Sqlite } from './sim/sqlite.ts';
import { firedIn, isolateOf, task } from './ticking.ts';

const START = Date.UTC(2040, 0, 2, 12);
const MINUTE_MS = 60_000;
const TICKS = 10_000;
/** How far ahead a tick decides, and how late is too late. */
const AHEAD_MS = 75_000;
const LATE_MS = 60_000;

const TIMES = [
  { name: 'minute', times: { cron: '* * * * *' }, stepMs: MINUTE_MS },
  { name: 'hour', times: { cron: '0 * * * *' }, stepMs: 60 * MINUTE_MS },
  { name: 'half-minute', times: { every: '30s' }, stepMs: 30_000 },
] as const;
const POLICIES = ['all', 'last', 'none'] as const;

/** When ticks came. Of those that come twice half do so at the same moment, in two isolates. */
async function tickAway(sqlite: Sqlite, random: Prng): Promise<readonly number[]> {
  const came: number[] = [];
  for (let minute = 1; minute <= TICKS; minute += 1) {
    if (random.chance(0.2)) continue;
    const at = START + minute * MINUTE_MS + random.between(2_000, 4_000);
    const times = random.chance(0.1 / 0.8) ? 2 : 1;
    const apart = random.chance(0.5) ? 0 : random.between(1, 5_000);
    came.push(at);
    const second = times === 2 ? [at + apart] : [];
    if (apart === 0) await Promise.all([at, ...second].map((now) => fireSchedules(isolateOf(sqlite, random, now))));
    else for (const now of [at, ...second]) await fireSchedules(isolateOf(sqlite, random, now));
    came.push(...second);
  }
  return came;
}

interface Expected {
  /** Seen by a tick before their time. */
  readonly ahead: readonly number[];
  /** Those between two ticks that nobody was there for, each with the tick that found them. */
  readonly gaps: readonly { readonly dues: readonly number[]; readonly foundAt: number }[];
}

function expectedOf(stepMs: number, ticks: readonly number[]): Expected {
  const ahead: number[] = [];
  const gaps: { dues: readonly number[]; foundAt: number }[] = [];
  let decided = START;
  for (const tick of ticks) {
    const dues: number[] = [];
    for (let due = (Math.floor(decided / stepMs) + 1) * stepMs; due <= tick + AHEAD_MS; due += stepMs) dues.push(due);
    ahead.push(...dues.filter((due) => due > tick));
    const passed = dues.filter((due) => due <= tick);
    if (passed.length > 0) gaps.push({ dues: passed, foundAt: tick });
    decided = tick + AHEAD_MS;
  }
  return { ahead, gaps };
}

it('of 10,000 ticks, a fifth missing and a tenth doubled, no due time fires twice, and what was missed is made good as its policy says', async () => {
  const sqlite = new Sqlite();
  sqlite.reset();
  const random = new Prng(1);
  const lines = TIMES.flatMap(({ name, times }) =>
    POLICIES.map((policy) => ({ name: `${name}-${policy}`, task: task.name, ...times, catch_up: policy })),
  );
  const first = isolateOf(sqlite, random, START);
  await syncSchedules({ ...first, clock: { ...first.clock, now: () => START } }, lines);
  const ticks = await tickAway(sqlite, random);
  const fired = firedIn(sqlite);
  for (const { name, stepMs } of TIMES) {
    const { ahead, gaps } = expectedOf(stepMs, ticks);
    expect(gaps.length).toBeGreaterThan(name === 'hour' ? 10 : 1_000);
    const made = {
      all: gaps.flatMap(({ dues }) => dues),
      last: gaps.flatMap(({ dues }) => dues.slice(-1)),
      none: gaps.flatMap(({ dues, foundAt }) => dues.slice(-1).filter((due) => due > foundAt - LATE_MS)),
    };
    const every = [...ahead, ...made.all];
    // Nothing is left out of the reckoning itself: each due time is in it once.
    expect(new Set(every).size).toBe(every.length);
    expect(every.length).toBe(Math.floor(((ticks.at(-1) ?? 0) + AHEAD_MS - START) / stepMs));
    for (const policy of POLICIES) {
      expect(fired.get(`${name}-${policy}`), `${name}, ${policy}`).toEqual(
        [...ahead, ...made[policy]].sort((a, b) => a - b),
      );
    }
  }
}, 60_000);
