// What people do to schedules: make, change, pause, resume, delete, run now. Each deed and its audit row are one
// transaction.

import type { Json } from '../core/json.ts';
import { recordDeedIfDone, type Deed } from '../store/audit.ts';
import { settleFailing } from '../store/failing.ts';
import { recordRun, revokeFirings } from '../store/firings.ts';
import {
  deleteSchedule,
  insertSchedule,
  readSchedule,
  selectSchedule,
  type Definition,
  type Schedule,
} from '../store/schedules.ts';
import { query, transact } from './database.ts';
import { submit, type Caller, type Enqueued } from './enqueue.ts';
import { sourceOf } from './firing.ts';
import { logError } from './log.ts';
import { deedOf } from './queue-control.ts';
import type { Request } from './request.ts';
import type { Runtime } from './runtime.ts';
import { CHANGED, GONE, replacement, startAt } from './schedule-change.ts';

const PAUSED = 'Its schedule was paused before it started.';

export async function findSchedule(rt: Runtime, name: string): Promise<Schedule | undefined> {
  const [row] = await query(rt, selectSchedule(name));
  return row === undefined ? undefined : readSchedule(row);
}

/** Makes a schedule; nothing before now is due. undefined where there is one of this name. */
export async function createSchedule(
  rt: Runtime,
  name: string,
  definition: Definition,
  { paused, actor }: { readonly paused: boolean; readonly actor: string },
): Promise<Schedule | undefined> {
  const now = rt.clock.now();
  const deed = { ...deedOf(rt, now, actor), action: 'schedule.created', target: name } as const;
  const [made, , found] = await transact(rt, [
    insertSchedule(name, 'api', definition, startAt(rt, definition, { now, pausedAt: paused ? now : null })),
    recordDeedIfDone({ ...deed, detail: timesOf(definition) }),
    selectSchedule(name),
  ]);
  return made?.rows.length === 1 ? found?.rows.map(readSchedule)[0] : undefined;
}

/** A change of a schedule as it was read. undefined where somebody else changed it meanwhile. */
export async function changeSchedule(
  rt: Runtime,
  schedule: Schedule,
  definition: Definition,
  { paused, actor }: { readonly paused: boolean; readonly actor: string },
): Promise<Schedule | undefined> {
  const now = rt.clock.now();
  const { name, paused_at: pausedAt } = schedule;
  const wasPaused = pausedAt !== null;
  const action = paused === wasPaused ? 'schedule.changed' : paused ? 'schedule.paused' : 'schedule.resumed';
  const deed: Deed = { ...deedOf(rt, now, actor), action, target: name, detail: timesOf(definition) };
  const { update, follow } = await replacement(rt, schedule, definition, {
    now,
    pausedAt: paused ? (pausedAt ?? now) : null,
    message: paused && !wasPaused ? PAUSED : CHANGED,
    anew: false,
  });
  const answers = await transact(rt, [update, recordDeedIfDone(deed), ...follow, selectSchedule(name)]);
  return answers[0]?.rows.length === 1 ? answers.at(-1)?.rows.map(readSchedule)[0] : undefined;
}

/** Deletes a schedule as it was read; false where somebody else changed it meanwhile. Its history stays for its time. */
export async function removeSchedule(rt: Runtime, schedule: Schedule, actor: string): Promise<boolean> {
  const now = rt.clock.now();
  const { name, revision } = schedule;
  const [gone] = await transact(rt, [
    deleteSchedule(name, revision),
    recordDeedIfDone({
      ...deedOf(rt, now, actor),
      action: 'schedule.deleted',
      target: name,
      detail: timesOf(schedule),
    }),
    ...revokeFirings(name, { revision: null, now, message: GONE }),
    settleFailing([name], now),
  ]);
  return gone?.rows.length === 1;
}

/** A run by hand, now, whatever its times, its pause and its overlap say. */
export async function runNow(
  rt: Runtime,
  { name }: Schedule,
  request: Request,
  caller: Pick<Caller, 'owner'>,
): Promise<Enqueued> {
  const now = rt.clock.now();
  // Never a due time, which are whole seconds; nor still to come.
  const dueAt = now % 1_000 === 0 ? now - 1 : now;
  const schedule = { name, dueAt, cause: 'run', overlap: 'allow' } as const;
  const enqueued = await submit(rt, request, { ...caller, source: sourceOf(name), schedule });
  if (enqueued.kind !== 'accepted' || enqueued.replayed) return enqueued;
  const firing = { schedule: name, dueAt, cause: 'run', outcome: 'fired', jobId: enqueued.id, reason: null } as const;
  try {
    await transact(rt, [recordRun(firing, now)]);
  } catch (error) {
    // The job is taken: only its line in the history is missing.
    logError('run.unrecorded', error, { schedule: name, job: enqueued.id });
  }
  return enqueued;
}

/** For the audit log: not what it is given, which may be nobody's business. */
function timesOf({ task, cron, every_ms: everyMs, timezone }: Definition): Record<string, Json> {
  return { task, cron, every_seconds: everyMs === null ? null : everyMs / 1_000, timezone };
}
