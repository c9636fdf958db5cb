// Backfilling: firing due times of a schedule that have passed without it.

import { formatInstant } from '../core/instant.ts';
import { latestDues } from '../core/timing.ts';
import { recordDeedIfDone } from '../store/audit.ts';
import { decideFirings, insertFired, selectDecided } from '../store/firings.ts';
import type { Schedule } from '../store/schedules.ts';
import { query, transact } from './database.ts';
import { fire, roomFor, sendFired } from './firing.ts';
import { deedOf } from './queue-control.ts';
import type { Runtime } from './runtime.ts';
import { findSchedule } from './schedule-control.ts';
import { timingOfSchedule } from './schedule.ts';

export interface Backfill {
  /** Epoch ms, both inclusive. */
  readonly from: number;
  readonly to: number;
  readonly limit: number;
  readonly dryRun: boolean;
  readonly actor: string;
}

export interface Backfilled {
  /** By this call, or what would be. */
  readonly fired: readonly { readonly dueAt: number; readonly jobId: string | null }[];
  /** Due times of the range that have fired before. */
  readonly already: number;
  /** There are earlier ones in the range: the latest `limit` were taken. */
  readonly more: boolean;
}

/** Fires the due times of a range that have not fired. undefined where the schedule was changed meanwhile. */
export async function backfill(rt: Runtime, schedule: Schedule, wanted: Backfill): Promise<Backfilled | undefined> {
  const { from, limit, dryRun, actor } = wanted;
  const to = Math.min(wanted.to, endOfPast(schedule, rt.clock.now()));
  const { dues, more } = latestDues(timingOfSchedule(schedule), from - 1, to, limit);
  const decided = new Set((await query(rt, selectDecided(schedule.name, dues))).map(({ due_at: at }) => Number(at)));
  const open = dues.filter((dueAt) => !decided.has(dueAt));
  if (dryRun) return { fired: open.map((dueAt) => ({ dueAt, jobId: null })), already: decided.size, more };
  const fired: Backfilled['fired'][number][] = [];
  const room = roomFor(schedule);
  for (let at = 0; at < open.length; at += room) {
    fired.push(...(await fireAll(rt, schedule, open.slice(at, at + room), actor)));
  }
  // What did not fire has been fired by somebody else at the same moment, or belongs to a schedule that is no more.
  if (fired.length < open.length && (await findSchedule(rt, schedule.name))?.revision !== schedule.revision) {
    return undefined;
  }
  return { fired, already: dues.length - fired.length, more };
}

/** Up to where the tick decides nothing any more: one that is not running decides nothing at all. */
function endOfPast({ next_at: nextAt, decided_until: decidedUntil }: Schedule, now: number): number {
  return nextAt === null ? now : Math.min(decidedUntil, now);
}

/** Those of these due times that this call fires: in one transaction with their jobs and the row of the audit log. */
async function fireAll(
  rt: Runtime,
  schedule: Schedule,
  dues: readonly number[],
  actor: string,
): Promise<readonly { readonly dueAt: number; readonly jobId: string }[]> {
  const now = rt.clock.now();
  const causes = dues.map((dueAt) => ({ dueAt, cause: 'backfill' }) as const);
  const { decisions, rows } = fire(rt, schedule, causes, now);
  const [first = now, last = first] = [dues[0], dues.at(-1)];
  const detail = { from: formatInstant(first), to: formatInstant(last), firings: dues.length };
  const deed = { ...deedOf(rt, now, actor), action: 'schedule.backfilled', target: schedule.name, detail } as const;
  const [, , made] = await transact(rt, [
    decideFirings(decisions, now),
    recordDeedIfDone(deed),
    insertFired(rows, now),
  ]);
  const ids = new Set((made?.rows ?? []).map(({ id }) => String(id)));
  await sendFired(rt, [...ids]);
  return decisions.flatMap(({ dueAt, jobId }) => (jobId !== null && ids.has(jobId) ? [{ dueAt, jobId }] : []));
}
