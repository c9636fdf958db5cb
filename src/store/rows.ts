// A row of `jobs` as the rest of the code sees it. Every version ever written still parses (test/fixtures/rows).

import { z } from 'zod';
import { jobOptions, type Envelope } from '../core/envelope.ts';
import type { Row } from '../core/ports.ts';
import { STATES } from '../core/states.ts';

/** The version new rows are written with. */
export const ROW_VERSION = 1;

const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: 'custom', message: 'not JSON' });
    return z.NEVER;
  }
});

const instant = z.number().nullable();

export const jobError = z.object({ code: z.string(), message: z.string(), fingerprint: z.string() });
export type JobError = z.infer<typeof jobError>;

/** One earlier attempt. Instants are epoch milliseconds. */
export const attemptRecord = z.object({
  attempt: z.int(),
  started_at: instant,
  finished_at: instant,
  outcome: z.enum(['success', 'failure', 'retry', 'deferred', 'lost', 'revoked']),
  error: jobError.nullable(),
});
export type AttemptRecord = z.infer<typeof attemptRecord>;

const jobRow = z
  .object({
    v: z.literal(1),
    id: z.string(),
    task: z.string(),
    queue: z.string(),
    state: z.enum(STATES),
    priority: z.int(),
    input: json,
    options: json.pipe(jobOptions),
    tags: json.pipe(z.array(z.string())),
    source: z.string(),
    parent_id: z.string().nullable(),
    retry_of: z.string().nullable(),
    created_at: z.number(),
    due_at: z.number(),
    expires_at: instant,
    sent_at: instant,
    attempt: z.int(),
    lost: z.int(),
    revoke_requested: z.int(),
    started_at: instant,
    finished_at: instant,
    progress: z.int(),
    progress_note: z.string().nullable(),
    waiting_for: z.string().nullable(),
    result: json.nullable(),
    error: json.pipe(jobError).nullable(),
    attempts: json.pipe(z.array(attemptRecord)),
  })
  .readonly();
export type JobRow = z.infer<typeof jobRow>;

export function readJobRow(row: Row): JobRow {
  return jobRow.parse(row);
}

/** Columns a statement returns for {@link readEnvelope}. */
export const ENVELOPE_COLUMNS =
  'id, task, queue, input, options, priority, tags, source, created_at, due_at, expires_at, parent_id, retry_of';

const envelopeRow = jobRow.unwrap().pick({
  id: true,
  task: true,
  queue: true,
  input: true,
  options: true,
  priority: true,
  tags: true,
  source: true,
  created_at: true,
  due_at: true,
  expires_at: true,
  parent_id: true,
  retry_of: true,
});

/** The message of a stored job, as acceptance would have made it. */
export function readEnvelope(row: Row): Envelope {
  const job = envelopeRow.parse(row);
  return {
    v: 1,
    id: job.id,
    task: job.task,
    queue: job.queue,
    input: job.input,
    options: job.options,
    priority: job.priority,
    tags: job.tags,
    source: job.source,
    acceptedAt: job.created_at,
    dueAt: job.due_at,
    expiresAt: job.expires_at,
    parentId: job.parent_id,
    retryOf: job.retry_of,
  };
}
