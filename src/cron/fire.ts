// Fires what is due. A tick may be missed, doubled or late: what it decides follows from the rows alone, and counts only
// where the schedule is still as it was read.

import { MAX_BOUND_BYTES, TICK_HORIZON_SECONDS } from '../core/limits.ts';
import { MAX_PORTIONS, SCHEDULE_PAGES, SCHEDULES_PAGE } from '../core/limits-schedules.ts';
import { DatabaseError, type Row } from '../core/ports.ts';
import { logOpened, withId } from '../jobs/alerts.ts';
import { query, transact } from '../jobs/database.ts';
import { sendFired } from '../jobs/firing.ts';
import { logError } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { failingAlert, raiseFailing, settleFailing } from '../store/failing.ts';
import { decideFirings, insertFired } from '../store/firings.ts';
import { advanceSchedules, readSchedule, selectDue, type Schedule } from '../store/schedules.ts';
import { planOf, standStill, type Plan } from './plan.ts';

/**
 * Decides every due time up to 75 s from now. The jobs are rows that are owed their messages; the sweep after this one
 * sends them, for exactly their time.
 */
export async function fireSchedules(rt: Runtime): Promise<void> {
  const stuck: string[] = [];
  let portions = 0;
  for (let page = 0; page < SCHEDULE_PAGES; page += 1) {
    const now = rt.clock.now();
    const rows = await query(rt, selectDue(now + TICK_HORIZON_SECONDS * 1_000, SCHEDULES_PAGE, stuck));
    if (rows.length === 0) return;
    const plans = rows.flatMap((row) => planOrSay(rt, row, now, stuck));
    for (const portion of portionsOf(plans)) {
      // The rest is due still with the next tick.
      if ((portions += 1) > MAX_PORTIONS) return;
      stuck.push(...(await commitAll(rt, portion, now)));
    }
  }
}

/**
 * The same of one schedule that has just been made, changed or resumed, without waiting for the tick; sends as well. Never
 * rejects: the tick does what this could not.
 */
export async function fireOne(rt: Runtime, schedule: Schedule): Promise<void> {
  const { name, next_at: nextAt } = schedule;
  try {
    const now = rt.clock.now();
    if (nextAt === null || nextAt > now + TICK_HORIZON_SECONDS * 1_000) return;
    await sendFired(rt, await commit(rt, [planFor(rt, schedule, now)], now));
  } catch (error) {
    logError('schedule.unfired', error, { schedule: name });
  }
}

// One that cannot be read, reckoned or called keeps no other from its time, and is looked at again by the next tick.
function planOrSay(rt: Runtime, row: Row, now: number, stuck: string[]): readonly Plan[] {
  try {
    const schedule = readSchedule(row);
    if (rt.registry.find(schedule.task) === undefined) stuck.push(schedule.name);
    return [planFor(rt, schedule, now)];
  } catch (error) {
    stuck.push(sayBroken(String(row['name']), error));
    return [];
  }
}

function planFor(rt: Runtime, schedule: Schedule, now: number): Plan {
  if (rt.registry.find(schedule.task) !== undefined) return planOf(rt, schedule, now);
  // Perhaps a newer deployment knows it, and ticks as well.
  return standStill(schedule, `there is no task ${JSON.stringify(schedule.task)} in this deployment`);
}

function sayBroken(schedule: string, error: unknown): string {
  logError('schedule.broken', error, { schedule });
  return schedule;
}

function portionsOf(plans: readonly Plan[]): readonly (readonly Plan[])[] {
  const portions: Plan[][] = [];
  let bytes = Infinity;
  for (const plan of plans) {
    bytes += plan.bytes;
    if (bytes <= MAX_BOUND_BYTES) portions.at(-1)?.push(plan);
    else {
      portions.push([plan]);
      bytes = plan.bytes;
    }
  }
  return portions;
}

/** What the database will not have of one schedule must not spoil the others: then each by itself. Returns who is stuck. */
async function commitAll(rt: Runtime, plans: readonly Plan[], now: number): Promise<readonly string[]> {
  try {
    await commit(rt, plans, now);
    return [];
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.kind !== 'refused') throw error;
    if (plans.length === 1) return plans.map(({ schedule }) => sayBroken(schedule.name, error));
    const stuck: string[] = [];
    for (const plan of plans) stuck.push(...(await commitAll(rt, [plan], now)));
    return stuck;
  }
}

/** Firings, jobs, how far the schedules have come and the alerts of that: together, or not at all. Returns the ids of the jobs. */
async function commit(rt: Runtime, plans: readonly Plan[], now: number): Promise<readonly string[]> {
  const failing = plans.flatMap(({ schedule: { name, task }, trouble }) =>
    trouble === undefined ? [] : [withId(rt, failingAlert(name, task, trouble), now)],
  );
  const recovered = plans.filter(({ schedule, advance }) => schedule.failing === 1 && advance.failing === 0);
  const [, made, , ...alerts] = await transact(rt, [
    decideFirings(
      plans.flatMap(({ decisions }) => decisions),
      now,
    ),
    insertFired(
      plans.flatMap(({ rows }) => rows),
      now,
    ),
    advanceSchedules(plans.map(({ advance }) => advance)),
    ...(failing.length === 0 ? [] : [raiseFailing(failing, now)]),
    ...(recovered.length === 0 ? [] : [settleFailing(names(recovered), now)]),
  ]);
  if (failing.length > 0) logOpened(alerts[0]?.rows ?? []);
  return (made?.rows ?? []).map(({ id }) => String(id));
}

function names(plans: readonly Plan[]): readonly string[] {
  return plans.map(({ schedule }) => schedule.name);
}
