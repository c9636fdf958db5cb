// Guards of schedules, taken out one at a time as those of mutants.ts are.

import type { Mutant } from './mutants.ts';

/** Where a mutant's file is a migration: as seen from src/. */
export const MIGRATIONS = '../migrations/';

const SQL = `${MIGRATIONS}0009_schedules.sql`;

export const SCHEDULE_MUTANTS: readonly Mutant[] = [
  {
    name: 'firing-of-decided-times',
    file: 'store/firings.ts',
    find: "\n  AND schedules.decided_until = coalesce(value ->> 'decidedUntil', schedules.decided_until)",
    replace: '',
  },
  {
    name: 'firing-of-another-revision',
    file: 'store/firings.ts',
    find: " AND schedules.revision = value ->> 'revision'",
    replace: '',
  },
  {
    name: 'due-time-fires-again',
    file: 'store/firings.ts',
    find: "\nWHERE firings.outcome <> 'fired'`",
    replace: '`',
  },
  {
    name: 'revoked-time-never-fires-again',
    file: 'store/firings.ts',
    find: "\nWHERE firings.outcome <> 'fired'`",
    replace: '\nWHERE false`',
  },
  {
    name: 'job-without-its-firing',
    file: 'store/firings.ts',
    find: 'insertJobsIf(rows, now, written, [])',
    replace: "insertJobsIf(rows, now, 'true', [])",
  },
  {
    name: 'advance-of-another-tick',
    file: 'store/schedules.ts',
    find: '\n  AND schedules.decided_until = step.decided_until`',
    replace: '`',
  },
  {
    name: 'advance-of-another-revision',
    file: 'store/schedules.ts',
    find: ' AND schedules.revision = step.revision',
    replace: '',
  },
  {
    name: 'change-of-what-was-changed',
    file: 'store/schedules.ts',
    find: 'WHERE name = ?1 AND revision = ?2 RETURNING name`,\n    params: [name, revision, pausedAt',
    replace: 'WHERE name = ?1 AND ?2 > 0 RETURNING name`,\n    params: [name, revision, pausedAt',
  },
  {
    name: 'refused-change-revokes',
    file: 'store/firings.ts',
    find: ' AND (SELECT revision FROM schedules WHERE name = ?1) IS ?2',
    replace: '',
  },
  {
    name: 'revision-not-drawn',
    file: 'jobs/schedule-change.ts',
    find: 'return rt.random.bytes(6)',
    replace: 'return Uint8Array.of(1)',
  },
  {
    name: 'change-forgets-the-undecided',
    file: 'jobs/schedule-change.ts',
    find: 'goesOn ? Math.min(decidedUntil, now) : now',
    replace: 'now',
  },
  {
    name: 'change-forgets-the-late',
    file: 'jobs/schedule-change.ts',
    find: '      decideFirings(decisions, now),\n      insertFired(rows, now),\n',
    replace: '',
  },
  {
    name: 'change-leaves-the-old',
    file: 'jobs/schedule-change.ts',
    find: '...revokeFirings(name, became), settled',
    replace: 'settled',
  },
  {
    name: 'deleted-and-still-run',
    file: 'jobs/schedule-control.ts',
    find: '    ...revokeFirings(name, { revision: null, now, message: GONE }),\n',
    replace: '',
  },
  {
    name: 'all-makes-good-one',
    file: 'cron/plan.ts',
    find: "policy === 'all' ? schedule.catch_up_most : 1",
    replace: '1',
  },
  {
    name: 'last-makes-good-two',
    file: 'cron/plan.ts',
    find: "policy === 'all' ? schedule.catch_up_most : 1",
    replace: "policy === 'all' ? schedule.catch_up_most : 2",
  },
  {
    name: 'none-makes-good-one',
    file: 'cron/plan.ts',
    find: "policy === 'none' ? latest.dues.filter((dueAt) => !isLate(dueAt)) : latest.dues",
    replace: 'latest.dues',
  },
  {
    name: 'claim-beside-another-run',
    file: 'store/claims.ts',
    find: " AND NOT ${isBehind('?3')}",
    replace: '',
  },
  {
    name: 'no-order-among-the-due',
    file: 'store/overlap.ts',
    find: '(other.turn = jobs.turn AND other.id < jobs.id)',
    replace: 'false',
  },
  {
    name: 'begun-run-is-nobody',
    file: 'store/overlap.ts',
    find: '(other.claim > 0 OR ',
    replace: "(other.state = 'STARTED' OR ",
  },
  {
    name: 'expired-run-goes-before',
    file: 'store/overlap.ts',
    find: '\n  AND (other.expires_at IS NULL OR other.expires_at > ${now})',
    replace: '',
  },
  {
    name: 'park-after-its-turn',
    file: 'store/waiting.ts',
    find: "\n  AND (park.parked_for <> '${OVERLAP}' OR ${isBehind('?2')})",
    replace: '',
  },
  {
    name: 'skipped-for-nobody',
    file: 'store/overlap.ts',
    find: "\n  AND EXISTS (SELECT 1 FROM jobs AS other WHERE ${GOES_BEFORE('?2')} AND other.turn < ${String(MAKES_GOOD)})",
    replace: '',
  },
  {
    name: 'overtakes-what-makes-good',
    file: 'store/overlap.ts',
    find: '${TAKES_TURNS} AND other.turn < ${String(MAKES_GOOD)})`;',
    replace: '${TAKES_TURNS})`;',
  },
  {
    name: 'end-lets-nobody-run',
    file: SQL,
    find: 'WHEN NEW.schedule IS NOT NULL AND NEW.finished_at',
    replace: 'WHEN false AND NEW.finished_at',
  },
];
