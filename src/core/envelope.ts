// What a queue message carries: the whole job as it was accepted, so that a consumer can make the row itself.
// Versions are never reused; every version ever shipped still parses (test/fixtures/envelopes).

import { z } from 'zod';

const milliseconds = z.int().nonnegative();

/** What a call decides about how its job runs; null leaves it to the task. Seconds. */
export const jobOptions = z.object({
  maxRetries: z.int().nonnegative(),
  retryDelays: z.array(z.number().nonnegative()).nullable(),
  softSeconds: z.number().positive().nullable(),
  hardSeconds: z.number().positive().nullable(),
  resultTtlSeconds: z.int().positive(),
});
export type JobOptions = z.infer<typeof jobOptions>;

export const envelope = z.object({
  v: z.literal(1),
  id: z.uuid(),
  task: z.string(),
  queue: z.string(),
  /** Any JSON value, as the task's schema will be given it. */
  input: z.unknown(),
  options: jobOptions,
  priority: z.int(),
  tags: z.array(z.string()),
  /** Where it came from: `api`, `webhook:github`, `requeue`… */
  source: z.string(),
  acceptedAt: milliseconds,
  dueAt: milliseconds,
  expiresAt: milliseconds.nullable(),
  parentId: z.uuid().nullable(),
  retryOf: z.uuid().nullable(),
});
export type Envelope = z.infer<typeof envelope>;

/** What every version has, so that a newer one can be put back instead of being refused. */
const anyVersion = z.object({ v: z.int().min(2), id: z.uuid() });

export type ParsedMessage =
  | { readonly kind: 'job'; readonly envelope: Envelope }
  | { readonly kind: 'newer'; readonly id: string; readonly version: number }
  | { readonly kind: 'unparseable'; readonly problem: string };

/** Reads a message body as it came from a queue. Never throws. */
export function parseMessage(body: unknown): ParsedMessage {
  const job = envelope.safeParse(body);
  if (job.success) return { kind: 'job', envelope: job.data };
  const newer = anyVersion.safeParse(body);
  if (newer.success) return { kind: 'newer', id: newer.data.id, version: newer.data.v };
  return { kind: 'unparseable', problem: z.prettifyError(job.error) };
}
