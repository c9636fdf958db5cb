// Statements about whole queues: paused, resumed, and what a pause keeps from running.

import { z } from 'zod';
import type { Row, Statement } from '../core/ports.ts';
import { ENVELOPE_COLUMNS } from './rows.ts';

/** What `parked_for` says of a job whose queue is paused; any other value names a lock. */
export const PAUSE = 'pause';

/** SQL: the queues that are paused at the instant bound as `now` (such as `?3`). */
export function pausedQueues(now: string): string {
  return `(SELECT queue FROM queue_controls WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > ${now}))`;
}

/** `until`: epoch ms; null until it is resumed. A pause of a paused queue takes the new end. */
export function pauseQueue(queue: string, until: number | null, now: number): Statement {
  return {
    name: 'pause',
    sql: `INSERT INTO queue_controls (queue, paused_at, paused_until) VALUES (?1, ?2, ?3)
ON CONFLICT (queue) DO UPDATE SET
  paused_at = iif(queue IN ${pausedQueues('?2')}, paused_at, ?2), paused_until = ?3`,
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

/** The queues that are paused now, each with its end. */
export function selectPauses(now: number): Statement {
  return {
    name: 'pauses',
    sql: `SELECT queue, paused_at, paused_until FROM queue_controls WHERE queue IN ${pausedQueues('?1')}`,
    params: [now],
  };
}

const pauseRow = z.object({ queue: z.string(), paused_at: z.number(), paused_until: z.number().nullable() }).readonly();
export type Pause = z.infer<typeof pauseRow>;

export function readPause(row: Row): Pause {
  return pauseRow.parse(row);
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
