// POST /webhooks/:provider: size, signature, meaning, replay guard, job. Nothing is written for what is refused.

import type { Context } from 'hono';
import { within } from '../core/deadline.ts';
import { formatInstant } from '../core/instant.ts';
import { newId } from '../core/ids.ts';
import { byteLength, type Json } from '../core/json.ts';
import { ACCEPT_DEADLINE_MS, MAX_INLINE_WEBHOOK_BYTES, MAX_WEBHOOK_BODY_BYTES } from '../core/limits.ts';
import { again, commit, requestOf, type Enqueued } from '../jobs/enqueue.ts';
import { logError } from '../jobs/log.ts';
import { toEnvelope } from '../jobs/request.ts';
import { claimToken } from '../jobs/replay.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { metadata, rawKey } from '../store/payloads.ts';
import { processWebhook } from '../tasks/webhooks/process-webhook.ts';
import type { Provider, WebhookEvent, WebhookRequest } from '../webhooks/provider.ts';
import { findProvider } from '../webhooks/providers.ts';
import type { App } from './app.ts';
import { readBytes } from './body.ts';
import { NOT_TAKEN, problem } from './problems.ts';

export async function receiveWebhook(c: Context<App>): Promise<Response> {
  const name = c.req.param('provider') ?? '';
  const provider = findProvider(name);
  if (provider === undefined) return problem({ kind: 'not_found', what: `webhook provider ${JSON.stringify(name)}` });
  const secrets = provider.secrets(c.env);
  if (secrets.length === 0) return problem({ kind: 'not_configured', detail: `No secret is set for ${name}.` });
  const body = await readBytes(c.req.raw, MAX_WEBHOOK_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const request = { headers: c.req.raw.headers, body: body.value };
  if (!(await provider.verify(request, secrets))) return problem({ kind: 'bad_signature' });
  const reading = provider.read(request);
  switch (reading.kind) {
    case 'ignored':
      return c.json({ status: 'ignored' });
    case 'malformed':
      return problem({ kind: 'malformed', detail: reading.detail });
    case 'event':
      return answer(await accept(c.get('rt'), provider, request, reading.event));
  }
}

/** Makes a verified delivery one job, however often and however concurrently it comes. */
async function accept(
  rt: Runtime,
  provider: Provider,
  request: WebhookRequest,
  event: WebhookEvent,
): Promise<Enqueued> {
  const now = rt.clock.now();
  let claimed;
  try {
    claimed = await claimTokens(rt, provider.name, event, now);
  } catch (error) {
    logError('replay_guard.silent', error, { scope: provider.name });
    return { kind: 'unknown' };
  }
  const { id, fresh, claimedAt } = claimed;
  const key = rawKey(provider.name, id);
  // Counted as it will be carried: an odd byte of the body may be three in the job.
  const small = request.body.byteLength <= 4 * MAX_INLINE_WEBHOOK_BYTES;
  const inline = small && byteLength(JSON.stringify(event.payload)) <= MAX_INLINE_WEBHOOK_BYTES;
  const keeping = fresh || !inline ? keepRaw(rt, key, request, now) : Promise.resolve(true);
  // A body that rides in the job survives without its stored copy; one that does not is worthless without.
  if (!inline && !(await keeping)) return { kind: 'unknown' };
  const input = {
    webhook_type: provider.name,
    event: event.event,
    event_id: event.eventId,
    received_at: formatInstant(now),
    source_ip: request.headers.get('cf-connecting-ip'),
    bytes: request.body.byteLength,
    raw_key: key,
    webhook_data: inline ? (event.payload as Json) : null,
  };
  const envelope = toEnvelope(requestOf(processWebhook, input), { id, source: `webhook:${provider.name}`, now });
  const item = fresh ? { envelope, mode: 'new' as const } : again(rt, envelope, claimedAt);
  if (!('envelope' in item)) return item;
  const [enqueued] = await Promise.all([commit(rt, item), keeping]);
  return enqueued;
}

/** Claims every token of a delivery, every time and in order; the last answer names the job. */
async function claimTokens(
  rt: Runtime,
  scope: string,
  { tokens }: WebhookEvent,
  now: number,
): Promise<{ id: string; fresh: boolean; claimedAt: number }> {
  const claimed = { id: newId(now, rt.random.bytes(9)), fresh: true, claimedAt: now };
  for (const { token, ttlMs } of tokens) {
    const said = await claimToken(rt, scope, { token, jobId: claimed.id, digest: '', ttlMs, now });
    claimed.id = said.jobId;
    claimed.claimedAt = said.claimedAt;
    if (said.verdict !== 'fresh') claimed.fresh = false;
  }
  return claimed;
}

async function keepRaw(rt: Runtime, key: string, { headers, body }: WebhookRequest, now: number): Promise<boolean> {
  try {
    const contentType = headers.get('content-type') ?? 'application/octet-stream';
    const putting = rt.env.OBJECTS.put(key, body, metadata(contentType, now));
    // A delivery that is durable must be answered; its copy may still arrive.
    rt.waitUntil(putting.catch(() => undefined));
    return (await within(rt.clock, ACCEPT_DEADLINE_MS, putting)).inTime;
  } catch (error) {
    logError('webhook.raw_not_kept', error, { key, bytes: body.byteLength });
    return false;
  }
}

function answer(enqueued: Enqueued): Response {
  if (enqueued.kind !== 'accepted') return problem(NOT_TAKEN[enqueued.kind === 'full' ? 'full' : 'unknown']);
  const status = enqueued.replayed ? 'duplicate' : 'accepted';
  return Response.json({ status, job_id: enqueued.id }, { headers: { 'x-job-id': enqueued.id } });
}
