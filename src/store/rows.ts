// A row of `jobs` as the rest of the code sees it. Every version ever written still parses (test/fixtures/rows).

import { z } from 'zod';
import { jobOptions, type Envelope, type InputAside } from '../core/envelope.ts';
import type { Row } from '../core/ports.ts';
import { STATES } from '../core/states.ts';

/** The newest version of a row: 2 where its input is kept aside, else 1. A row has the version of its message. */
export const ROW_VERSION = 2;

/** A column of JSON text. */
export const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: 'custom', message: 'not JSON' });
    return z.NEVER;
  }
});

const instant = z.number().nullable();

/** A column that came with a later migration: rows kept as fixtures from before lack it. */
function later<Schema extends z.ZodType>(schema: Schema): z.ZodDefault<z.ZodNullable<Schema>> {
  return schema.nullable().default(null);
}

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
    v: z.union([z.literal(1), z.literal(2)]),
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
    claim: z.int(),
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
    input_key: later(z.string()),
    input_bytes: later(z.int()),
    result_key: later(z.string()),
    clears_at: later(z.number()),
    cleared_at: later(z.number()),
    parked_for: later(z.string()),
    // Not of the table: whether its queue is paused now, where a statement asks for it.
    paused: later(z.int()),
    paused_until: later(z.number()),
  })
  .readonly();
export type JobRow = z.infer<typeof jobRow>;

export function readJobRow(row: Row): JobRow {
  return jobRow.parse(row);
}

const standingRow = jobRow.unwrap().pick({
  id: true,
  state: true,
  queue: true,
  attempt: true,
  due_at: true,
  sent_at: true,
  waiting_for: true,
  error: true,
  clears_at: true,
  cleared_at: true,
  parked_for: true,
  paused: true,
  paused_until: true,
});
/** Where a job stands, without what it was given or has made. */
export type Standing = z.infer<typeof standingRow>;

/** Columns of the table that a statement returns for {@link readStanding}. */
export const STANDING_COLUMNS = Object.keys(standingRow.shape)
  .filter((name) => !name.startsWith('paused'))
  .join(', ');

export function readStanding(row: Row): Standing {
  return standingRow.parse(row);
}

/** Columns a statement returns for {@link readEnvelope}. */
export const ENVELOPE_COLUMNS =
  'id, task, queue, input, input_key, input_bytes, options, priority, tags, source, created_at, due_at, expires_at, ' +
  'parent_id, retry_of';

const envelopeRow = jobRow.unwrap().pick({
  id: true,
  task: true,
  queue: true,
  input: true,
  input_key: true,
  input_bytes: true,
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
  return envelopeOf(envelopeRow.parse(row));
}

function envelopeOf(job: z.infer<typeof envelopeRow>): Envelope {
  const members = {
    id: job.id,
    task: job.task,
    queue: job.queue,
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
  const aside = asideOf(job);
  return aside === undefined ? { v: 1, ...members, input: job.input } : { v: 2, ...members, ...aside };
}

/** SQL: the columns of {@link readEnvelope} as JSON where a later call has changed them, else NULL at no cost. */
export const REVISION = `iif(revised > 0, json_object(${ENVELOPE_COLUMNS.split(', ')
  .map((column) => `'${column}', ${column}`)
  .join(', ')}), NULL)`;

/** What {@link REVISION} returned. */
export const revision = json.pipe(envelopeRow.transform(envelopeOf)).nullable();

/** Where the input of a row is kept that does not have it itself. */
export function asideOf(row: Pick<JobRow, 'input_key' | 'input_bytes'>): InputAside | undefined {
  return row.input_key === null ? undefined : { inputKey: row.input_key, inputBytes: row.input_bytes ?? 0 };
}
