// What one tick decides of one schedule: which due times are fired, which were missed, and how far it has come.

import { formatInstant } from '../core/instant.ts';
import { TICK_HORIZON_SECONDS } from '../core/limits.ts';
import { MAX_FIRINGS_AT_ONCE, MISSED_AFTER_MS } from '../core/limits-schedules.ts';
import { latestDues, nextDue, type Timing } from '../core/timing.ts';
import { fire, firingBytes, roomFor, type Due } from '../jobs/firing.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { timingOfSchedule } from '../jobs/schedule.ts';
import type { NewRow } from '../store/accept.ts';
import type { Decision } from '../store/firings.ts';
import type { Advance, Schedule } from '../store/schedules.ts';

export interface Plan {
  readonly schedule: Schedule;
  readonly decisions: readonly Decision[];
  readonly rows: readonly NewRow[];
  readonly advance: Advance;
  /** Of what is bound, about. */
  readonly bytes: number;
  /** Why it could not be fired, for people. */
  readonly trouble: string | undefined;
}

/** Decides what is due within the horizon of a tick at `now`; where that is too much at once, a first part of it. */
export function planOf(rt: Runtime, schedule: Schedule, now: number): Plan {
  const timing = timingOfSchedule(schedule);
  const { decided_until: from } = schedule;
  const room = Math.min(MAX_FIRINGS_AT_ONCE, roomFor(schedule));
  const horizon = Math.max(from, now + TICK_HORIZON_SECONDS * 1_000);
  const { dues: past, missed } = madeGood(schedule, timing, now);
  const dues = past.slice(0, room);
  for (let at = nextDue(timing, Math.max(from, now)); at !== undefined && at <= horizon && dues.length < room;) {
    dues.push({ dueAt: at, cause: 'due' });
    at = nextDue(timing, at);
  }
  const until = dues.length < room ? horizon : (dues.at(-1)?.dueAt ?? horizon);
  const { decisions, rows } = fire(rt, schedule, dues, now);
  const trouble = decisions.find(({ outcome }) => outcome === 'failed')?.reason ?? undefined;
  return {
    schedule,
    decisions: [...(missed === undefined ? [] : [missed]), ...decisions].map((each) => ({
      ...each,
      decidedUntil: from,
    })),
    rows,
    advance: {
      ...stepOf(schedule),
      until,
      nextAt: nextDue(timing, until) ?? null,
      failing: trouble !== undefined || (dues.length === 0 && schedule.failing === 1) ? 1 : 0,
    },
    bytes: dues.length * firingBytes(schedule),
    trouble,
  };
}

/** Decides nothing: what is due stays so. */
export function standStill(schedule: Schedule, trouble: string): Plan {
  const { decided_until: until, next_at: nextAt } = schedule;
  const advance = { ...stepOf(schedule), until, nextAt, failing: 1 } as const;
  return { schedule, decisions: [], rows: [], advance, bytes: 0, trouble };
}

function stepOf({ name, revision, decided_until: from }: Schedule): Pick<Advance, 'name' | 'revision' | 'from'> {
  return { name, revision, from };
}

/** What is fired of the due times that have passed undecided, as the catch-up policy says; the rest was missed. */
function madeGood(
  schedule: Schedule,
  timing: Timing,
  now: number,
): { readonly dues: readonly Due[]; readonly missed: Decision | undefined } {
  const { decided_until: from, catch_up: policy } = schedule;
  const latest = latestDues(timing, from, now, policy === 'all' ? schedule.catch_up_most : 1);
  const isLate = (dueAt: number): boolean => dueAt <= now - MISSED_AFTER_MS;
  const kept = policy === 'none' ? latest.dues.filter((dueAt) => !isLate(dueAt)) : latest.dues;
  // Of several that begin together all but the last make good: as regular runs they would be in each other's way.
  const isRegular = (dueAt: number): boolean => dueAt === kept.at(-1) && !isLate(dueAt);
  const dues = kept.map((dueAt): Due => ({ dueAt, cause: isRegular(dueAt) ? 'due' : 'catch_up' }));
  if (!latest.more && kept.length === latest.dues.length) return { dues, missed: undefined };
  const first = nextDue(timing, from);
  const [last] = latestDues(timing, from, (kept[0] ?? now + 1) - 1, 1).dues;
  const missed = first === undefined || last === undefined ? undefined : missedOf(schedule, first, last);
  return { dues, missed };
}

function missedOf(schedule: Schedule, first: number, last: number): Decision {
  const { name, revision, catch_up: policy, catch_up_most: most } = schedule;
  const since = first === last ? '' : `, like all since ${formatInstant(first)}`;
  const rules = { none: 'none is', last: 'only the last one is', all: `at most ${String(most)} are` };
  const reason = `no tick came in time${since}; ${rules[policy]} made good`;
  return { schedule: name, revision, dueAt: last, cause: 'catch_up', outcome: 'missed', jobId: null, reason };
}
