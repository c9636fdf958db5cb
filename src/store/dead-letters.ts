// Statements of dead letters: made with the FAILURE they record, read and requeued by people, never swept.

import { z } from 'zod';
import { jobOptions } from '../core/envelope.ts';
import type { Row, Statement } from '../core/ports.ts';
import { target } from '../core/states.ts';
import { jobError, type JobError } from './rows.ts';

/**
 * The dead letters of jobs that a statement of the same transaction has just failed. Guarded by the claim of that
 * statement, so that only the failure it wrote is recorded, and only once.
 */
export function recordFailures(failures: readonly { id: string; claim: number; deadLetterId: string }[]): Statement {
  return {
    name: 'dead-letter',
    sql: `INSERT INTO dead_letters (id, v, job_id, task, queue, input, options, priority, tags, error, fingerprint,
                          attempts, failed_at, input_key, input_bytes)
SELECT failure.value ->> 'deadLetterId', jobs.v, jobs.id, jobs.task, jobs.queue, jobs.input, jobs.options, jobs.priority,
       jobs.tags, jobs.error, jobs.error ->> 'fingerprint', jobs.attempt, jobs.finished_at,
       jobs.input_key, jobs.input_bytes
FROM json_each(?1) AS failure JOIN jobs ON jobs.id = failure.value ->> 'id'
WHERE jobs.claim = failure.value ->> 'claim' AND jobs.state = ${target('fail')}
ON CONFLICT (id) DO NOTHING`,
    params: [JSON.stringify(failures)],
  };
}

/** The dead letter of a message that nobody could read; `body` is its JSON text. */
export function recordUnparseable(letter: {
  id: string;
  queue: string;
  body: string;
  error: JobError;
  at: number;
}): Statement {
  return {
    name: 'dead-letter',
    sql: `INSERT INTO dead_letters (id, v, job_id, task, queue, input, options, priority, tags, error, fingerprint,
                          attempts, failed_at)
VALUES (?1, 1, NULL, '', ?2, ?3, NULL, 0, '[]', ?4, ?5, 0, ?6) ON CONFLICT (id) DO NOTHING`,
    params: [letter.id, letter.queue, letter.body, JSON.stringify(letter.error), letter.error.fingerprint, letter.at],
  };
}

const text = z.string().transform((value): unknown => JSON.parse(value));

const deadLetterRow = z
  .object({
    v: z.union([z.literal(1), z.literal(2)]),
    id: z.string(),
    job_id: z.string().nullable(),
    task: z.string(),
    queue: z.string(),
    input: text,
    options: text.pipe(jobOptions).nullable(),
    priority: z.int(),
    tags: text.pipe(z.array(z.string())),
    error: text.pipe(jobError),
    fingerprint: z.string(),
    attempts: z.int(),
    failed_at: z.number(),
    requeues: z.int(),
    requeued_as: z.string().nullable(),
    /** Version 2: `input` is null, and the input is kept here. */
    input_key: z.string().nullable(),
    input_bytes: z.int().nullable(),
  })
  .readonly();
export type DeadLetterRow = z.infer<typeof deadLetterRow>;

export function readDeadLetter(row: Row): DeadLetterRow {
  return deadLetterRow.parse(row);
}

/** What a list or a bulk requeue asks for; every field narrows. `before` is the cursor: ids older than it. */
export interface DeadLetterFilter {
  readonly task?: string | undefined;
  readonly queue?: string | undefined;
  readonly fingerprint?: string | undefined;
  /** Only those not requeued yet. */
  readonly open?: boolean | undefined;
  readonly before?: string | undefined;
}

export function selectDeadLetter(id: string): Statement {
  return { name: 'dead-letters', sql: `SELECT * FROM dead_letters WHERE id = ?1`, params: [id] };
}

/** Newest first. */
export function selectDeadLetters(filter: DeadLetterFilter, limit: number): Statement {
  return {
    name: 'dead-letters',
    sql: `SELECT * FROM dead_letters WHERE id < coalesce(?1, '~') AND (?2 IS NULL OR task = ?2)
  AND (?3 IS NULL OR queue = ?3) AND (?4 IS NULL OR fingerprint = ?4) AND (?5 = 0 OR requeued_as IS NULL)
ORDER BY id DESC LIMIT ?6`,
    params: [
      filter.before ?? null,
      filter.task ?? null,
      filter.queue ?? null,
      filter.fingerprint ?? null,
      filter.open === true ? 1 : 0,
      limit,
    ],
  };
}

const patternRow = z.object({
  fingerprint: z.string(),
  task: z.string(),
  count: z.int(),
  first_seen: z.number(),
  last_seen: z.number(),
  sample_ids: text.pipe(z.array(z.string())),
});
export type PatternRow = z.infer<typeof patternRow>;

export function readPattern(row: Row): PatternRow {
  return patternRow.parse(row);
}

/** Letters grouped by fingerprint, most first, each with up to five of its newest ids. */
export function selectPatterns(offset: number, limit: number): Statement {
  return {
    name: 'patterns',
    sql: `SELECT fingerprint, min(task) AS task, count(*) AS count, min(failed_at) AS first_seen,
  max(failed_at) AS last_seen, (SELECT json_group_array(id) FROM
    (SELECT id FROM dead_letters AS sample WHERE sample.fingerprint = dead_letters.fingerprint
     ORDER BY id DESC LIMIT 5)) AS sample_ids
FROM dead_letters GROUP BY fingerprint ORDER BY count DESC, fingerprint LIMIT ?2 OFFSET ?1`,
    params: [offset, limit],
  };
}

/** True while a letter has been requeued exactly `requeues` times: the guard of its next run. */
export const REQUEUE_GUARD = 'EXISTS (SELECT 1 FROM dead_letters WHERE id = ?3 AND requeues = ?4)';

export function markRequeued(id: string, requeues: number, jobId: string): Statement {
  return {
    name: 'requeue',
    sql: `UPDATE dead_letters SET requeues = requeues + 1, requeued_as = ?3 WHERE id = ?1 AND requeues = ?2`,
    params: [id, requeues, jobId],
  };
}

export function deleteDeadLetter(id: string): Statement {
  return { name: 'dead-letters', sql: `DELETE FROM dead_letters WHERE id = ?1 RETURNING id`, params: [id] };
}
