// How one definition of a schedule takes the place of another: runs of the old one that nobody has claimed go, and what was
// due for them is made anew.

import { MAX_CATCH_UP } from '../core/limits-schedules.ts';
import type { Statement } from '../core/ports.ts';
import { nextDue } from '../core/timing.ts';
import { settleFailing } from '../store/failing.ts';
import { decideFirings, insertFired, readUnclaimed, revokeFirings, selectUnclaimed } from '../store/firings.ts';
import { updateSchedule, type Definition, type Schedule, type Start } from '../store/schedules.ts';
import { query } from './database.ts';
import { fire, roomFor, type Due } from './firing.ts';
import type { Runtime } from './runtime.ts';
import { timingOfSchedule } from './schedule.ts';

export const CHANGED = 'Its schedule was changed before it started.';
export const GONE = 'Its schedule was deleted before it started.';

/** `pausedAt`: null where it is not paused. `since`: what was due until then is decided; now, where it is left out. */
interface From {
  readonly now: number;
  readonly pausedAt: number | null;
  readonly since?: number;
}

export function startAt(rt: Runtime, definition: Definition, { now, pausedAt, since = now }: From): Start {
  const nextAt = pausedAt === null ? (nextDue(timingOfSchedule(definition), since) ?? null) : null;
  return { now, revision: newRevision(rt), since, nextAt, pausedAt };
}

// Drawn, not counted: two changes of what was read at one moment, or a schedule made again under its name, never share one.
export function newRevision(rt: Runtime): number {
  return rt.random.bytes(6).reduce((sum, byte) => sum * 256 + byte, 0);
}

export interface Replacing {
  readonly now: number;
  readonly pausedAt: number | null;
  /** Why runs of the old definition are revoked. */
  readonly message: string;
  /** It was out of use: nothing from before is made good. */
  readonly anew: boolean;
}

/** The update, and what follows from it in the same transaction; nothing does where somebody else was first. */
export async function replacement(
  rt: Runtime,
  schedule: Schedule,
  definition: Definition,
  { now, pausedAt, message, anew }: Replacing,
): Promise<{ readonly update: Statement; readonly follow: readonly Statement[] }> {
  const { name, revision, decided_until: decidedUntil } = schedule;
  const goesOn = !anew && pausedAt === null && schedule.paused_at === null && !movesTimes(schedule, definition);
  // What no tick has decided yet, being late, is not forgotten for a new input.
  const start = startAt(rt, definition, { now, pausedAt, since: goesOn ? Math.min(decidedUntil, now) : now });
  const update = updateSchedule(name, revision, definition, start);
  const became = { revision: start.revision, now, message };
  const settled = settleFailing([name], now);
  if (!goesOn) return { update, follow: [...revokeFirings(name, became), settled] };
  const after = { ...schedule, ...definition, revision: start.revision };
  const again = await duesToRepeat(rt, after, start.since);
  const { decisions, rows } = fire(rt, after, again, now);
  const only = { since: start.since, dues: again.map(({ dueAt }) => dueAt) };
  return {
    update,
    follow: [
      ...revokeFirings(name, { ...became, only }),
      decideFirings(decisions, now),
      insertFired(rows, now),
      settled,
    ],
  };
}

function movesTimes(one: Definition, other: Definition): boolean {
  const times = ['cron', 'every_ms', 'timezone', 'starts_at', 'ends_at'] as const;
  return times.some((member) => one[member] !== other[member]);
}

// What was due already and is only late in its queue is not given up for a new input: it is made anew. Where there are more
// than fit into one transaction the later ones run with the old one.
async function duesToRepeat(rt: Runtime, schedule: Schedule, since: number): Promise<readonly Due[]> {
  const rows = await query(rt, selectUnclaimed(schedule.name, MAX_CATCH_UP));
  return rows
    .map(readUnclaimed)
    .filter(({ due_at: dueAt }) => dueAt <= since)
    .slice(0, roomFor(schedule))
    .map(({ due_at: dueAt, cause }) => ({ dueAt, cause }));
}
