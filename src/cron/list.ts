// Looking at schedules: those that are run, and those of the code that this deployment does not run.

import { query } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import type { CodeSchedule } from '../jobs/schedule.ts';
import { readFiring, selectLatestFirings, type FiringSeen } from '../store/firings.ts';
import { readSchedule, selectSchedule, selectSchedules, type Schedule } from '../store/schedules.ts';
import { bodyOfLine, whyNotRun } from './sync.ts';

export interface ScheduleSeen {
  readonly name: string;
  readonly origin: Schedule['origin'];
  /** undefined: one of the code that was never run. */
  readonly schedule: Schedule | undefined;
  /** What its line in the code says, where that is all there is. */
  readonly said: Record<string, unknown>;
  /** Why this deployment does not run it; undefined where it does. */
  readonly unavailable: string | undefined;
  readonly latest: FiringSeen | undefined;
}

/** One schedule; undefined where there is none of this name. */
export async function seeSchedule(rt: Runtime, name: string): Promise<ScheduleSeen | undefined> {
  const [row] = await query(rt, selectSchedule(name));
  const stored = row === undefined ? [] : [readSchedule(row)];
  const listed = rt.schedules.filter((line) => line.name === name && stored.length === 0);
  const [seen] = await withLatest(rt, [...stored, ...listed]);
  return seen;
}

/** A page of them by name, those after `after`. */
export async function listSchedules(
  rt: Runtime,
  after: string,
  limit: number,
): Promise<{ readonly items: readonly ScheduleSeen[]; readonly next: string | null }> {
  const stored = (await query(rt, selectSchedules(after, limit + 1))).map(readSchedule);
  const known = new Set(stored.map(({ name }) => name));
  const listed = rt.schedules.filter(({ name }) => name > after && !known.has(name));
  const all = [...stored, ...listed].sort((one, other) => (one.name < other.name ? -1 : 1));
  const items = await withLatest(rt, all.slice(0, limit));
  return { items, next: all.length > limit ? (items.at(-1)?.name ?? null) : null };
}

/** Whether the code has a schedule of this name, run here or not. */
export function isOfCode({ schedules }: Runtime, name: string): boolean {
  return schedules.some((line) => line.name === name);
}

// What a line need not say.
const UNSAID = {
  input: {},
  options: {},
  cron: null,
  every: null,
  timezone: 'UTC',
  overlap: 'skip',
  catch_up: 'last',
  jitter: 0,
  starts_at: null,
  ends_at: null,
};

async function withLatest(rt: Runtime, those: readonly (Schedule | CodeSchedule)[]): Promise<readonly ScheduleSeen[]> {
  if (those.length === 0) return [];
  const names = those.map(({ name }) => name);
  const rows = await query(rt, selectLatestFirings(names, rt.clock.now()));
  const latest = new Map(rows.map(readFiring).map((firing) => [firing.schedule, firing]));
  return those.map((each): ScheduleSeen => {
    const firing = latest.get(each.name);
    if (!('revision' in each)) {
      const unavailable = whyNotRun(rt, each) ?? 'the next tick brings it into use';
      const said = { ...UNSAID, ...bodyOfLine(each) };
      return { name: each.name, origin: 'code', schedule: undefined, said, unavailable, latest: firing };
    }
    const unavailable = whyUnavailable(rt, each);
    return { name: each.name, origin: each.origin, schedule: each, said: {}, unavailable, latest: firing };
  });
}

/** Why this deployment does not run a schedule that is stored; undefined where it does. */
export function whyUnavailable(rt: Runtime, schedule: Schedule): string | undefined {
  const line = schedule.origin === 'code' ? rt.schedules.find(({ name }) => name === schedule.name) : undefined;
  return whyNotRun(rt, line ?? { name: schedule.name, task: schedule.task });
}
