// Statements that cancel jobs: one, those that match, those of a queue. What runs is only asked to end.

import { z } from 'zod';
import type { Row, Statement } from '../core/ports.ts';
import { guard, STATES, target } from '../core/states.ts';
import { MATCHES, matchParams, type JobFilter } from './reads.ts';

/** SQL: the row of a waiting job is that of one cancelled at the instant bound as `now`. */
export function cancelled(now: string, code: string, message: string): string {
  return `state = ${target('revoke')}, finished_at = ${now}, waiting_for = NULL,
  error = json_object('code', '${code}', 'message', '${message}', 'fingerprint', '')`;
}

const REVOKED = 'Revoked before it started.';
const PURGED = 'Its queue was purged.';

/** What a job was before, the revocation of one that waits, and the request to one that runs. One transaction. */
export function revokeJob(id: string, terminate: boolean, now: number): readonly Statement[] {
  return [
    { name: 'job', sql: `SELECT * FROM jobs WHERE id = ?1`, params: [id] },
    revokeWaiting([id], now),
    stopRunning([id], terminate),
  ];
}

function requestOf(terminate: boolean): 1 | 2 {
  return terminate ? 2 : 1;
}

// Whom a revocation still changes something for: a running job that has been asked as much already is none.
const REVOCABLE = (request: string): string =>
  `finished_at IS NULL AND (${guard('revoke')} OR (${guard('stop')} AND revoke_requested < ${request}))`;

/** Open jobs of `queues` that match and that a revocation would change, at most `limit`. Reads no job that has ended. */
export function selectRevocable(
  filter: JobFilter,
  queues: readonly string[],
  terminate: boolean,
  limit: number,
  now: number,
): Statement {
  return {
    name: 'revocable',
    sql: `SELECT id, state, due_at, revoke_requested FROM jobs
WHERE queue IN (SELECT value FROM json_each(?10)) AND ${REVOCABLE('?11')}
  AND ${MATCHES}
LIMIT ?12`,
    params: [...matchParams(filter, now), JSON.stringify(queues), requestOf(terminate), limit],
  };
}

/** The same of jobs that were found before, as they are now. */
export function selectStillRevocable(ids: readonly string[], terminate: boolean): Statement {
  return {
    name: 'revocable',
    sql: `SELECT id, state, due_at, revoke_requested FROM jobs
WHERE id IN (SELECT value FROM json_each(?1)) AND ${REVOCABLE('?2')}`,
    params: [JSON.stringify(ids), requestOf(terminate)],
  };
}

const revocableRow = z
  .object({ id: z.string(), state: z.enum(STATES), due_at: z.number(), revoke_requested: z.int() })
  .readonly();
export type Revocable = z.infer<typeof revocableRow>;

export function readRevocable(row: Row): Revocable {
  return revocableRow.parse(row);
}

/** Cancels those that wait. */
export function revokeWaiting(ids: readonly string[], now: number): Statement {
  return {
    name: 'revoke',
    sql: `UPDATE jobs SET ${cancelled('?2', 'revoked', REVOKED)}
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('revoke')}`,
    params: [JSON.stringify(ids), now],
  };
}

/** Asks those that run. */
export function stopRunning(ids: readonly string[], terminate: boolean): Statement {
  return {
    name: 'revoke',
    sql: `UPDATE jobs SET revoke_requested = max(revoke_requested, ?2)
WHERE id IN (SELECT value FROM json_each(?1)) AND ${guard('stop')}`,
    params: [JSON.stringify(ids), requestOf(terminate)],
  };
}

/**
 * Ends what waits in a queue and was accepted by `purgedAt`, and allows what runs no further attempt: the next `limit` of
 * them, longest due first. What this makes (callbacks) is later than `purgedAt`, so that no purge ends its own.
 */
export function purgeJobs(queue: string, purgedAt: number, now: number, limit: number): Statement {
  return {
    name: 'purge',
    sql: `UPDATE jobs SET
  state = iif(${guard('revoke')}, ${target('revoke')}, state),
  finished_at = iif(${guard('revoke')}, max(?3, ?2 + 1), finished_at),
  error = iif(${guard('revoke')}, json_object('code', 'purged', 'message', '${PURGED}', 'fingerprint', ''), error),
  waiting_for = NULL,
  revoke_requested = iif(${guard('stop')}, max(revoke_requested, 1), revoke_requested)
WHERE id IN (
  SELECT id FROM jobs WHERE queue = ?1 AND ${REVOCABLE('1')} AND created_at <= ?2 ORDER BY due_at LIMIT ?4)
RETURNING id, state, due_at, revoke_requested`,
    params: [queue, purgedAt, now, limit],
  };
}

/**
 * Ends those of these jobs that wait and were accepted before their queue was purged: for rows that were just made. One
 * that a later call has changed was there before, and may have come to the queue since.
 */
export function endPurged(ids: readonly string[], now: number): Statement {
  return {
    name: 'purge',
    sql: `UPDATE jobs SET ${cancelled('?2', 'purged', PURGED)}
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('revoke')}
  AND revised = 0 AND created_at <= (SELECT purged_at FROM queue_controls AS control WHERE control.queue = jobs.queue)`,
    params: [JSON.stringify(ids), now],
  };
}

/** SQL: as `waiting` and `running`, how many open jobs of a queue were accepted by an instant. */
export function openJobs(queue: string, by: string): string {
  return `SELECT count(*) FILTER (WHERE ${guard('revoke')}) AS waiting, count(*) FILTER (WHERE ${guard('stop')}) AS running
FROM jobs WHERE queue = ${queue} AND finished_at IS NULL AND created_at <= ${by}`;
}

export function countOpen(queue: string, by: number): Statement {
  return { name: 'purge', sql: openJobs('?1', '?2'), params: [queue, by] };
}

const openRow = z.object({ waiting: z.int(), running: z.int() }).readonly();

export function readOpen(row: Row): z.infer<typeof openRow> {
  return openRow.parse(row);
}
