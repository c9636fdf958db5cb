// Statements of unique jobs: what the job of a key is now, and a later call that takes the place of one that waits.

import { z } from 'zod';
import type { Row, Statement } from '../core/ports.ts';
import { guard, STATES } from '../core/states.ts';
import { insertJobOr, type NewRow } from './accept.ts';
import { PAUSE } from './queue-controls.ts';

// Still kept from running by a pause: its end wakes the job.
const STAYS_PAUSED = (queue: string): string => `(jobs.parked_for IS '${PAUSE}' AND jobs.queue = ${queue})`;

// An earlier due time wants another message; a later one lets the old one come early, and be put back. Who was parked for
// a lock has none, and may want another lock now.
const WANTS_MESSAGE = (dueAt: string, queue: string): string =>
  `(NOT ${STAYS_PAUSED(queue)} AND (jobs.sent_at IS NULL OR jobs.parked_for IS NOT NULL OR jobs.due_at > ${dueAt}))`;

/** The job that a key names, as a call to `queue` that is due at `dueAt` finds it. */
export function selectNamed(id: string, dueAt: number, queue: string): Statement {
  return {
    name: 'unique',
    sql: `SELECT state, queue, due_at, expires_at, started_at, input_key, parked_for, ${WANTS_MESSAGE('?2', '?3')} AS wants_message
FROM jobs WHERE id = ?1`,
    params: [id, dueAt, queue],
  };
}

const namedRow = z
  .object({
    state: z.enum(STATES),
    queue: z.string(),
    due_at: z.number(),
    expires_at: z.number().nullable(),
    started_at: z.number().nullable(),
    input_key: z.string().nullable(),
    parked_for: z.string().nullable(),
    /** Whether one that took its place would have to be sent, once it is due soon. */
    wants_message: z.int(),
  })
  .readonly();
export type Named = z.infer<typeof namedRow>;

export function readNamed(row: Row): Named {
  return namedRow.parse(row);
}

// Who and what made the job stays; all that a call decides about it is replaced. One that is due already stays due since
// then: calls that follow each other closely must not keep it from the sweep that misses its message.
const REVISE = `SET
  v = excluded.v, queue = excluded.queue, state = excluded.state, priority = excluded.priority, input = excluded.input,
  input_key = excluded.input_key, input_bytes = excluded.input_bytes, options = excluded.options, tags = excluded.tags,
  due_at = iif(max(jobs.due_at, excluded.due_at) <= ?2, jobs.due_at, excluded.due_at), expires_at = excluded.expires_at,
  sent_at = iif(${WANTS_MESSAGE('excluded.due_at', 'excluded.queue')}, excluded.sent_at, jobs.sent_at),
  waiting_for = iif(${STAYS_PAUSED('excluded.queue')}, jobs.waiting_for, NULL),
  parked_for = iif(${STAYS_PAUSED('excluded.queue')}, jobs.parked_for, NULL), revised = jobs.revised + 1
WHERE jobs.finished_at IS NULL AND ${guard('revise')} AND jobs.started_at IS NULL
RETURNING state, due_at`;

/**
 * Puts a call into the place of the waiting job that has its id; returns its state, or no row where that job has started
 * or ended. `mayMake`: where there is no such job, this call makes it. `sentAt` counts where the job wants a message.
 */
export function takePlace(row: NewRow, now: number, mayMake: boolean): Statement {
  const there = `(?3 OR EXISTS (SELECT 1 FROM jobs WHERE jobs.id = value ->> 0))`;
  return insertJobOr(row, now, there, REVISE, [mayMake ? 1 : 0]);
}

const placeRow = z.object({ state: z.enum(STATES), due_at: z.number() }).readonly();

export function readPlace(row: Row): z.infer<typeof placeRow> {
  return placeRow.parse(row);
}
