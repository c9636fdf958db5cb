// Statements about whole queues: paused, resumed, and what a pause keeps from running.

import { z } from 'zod';
import type { Row, Statement } from '../core/ports.ts';
import { target } from '../core/states.ts';
import { ENVELOPE_COLUMNS } from './rows.ts';

/** What `parked_for` says of a job whose queue is paused; any other value names a lock. */
export const PAUSE = 'pause';

/** SQL: the row of the table is that of a queue that is paused at the instant bound as `now` (such as `?3`). */
function lasting(now: string): string {
  return `paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > ${now})`;
}

/** SQL: whether `queue` (an expression, such as `jobs.queue`) is paused at `now`. Reads nothing where nobody ever paused it. */
export function isPaused(queue: string, now: string): string {
  return `EXISTS (SELECT 1 FROM queue_controls AS control WHERE control.queue = ${queue} AND ${lasting(now)})`;
}

/** SQL: the columns `paused` and `paused_until` of a row of jobs, at the instant bound as `now`. */
export function pauseColumns(now: string): string {
  return `${isPaused('jobs.queue', now)} AS paused,
  (SELECT paused_until FROM queue_controls AS control WHERE control.queue = jobs.queue) AS paused_until`;
}

/** `until`: epoch ms; null until it is resumed. A pause of a paused queue takes the new end. */
export function pauseQueue(queue: string, until: number | null, now: number): Statement {
  return {
    name: 'pause',
    sql: `INSERT INTO queue_controls (queue, paused_at, paused_until) VALUES (?1, ?2, ?3)
ON CONFLICT (queue) DO UPDATE SET
  paused_at = iif(${lasting('?2')}, paused_at, ?2), paused_until = ?3`,
    params: [queue, now, until],
  };
}

export function resumeQueue(queue: string): Statement {
  return {
    name: 'resume',
    sql: `UPDATE queue_controls SET paused_at = NULL, paused_until = NULL WHERE queue = ?1`,
    params: [queue],
  };
}

/** What was accepted by `purgedAt` never starts, also where its row is made later. */
export function markPurged(queue: string, purgedAt: number): Statement {
  return {
    name: 'purge',
    sql: `INSERT INTO queue_controls (queue, purged_at) VALUES (?1, ?2)
ON CONFLICT (queue) DO UPDATE SET purged_at = max(coalesce(purged_at, 0), ?2)`,
    params: [queue, purgedAt],
  };
}

/** The queues that are paused now, each with its end. */
export function selectPauses(now: number): Statement {
  return {
    name: 'pauses',
    sql: `SELECT queue, paused_at, paused_until FROM queue_controls WHERE ${lasting('?1')}`,
    params: [now],
  };
}

const pauseRow = z.object({ queue: z.string(), paused_at: z.number(), paused_until: z.number().nullable() }).readonly();
export type Pause = z.infer<typeof pauseRow>;

export function readPause(row: Row): Pause {
  return pauseRow.parse(row);
}

/**
 * How queues stand: paused or not, and their open jobs, counted by the index as far as `most` of those that are due and of
 * those that are not yet.
 */
export function selectQueues(queues: readonly string[], now: number, most: number): Statement {
  const open = (when: string): string =>
    `SELECT state FROM jobs WHERE jobs.queue = json_each.value AND finished_at IS NULL AND due_at ${when} ?2 LIMIT ?3`;
  return {
    name: 'queues',
    sql: `SELECT json_each.value AS queue, paused_at, paused_until,
  (SELECT count(*) FROM (${open('<=')})) AS due,
  (SELECT count(*) FROM (${open('<=')}) WHERE state = ${target('claim')}) AS running,
  (SELECT count(*) FROM (${open('>')})) AS later
FROM json_each(?1) LEFT JOIN queue_controls AS control
  ON control.queue = json_each.value AND ${lasting('?2')}`,
    params: [JSON.stringify(queues), now, most],
  };
}

const queueRow = z
  .object({
    queue: z.string(),
    /** NULL where it is not paused. */
    paused_at: z.number().nullable(),
    paused_until: z.number().nullable(),
    due: z.int(),
    running: z.int(),
    later: z.int(),
  })
  .readonly();
export type QueueRow = z.infer<typeof queueRow>;

export function readQueue(row: Row): QueueRow {
  return queueRow.parse(row);
}

/** Wakes jobs that were parked for a pause of their queue: marks them sent and returns their envelopes, earliest first. */
export function takeUnpaused(queue: string, now: number, limit: number): Statement {
  return {
    name: 'wake',
    sql: `UPDATE jobs SET sent_at = ?2, parked_for = NULL, waiting_for = NULL WHERE id IN (
  SELECT id FROM jobs WHERE parked_for = '${PAUSE}' AND finished_at IS NULL AND queue = ?1 ORDER BY due_at LIMIT ?3)
RETURNING ${ENVELOPE_COLUMNS}`,
    params: [queue, now, limit],
  };
}

/** The queues of `queues` with a job that is parked for a pause. */
export function selectParkedQueues(queues: readonly string[]): Statement {
  return {
    name: 'parked',
    sql: `SELECT value AS queue FROM json_each(?1) WHERE EXISTS (
  SELECT 1 FROM jobs WHERE parked_for = '${PAUSE}' AND finished_at IS NULL AND queue = value)`,
    params: [JSON.stringify(queues)],
  };
}
