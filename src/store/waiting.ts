// Statements of jobs that wait: what they wait for, and what they are owed.

import type { Statement } from '../core/ports.ts';
import { guard, target } from '../core/states.ts';
import { isPaused, PAUSE } from './queue-controls.ts';
import { ENVELOPE_COLUMNS } from './rows.ts';
import { isBehind, OVERLAP } from './overlap.ts';

/** Ends jobs past `expires` that were never started. */
export function expireJobs(ids: readonly string[], now: number): Statement {
  return {
    name: 'expire',
    sql: `UPDATE jobs SET state = ${target('expire')}, finished_at = ?2, waiting_for = NULL,
  error = json_object('code', 'expired', 'message', 'It did not start before it expired.', 'fingerprint', '')
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('expire')}
  AND started_at IS NULL AND expires_at <= ?2`,
    params: [JSON.stringify(ids), now],
  };
}

/**
 * Makes waiting jobs owed a message, whoever sent the last one: for jobs whose message is about to be acked. Who is
 * parked for a pause is woken by its end.
 */
export function oweJobs(ids: readonly string[]): Statement {
  return {
    name: 'owe',
    sql: `UPDATE jobs SET sent_at = NULL, parked_for = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND sent_at IS NOT NULL
  AND parked_for IS NOT '${PAUSE}'`,
    params: [JSON.stringify(ids)],
  };
}

/**
 * Says why jobs wait although they are due, and that their messages go round; returns since when each could have run.
 * Those that do not wait are left alone.
 */
export function explainWaiting(ids: readonly string[], reason: string, now: number): Statement {
  return {
    name: 'explain',
    sql: `UPDATE jobs SET waiting_for = ?2, sent_at = ?3
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('claim')}
RETURNING id, due_at`,
    params: [JSON.stringify(ids), reason, now],
  };
}

const WAITS = `state = iif(${guard('wait')}, ${target('wait')}, jobs.state)`;

/** A job that is to be parked, as it was read before it was known that it has to wait. */
export interface Park {
  readonly id: string;
  readonly claim: number;
  readonly sentAt: number | null;
  /** {@link PAUSE}, {@link OVERLAP}, or the name of a lock. */
  readonly parkedFor: string;
  readonly reason: string;
}

/**
 * Parks jobs and returns the ids of those that are: not one that was claimed or woken since it was read, nor one whose
 * queue is no longer paused, nor one whose turn has come. Their messages may be acked.
 */
export function parkJobs(parks: readonly Park[], now: number): Statement {
  return {
    name: 'park',
    sql: `UPDATE jobs SET ${WAITS}, parked_for = park.parked_for, waiting_for = park.reason, sent_at = coalesce(jobs.sent_at, ?2)
FROM (SELECT value ->> 'id' AS id, value ->> 'claim' AS claim, value ->> 'sentAt' AS sent_at,
             value ->> 'parkedFor' AS parked_for, value ->> 'reason' AS reason FROM json_each(?1)) AS park
WHERE jobs.id = park.id AND jobs.claim = park.claim AND jobs.sent_at IS park.sent_at AND finished_at IS NULL
  AND ${guard('claim')} AND (park.parked_for <> '${PAUSE}' OR ${isPaused('jobs.queue', '?2')})
  AND (park.parked_for <> '${OVERLAP}' OR ${isBehind('?2')})
RETURNING jobs.id`,
    params: [JSON.stringify(parks), now],
  };
}

const WAKEABLE = (horizon: string): string =>
  `finished_at IS NULL AND ${guard('claim')} AND parked_for IS NOT '${PAUSE}' AND due_at <= ${horizon}`;

/**
 * Wakes jobs, parked for a lock or about to be: those that are still open are marked sent, later than they were, and their
 * envelopes returned, each with its `sent_at`. A park of what was read before cannot undo it. Who is parked for a pause is
 * woken by its end, and who was put off past `horizon` by his time.
 */
export function wakeJobs(ids: readonly string[], now: number, horizon: number): Statement {
  return {
    name: 'wake',
    sql: `UPDATE jobs SET sent_at = max(?2, coalesce(sent_at + 1, ?2)), parked_for = NULL, waiting_for = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND ${WAKEABLE('?3')}
RETURNING ${ENVELOPE_COLUMNS}, sent_at`,
    params: [JSON.stringify(ids), now, horizon],
  };
}

/** Those of these jobs that {@link wakeJobs} would wake. */
export function selectWakeable(ids: readonly string[], horizon: number): Statement {
  return {
    name: 'wakeable',
    sql: `SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?1)) AND ${WAKEABLE('?2')}`,
    params: [JSON.stringify(ids), horizon],
  };
}

/** A job that waits until an instant for something else than its own time. */
export interface Hold {
  readonly id: string;
  readonly claim: number;
  /** Epoch ms. */
  readonly dueAt: number;
  /** When its next message is handed out; null: it is owed one. */
  readonly sentAt: number | null;
  readonly reason: string;
}

/** Lets due jobs that nobody has claimed since they were read wait on; returns the ids of those that do. */
export function holdJobs(holds: readonly Hold[], now: number): Statement {
  return {
    name: 'hold',
    sql: `UPDATE jobs SET ${WAITS}, due_at = hold.due_at, sent_at = hold.sent_at, waiting_for = hold.reason, parked_for = NULL
FROM (SELECT value ->> 'id' AS id, value ->> 'claim' AS claim, value ->> 'dueAt' AS due_at,
             value ->> 'sentAt' AS sent_at, value ->> 'reason' AS reason FROM json_each(?1)) AS hold
WHERE jobs.id = hold.id AND jobs.claim = hold.claim AND finished_at IS NULL AND ${guard('claim')}
  AND (jobs.due_at <= ?2 OR jobs.due_at = hold.due_at)
RETURNING jobs.id`,
    params: [JSON.stringify(holds), now],
  };
}
