// What an accepted delivery becomes. The raw body is kept under `raw_key`; one that was too large to be looked into is
// only there.

import { z } from 'zod';
import type { Json } from '../../core/json.ts';
import { InvalidCall } from '../../jobs/enqueue.ts';
import { Discard } from '../../jobs/outcome.ts';
import { defineTask, type InputCopy, type Job, type Task } from '../../jobs/task.ts';
import { metadata, rawKey } from '../../store/payloads.ts';

const input = z.object({
  /** The provider; calls that name none mean the one that came first. */
  webhook_type: z.string().default('openphone'),
  event: z.string().optional(),
  event_id: z.string().nullable().default(null),
  received_at: z.string().nullable().default(null),
  source_ip: z.string().nullable().default(null),
  bytes: z.int().nullable().default(null),
  raw_key: z.string().nullable().default(null),
  /** What it says; null where it was too large to be looked into. */
  webhook_data: z.unknown(),
});
type Webhook = z.output<typeof input>;

/** What payloads may say about themselves; everything else is the business of the event's own task. */
const summary = z.looseObject({
  type: z.string().optional().catch(undefined),
  event: z.string().optional().catch(undefined),
  action: z.string().optional().catch(undefined),
  repository: z.looseObject({ full_name: z.string() }).optional().catch(undefined),
  sender: z.looseObject({ login: z.string() }).optional().catch(undefined),
});

/** Hands a delivery to every task that is run on its event. Events nobody handles are kept and acknowledged. */
export const processWebhook = defineTask({
  name: 'process_webhook',
  aliases: ['app.tasks.process_webhook', 'tasks.webhook_tasks.process_webhook'],
  queue: 'webhooks',
  params: ['webhook_data', 'webhook_type', 'source_ip'],
  input,
  resultTtlSeconds: 7 * 86_400,
  copyInput: copyRaw,
  async run(webhook, job) {
    const said = summary.safeParse(webhook.webhook_data).data ?? {};
    const event = webhook.event ?? said.type ?? said.event ?? 'unknown';
    return {
      provider: webhook.webhook_type,
      event,
      action: said.action ?? null,
      event_id: webhook.event_id,
      repository: said.repository?.full_name ?? null,
      sender: said.sender?.login ?? null,
      bytes: webhook.bytes,
      raw_key: webhook.raw_key,
      handled_by: await handOn(webhook, event, job),
    };
  },
});

interface HandedOn {
  readonly task: string;
  readonly job_id: string;
}

/** One job for every handler. One that refuses the payload fails this job, after all others have theirs. */
async function handOn(webhook: Webhook, event: string, job: Job): Promise<readonly HandedOn[]> {
  const { webhook_type: provider, event_id, received_at, raw_key, webhook_data } = webhook;
  // It came in as JSON.
  const handed = { provider, event, event_id, received_at, raw_key, webhook_data: webhook_data as Json };
  const handlers = job.handlersOf(`${provider}.${event}`);
  const outcomes = await Promise.all(handlers.map((handler) => handTo(handler, handed, job)));
  const refusals = outcomes.filter((each) => typeof each === 'string');
  if (refusals.length > 0) throw new Discard(refusals.join('; '), 'handler_refused');
  return outcomes.filter((each) => typeof each !== 'string');
}

async function handTo(handler: Task, handed: Json, job: Job): Promise<HandedOn | string> {
  try {
    const { id } = await job.enqueue(handler, handed);
    return { task: handler.name, job_id: id };
  } catch (error) {
    if (error instanceof InvalidCall) return error.message;
    throw error;
  }
}

// A job's raw body leaves with the job: a new run has one of its own.
async function copyRaw(webhook: Webhook, { id, env, now }: InputCopy): Promise<Json | undefined> {
  // It came in as JSON, and so it is what the schema made of it.
  const given = webhook as Json;
  if (webhook.webhook_data !== null || webhook.raw_key === null) return given;
  const object = await env.OBJECTS.get(webhook.raw_key);
  if (object === null) return undefined;
  const key = rawKey(webhook.webhook_type, id);
  await env.OBJECTS.put(key, object.body, metadata(object.httpMetadata?.contentType ?? 'application/json', now));
  return { ...webhook, raw_key: key } as Json;
}
