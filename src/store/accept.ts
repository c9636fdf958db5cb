// Statements of acceptance: rows come into being here and nowhere else.

import { z } from 'zod';
import type { Envelope } from '../core/envelope.ts';
import type { Row, Statement } from '../core/ports.ts';
import { STATES, type State } from '../core/states.ts';
import { turnOf } from './overlap.ts';

/** `sentAt`: when its message is handed out; null where it is owed one. */
export interface NewRow {
  readonly envelope: Envelope;
  readonly sentAt: number | null;
  /** Whoever claimed its key may make the same job of another call: this row wins over that message. */
  readonly revised?: true;
}

const INSERT = `
INSERT INTO jobs (id, v, task, queue, state, priority, input, options, tags, source, parent_id, retry_of,
                  created_at, due_at, expires_at, sent_at, input_key, input_bytes, revised, schedule, turn)
SELECT value ->> 0, value ->> 14, value ->> 1, value ->> 2,
       iif((value ->> 3) > ?2, 'SCHEDULED', 'PENDING'),
       value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10,
       value ->> 11, value ->> 3, value ->> 12, value ->> 13, value ->> 15, value ->> 16, value ->> 17,
       value ->> 18, value ->> 19
FROM json_each(?1)
WHERE true`;

/**
 * Inserts rows that are not there yet and returns the ids it made. Safe to repeat. `DO NOTHING` names no other rule
 * than the id, so that a row broken in any other way is refused aloud.
 */
export function insertJobs(rows: readonly NewRow[], now: number): Statement {
  return {
    name: 'accept',
    sql: `${INSERT} ON CONFLICT (id) DO NOTHING RETURNING id`,
    params: [JSON.stringify(rows.map(columns)), now],
  };
}

/** Rows that are made only while `condition` holds for each; for what is written with what it follows from. */
export function insertJobsIf(
  rows: readonly NewRow[],
  now: number,
  condition: string,
  params: readonly (string | number)[],
): Statement {
  return {
    name: 'accept',
    sql: `${INSERT} AND ${condition} ON CONFLICT (id) DO NOTHING RETURNING id`,
    params: [JSON.stringify(rows.map(columns)), now, ...params],
  };
}

/** One row that is made while `condition` holds, or else `update`s the one that has its id. See unique.ts. */
export function insertJobOr(
  row: NewRow,
  now: number,
  condition: string,
  update: string,
  params: readonly (string | number)[],
): Statement {
  return {
    name: 'unique',
    sql: `${INSERT} AND ${condition} ON CONFLICT (id) DO UPDATE ${update}`,
    params: [JSON.stringify([columns(row)]), now, ...params],
  };
}

// An array per row, not an object: the keys would cost more bytes than the values.
function columns({ envelope: job, sentAt, revised }: NewRow): readonly (string | number | null)[] {
  return [
    job.id,
    job.task,
    job.queue,
    job.dueAt,
    job.priority,
    JSON.stringify(job.v === 1 ? (job.input ?? null) : null),
    JSON.stringify(job.options),
    JSON.stringify(job.tags),
    job.source,
    job.parentId,
    job.retryOf,
    job.acceptedAt,
    job.expiresAt,
    sentAt,
    job.v,
    job.v === 1 ? null : job.inputKey,
    job.v === 1 ? null : job.inputBytes,
    revised === true ? 1 : 0,
    job.options.schedule?.name ?? null,
    turnOf(job.options.schedule),
  ];
}

/** Marks jobs as owed a message: the send is known to have failed. Leaves those alone that have moved on since, as whoever is parked has. */
export function markOwed(ids: readonly string[], sentAt: number): Statement {
  return {
    name: 'owe',
    sql: `UPDATE jobs SET sent_at = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND sent_at = ?2 AND parked_for IS NULL`,
    params: [JSON.stringify(ids), sentAt],
  };
}

const stateRow = z.object({ id: z.string(), state: z.enum(STATES), due_at: z.number() });

export function readStates(rows: readonly Row[]): ReadonlyMap<string, { state: State; dueAt: number }> {
  return new Map(rows.map((row) => stateRow.parse(row)).map(({ id, state, due_at }) => [id, { state, dueAt: due_at }]));
}

export function selectStates(ids: readonly string[]): Statement {
  return {
    name: 'states',
    sql: `SELECT id, state, due_at FROM jobs WHERE id IN (SELECT value FROM json_each(?1))`,
    params: [JSON.stringify(ids)],
  };
}
