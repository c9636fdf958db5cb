// Statements of firings: what became of each due time of a schedule, and the jobs made of them.

import { z } from 'zod';
import type { ScheduledRun } from '../core/envelope.ts';
import type { Row, Statement } from '../core/ports.ts';
import { guard, STATES, target } from '../core/states.ts';
import { insertJobsIf, type NewRow } from './accept.ts';
import { ENVELOPE_COLUMNS, jobError, json } from './rows.ts';

const ROW_VERSION = 1;

/** `missed`: not made good, this one and all undecided ones before it. `failed`: its task does not take its input. */
const OUTCOMES = ['fired', 'missed', 'failed', 'revoked'] as const;

export interface Firing {
  readonly schedule: string;
  readonly dueAt: number;
  readonly cause: ScheduledRun['cause'];
  readonly outcome: (typeof OUTCOMES)[number];
  readonly jobId: string | null;
  readonly reason: string | null;
}

/** A firing as it is decided from a schedule that was read: void where that has moved on since. */
export interface Decision extends Firing {
  readonly revision: number;
  /** undefined: of times that are decided, as a backfill is. */
  readonly decidedUntil?: number;
}

const COLUMNS = 'schedule, due_at, v, cause, outcome, job_id, reason, decided_at';
const VALUES = `value ->> 'schedule', value ->> 'dueAt', ${String(ROW_VERSION)}, value ->> 'cause',
  value ->> 'outcome', value ->> 'jobId', value ->> 'reason', ?2`;

// What fired has fired. What was revoked, missed or refused may be decided anew, by the schedule as it is then.
const UNLESS_DECIDED = `ON CONFLICT (schedule, due_at) DO UPDATE SET
  cause = excluded.cause, outcome = excluded.outcome, job_id = excluded.job_id, reason = excluded.reason,
  decided_at = excluded.decided_at
WHERE firings.outcome <> 'fired'`;

/** Writes firings of schedules that are as they were read. Due times that are decided already stay as they are. */
export function decideFirings(decisions: readonly Decision[], now: number): Statement {
  return {
    name: 'fire',
    sql: `INSERT INTO firings (${COLUMNS}) SELECT ${VALUES} FROM json_each(?1) JOIN schedules
  ON schedules.name = value ->> 'schedule' AND schedules.revision = value ->> 'revision'
  AND schedules.decided_until = coalesce(value ->> 'decidedUntil', schedules.decided_until)
WHERE true ${UNLESS_DECIDED}`,
    params: [JSON.stringify(decisions), now],
  };
}

/** The jobs of firings that this transaction or one before it has written; safe to repeat. Returns the ids it made. */
export function insertFired(rows: readonly NewRow[], now: number): Statement {
  // Columns of insertJobsIf: 0 the id, 6 the options, 18 the schedule.
  const written = `EXISTS (SELECT 1 FROM firings WHERE firings.schedule = value ->> 18
  AND firings.due_at = (value ->> 6) ->> '$.schedule.dueAt' AND firings.job_id = value ->> 0)`;
  return insertJobsIf(rows, now, written, []);
}

/**
 * A run that was asked for by hand and has its job already. Of several of one moment each has a millisecond of its own, and
 * never a whole second: that would be a due time.
 */
export function recordRun(firing: Firing, now: number): Statement {
  const { schedule, dueAt, cause, outcome, jobId, reason } = firing;
  return {
    name: 'fire',
    sql: `INSERT INTO firings (${COLUMNS})
SELECT ?1, coalesce(last + 1 + ((last + 1) % 1000 = 0), ?2), ${String(ROW_VERSION)}, ?3, ?4, ?5, ?6, ?7
FROM (SELECT max(due_at) AS last FROM firings WHERE schedule = ?1 AND due_at >= ?2 AND cause = ?3)`,
    params: [schedule, dueAt, cause, outcome, jobId, reason, now],
  };
}

/** Marks those of these jobs that are owed their first message and due by `horizon` as sent now; returns their envelopes. */
export function takeFired(ids: readonly string[], now: number, horizon: number): Statement {
  return {
    name: 'fired',
    sql: `UPDATE jobs SET sent_at = ?2 WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL
  AND sent_at IS NULL AND parked_for IS NULL AND due_at <= ?3
RETURNING ${ENVELOPE_COLUMNS}`,
    params: [JSON.stringify(ids), now, horizon],
  };
}

// Runs of ?1 that nobody has claimed and nobody asked for by hand.
const UNCLAIMED = `finished_at IS NULL AND claim = 0 AND ${guard('revoke')} AND schedule = ?1
  AND options ->> '$.schedule.cause' <> 'run'`;

/** Runs of a schedule that would be revoked by a change of it. */
export function selectUnclaimed(name: string, limit: number): Statement {
  return {
    name: 'unclaimed',
    sql: `SELECT options ->> '$.schedule.dueAt' AS due_at, options ->> '$.schedule.cause' AS cause FROM jobs
WHERE ${UNCLAIMED} ORDER BY id LIMIT ?2`,
    params: [name, limit],
  };
}

const unclaimedRow = z.object({ due_at: z.number(), cause: z.enum(['due', 'catch_up', 'backfill']) }).readonly();

export function readUnclaimed(row: Row): z.infer<typeof unclaimedRow> {
  return unclaimedRow.parse(row);
}

/** What a change of a schedule, in the same transaction, does to the runs that nobody has claimed. */
export interface Revocation {
  /** The revision it has now; null: none, it is deleted. Where it has another, somebody else was first: nothing is revoked. */
  readonly revision: number | null;
  readonly now: number;
  readonly message: string;
  /** Runs due after `since` and those due at `dues`; undefined: all of them. */
  readonly only?: { readonly since: number; readonly dues: readonly number[] };
}

/** Revokes runs not yet claimed and says so of their firings. */
export function revokeFirings(name: string, { revision, now, message, only }: Revocation): readonly Statement[] {
  const theirs = `${UNCLAIMED} AND (SELECT revision FROM schedules WHERE name = ?1) IS ?2
  AND (options ->> '$.schedule.dueAt' > ?5
    OR options ->> '$.schedule.dueAt' IN (SELECT value FROM json_each(?6)))`;
  const params = [name, revision, now, message, only?.since ?? 0, JSON.stringify(only?.dues ?? [])];
  return [
    {
      name: 'revoke',
      sql: `UPDATE firings SET outcome = 'revoked', reason = ?4, decided_at = ?3 WHERE schedule = ?1
  AND (due_at, job_id) IN (SELECT options ->> '$.schedule.dueAt', id FROM jobs WHERE ${theirs})`,
      params,
    },
    {
      name: 'revoke',
      sql: `UPDATE jobs SET state = ${target('revoke')}, finished_at = ?3, waiting_for = NULL,
  error = json_object('code', 'revoked', 'message', ?4, 'fingerprint', '')
WHERE ${theirs} RETURNING id`,
      params,
    },
  ];
}

const FIRING = `firings.schedule, firings.due_at, firings.cause, firings.outcome, firings.job_id, firings.reason,
  firings.decided_at, jobs.state, jobs.due_at AS job_due_at, jobs.claim, jobs.error
FROM firings LEFT JOIN jobs ON jobs.id = firings.job_id`;

/** What became of the due times of a schedule before `before`, newest first. */
export function selectFirings(name: string, before: number, limit: number): Statement {
  return {
    name: 'firings',
    sql: `SELECT ${FIRING} WHERE firings.schedule = ?1 AND firings.due_at < ?2 ORDER BY firings.due_at DESC LIMIT ?3`,
    params: [name, before, limit],
  };
}

/** The latest firing of each schedule that was due by `now`. */
export function selectLatestFirings(names: readonly string[], now: number): Statement {
  return {
    name: 'firings',
    sql: `SELECT ${FIRING} JOIN json_each(?1) AS wanted ON firings.schedule = wanted.value AND firings.due_at = (
  SELECT max(due_at) FROM firings AS latest WHERE latest.schedule = wanted.value AND latest.due_at <= ?2)`,
    params: [JSON.stringify(names), now],
  };
}

const firingRow = z
  .object({
    schedule: z.string(),
    due_at: z.number(),
    cause: z.enum(['due', 'catch_up', 'backfill', 'run']),
    outcome: z.enum(OUTCOMES),
    job_id: z.string().nullable(),
    reason: z.string().nullable(),
    decided_at: z.number(),
    /** Of its job; null where that has left. */
    state: z.enum(STATES).nullable(),
    job_due_at: z.number().nullable(),
    claim: z.int().nullable(),
    error: json.pipe(jobError).nullable(),
  })
  .readonly();
export type FiringSeen = z.infer<typeof firingRow>;

export function readFiring(row: Row): FiringSeen {
  return firingRow.parse(row);
}

/** Due times among these that are decided already. */
export function selectDecided(name: string, dues: readonly number[]): Statement {
  return {
    name: 'firings',
    sql: `SELECT due_at FROM firings WHERE schedule = ?1 AND due_at IN (SELECT value FROM json_each(?2))
  AND outcome = 'fired'`,
    params: [name, JSON.stringify(dues)],
  };
}

/** Deletes firings decided before `before`, at most `limit`. */
export function deleteFirings(before: number, limit: number): Statement {
  return {
    name: 'retention',
    sql: `DELETE FROM firings WHERE (schedule, due_at) IN (
  SELECT schedule, due_at FROM firings WHERE decided_at < ?1 ORDER BY decided_at LIMIT ?2)`,
    params: [before, limit],
  };
}
