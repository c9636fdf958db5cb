// What an accepted delivery becomes. The raw body is kept under `raw_key`; a large one is read back from there.

import { z } from 'zod';
import type { Json } from '../../core/json.ts';
import { Discard } from '../../jobs/outcome.ts';
import { defineTask, type InputCopy, type Job } from '../../jobs/task.ts';
import { metadata, rawKey } from '../../store/payloads.ts';

const input = z.object({
  /** The provider: `github`. */
  webhook_type: z.string(),
  event: z.string(),
  event_id: z.string().nullable(),
  received_at: z.string(),
  source_ip: z.string().nullable(),
  bytes: z.int(),
  raw_key: z.string(),
  /** The parsed payload; null where it is too large to ride along. */
  webhook_data: z.unknown(),
});

/** What every provider's payload may say about itself; everything else is the business of the event's own task. */
const summary = z.looseObject({
  action: z.string().optional().catch(undefined),
  repository: z.looseObject({ full_name: z.string() }).optional().catch(undefined),
  sender: z.looseObject({ login: z.string() }).optional().catch(undefined),
});

/** Records what a delivery was. Events nobody handles yet are kept and acknowledged, never failed. */
export const processWebhook = defineTask({
  name: 'process_webhook',
  aliases: ['app.tasks.process_webhook', 'tasks.webhook_tasks.process_webhook'],
  queue: 'webhooks',
  input,
  resultTtlSeconds: 7 * 86_400,
  copyInput: copyRaw,
  async run(webhook, job) {
    const payload = summary.safeParse(webhook.webhook_data ?? (await storedPayload(webhook.raw_key, job)));
    const data = payload.success ? payload.data : {};
    return {
      provider: webhook.webhook_type,
      event: webhook.event,
      action: data.action ?? null,
      event_id: webhook.event_id,
      repository: data.repository?.full_name ?? null,
      sender: data.sender?.login ?? null,
      bytes: webhook.bytes,
      raw_key: webhook.raw_key,
      handled_by: [],
    };
  },
});

// A job's raw body leaves with the job: a new run has one of its own.
async function copyRaw(webhook: z.output<typeof input>, { id, env, now }: InputCopy): Promise<Json | undefined> {
  const given = { ...webhook, webhook_data: webhook.webhook_data as Json };
  if (webhook.webhook_data !== null) return given;
  const object = await env.OBJECTS.get(webhook.raw_key);
  if (object === null) return undefined;
  const key = rawKey(webhook.webhook_type, id);
  await env.OBJECTS.put(key, object.body, metadata(object.httpMetadata?.contentType ?? 'application/json', now));
  return { ...given, raw_key: key };
}

async function storedPayload(key: string, job: Job): Promise<unknown> {
  const object = await job.env.OBJECTS.get(key);
  if (object === null) throw new Discard(`The stored body ${key} is gone.`);
  const text = await object.text();
  const form = object.httpMetadata?.contentType?.startsWith('application/x-www-form-urlencoded') === true;
  return JSON.parse(form ? (new URLSearchParams(text).get('payload') ?? 'null') : text);
}
