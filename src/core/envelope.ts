// What a queue message carries: the whole job as it was accepted, so that a consumer can make the row itself.
// Versions are never reused; every version ever shipped still parses (test/fixtures/envelopes).

import { z } from 'zod';

const milliseconds = z.int().nonnegative();

/** One of the things that make two calls the same call. */
const identityToken = z.object({
  token: z.string(),
  ttlMs: z.int().positive(),
  /** Where the same event may come from two parties: whoever is not this one and claimed it first has it. */
  party: z.string().optional(),
});
export type IdentityToken = z.infer<typeof identityToken>;

/** What makes a call this call: tokens of a scope, claimed in order. The last one decides which job it is. */
const identity = z.object({
  /** A provider, or the owner of a key. */
  scope: z.string(),
  tokens: z.array(identityToken),
  /** Digest of what came with them; another one under the same token is a conflict. */
  digest: z.string().optional(),
});
export type Identity = z.infer<typeof identity>;

/** How a run of a schedule stands to the runs before it. `wait`: it makes good what was missed, after all others. */
const OVERLAPS = ['skip', 'queue_one', 'allow', 'cancel_previous', 'wait'] as const;

/** Which run of which schedule a job is. */
const scheduledRun = z.object({
  name: z.string(),
  /** The time it is the run of, also where it was made later. */
  dueAt: milliseconds,
  /** `run`: asked for by hand. */
  cause: z.enum(['due', 'catch_up', 'backfill', 'run']),
  overlap: z.enum(OVERLAPS),
});
export type ScheduledRun = z.infer<typeof scheduledRun>;

/** What a call decides about how its job runs; null leaves it to the task. Seconds. */
export const jobOptions = z.object({
  maxRetries: z.int().nonnegative(),
  retryDelays: z.array(z.number().nonnegative()).nullable(),
  softSeconds: z.number().positive().nullable(),
  hardSeconds: z.number().positive().nullable(),
  resultTtlSeconds: z.int().positive(),
  /** Its payload leaves every store when its result expires. */
  sensitive: z.literal(true).optional(),
  /** Accepted while the replay guard was silent: it runs only once these are claimed for it. */
  unclaimed: identity.optional(),
  /** What its rate limits and locks are told apart by, by the name of the rule. */
  keys: z.record(z.string(), z.string()).optional(),
  /** Where its end is told, and the id of the job that tells it. */
  callback: z.object({ id: z.uuid(), url: z.string() }).optional(),
  schedule: scheduledRun.optional(),
});
export type JobOptions = z.infer<typeof jobOptions>;

const members = {
  id: z.uuid(),
  task: z.string(),
  queue: z.string(),
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
};

/** An input kept aside because it is too large to ride along: where, and how many bytes of JSON it is. */
const inputAside = z.object({ inputKey: z.string(), inputBytes: z.int().nonnegative() });
export type InputAside = z.infer<typeof inputAside>;

export const envelope = z.discriminatedUnion('v', [
  z.object({
    v: z.literal(1),
    ...members,
    /** Any JSON value, as the task's schema will be given it. */
    input: z.unknown(),
  }),
  z.object({ v: z.literal(2), ...members, ...inputAside.shape }),
]);
export type Envelope = z.infer<typeof envelope>;

/** The newest version that is written. */
export const ENVELOPE_VERSION = 2;

/** What every version has, so that a newer one can be put back instead of being refused. */
const anyVersion = z.object({ v: z.int().min(ENVELOPE_VERSION + 1), id: z.uuid() });

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
