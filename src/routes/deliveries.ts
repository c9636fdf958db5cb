// /api/v1/deliveries: what came in from providers, and what became of it.

import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { within } from '../core/deadline.ts';
import { isId, newId } from '../core/ids.ts';
import { formatInstant, instant } from '../core/instant.ts';
import { PAYLOAD_DEADLINE_MS } from '../core/limits.ts';
import { isFinal } from '../core/states.ts';
import { query as select } from '../jobs/database.ts';
import { commit } from '../jobs/enqueue.ts';
import { findJob, page as pageOf } from '../jobs/inspect.ts';
import { logError } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import {
  markRedelivered,
  readDelivery,
  selectDeliveries,
  selectDelivery,
  VERDICTS,
  type DeliveryRow,
} from '../store/deliveries.ts';
import { rawKey } from '../store/payloads.ts';
import { findProvider } from '../webhooks/providers.ts';
import { WebhookRequest } from '../webhooks/request.ts';
import type { App } from './app.ts';
import { needs } from './auth.ts';
import { envelopeOf } from './intake.ts';
import { answerEnqueued } from './jobs.ts';
import { statusUrl } from '../jobs/job-json.ts';
import { PAYLOAD_SILENT, problem, type Failure } from './problems.ts';
import { page, readQuery } from './query.ts';

const NO_DELIVERY: Failure = { kind: 'not_found', what: 'delivery with this id' };

export const deliveryRoutes = new Hono<App>();

const filters = {
  ...page,
  provider: z.string().optional(),
  event: z.string().optional(),
  verdict: z.enum(VERDICTS).optional(),
  job_id: z.string().optional(),
  event_id: z.string().optional(),
  since: instant.optional(),
  until: instant.optional(),
};

deliveryRoutes.get('/', needs('jobs:read'), async (c) => {
  const query = readQuery(c, filters);
  if (!query.ok) return problem(query.failure);
  const { limit, cursor: before, job_id: jobId, event_id: eventId, ...filter } = query.value;
  const statements = selectDeliveries({ ...filter, jobId, eventId, before }, limit);
  const { items, next } = await pageOf(c.get('rt'), statements, limit, readDelivery);
  const refused = c.get('rt').isolate.deliveries.refused();
  return c.json({ items: items.map(deliveryJson), next_cursor: next, refused });
});

deliveryRoutes.get('/:id', needs('jobs:read'), async (c) => {
  const delivery = await findDelivery(c);
  return delivery === undefined ? problem(NO_DELIVERY) : c.json(deliveryJson(delivery));
});

deliveryRoutes.post('/:id/redeliver', needs('jobs:write'), async (c) => {
  const delivery = await findDelivery(c);
  return delivery === undefined ? problem(NO_DELIVERY) : redeliver(c, delivery);
});

async function findDelivery(c: Context<App>): Promise<DeliveryRow | undefined> {
  const id = c.req.param('id') ?? '';
  const [row] = isId(id) ? await select(c.get('rt'), selectDelivery(id)) : [];
  return row === undefined ? undefined : readDelivery(row);
}

/** Reads the stored bytes as this deployment does, and makes a job of what they say. */
async function redeliver(c: Context<App>, delivery: DeliveryRow): Promise<Response> {
  const rt = c.get('rt');
  const { id, provider: name, job_id: jobId, redelivered_as: latest } = delivery;
  const provider = findProvider(name);
  if (jobId === null || provider === undefined) return wrongState('This delivery has become no job.');
  const job = await findJob(rt, latest ?? jobId);
  if (job !== undefined && !isFinal(job.state))
    return wrongState(`Its job ${job.id} is ${job.state}; it has not ended.`);
  const raw = rawKey(name, jobId);
  const stored = await storedRequest(rt, raw);
  if (stored === 'silent') return problem(PAYLOAD_SILENT);
  if (stored === 'gone') return wrongState('Its body is no longer kept.');
  const now = rt.clock.now();
  const reading = await provider.read(stored, now);
  if (reading.kind !== 'event') return wrongState('Its body says nothing that becomes a job.');
  const origin = { id: newId(now, rt.random.bytes(9)), now, raw, retryOf: jobId };
  const envelope = envelopeOf(provider, stored, reading.event, origin);
  const enqueued = await commit(rt, { envelope, mode: 'new' });
  if (enqueued.kind === 'accepted') await select(rt, markRedelivered(id, enqueued.id));
  return answerEnqueued(enqueued);
}

async function storedRequest(rt: Runtime, key: string): Promise<WebhookRequest | 'gone' | 'silent'> {
  try {
    const read = rt.env.OBJECTS.get(key).then(
      async (object) => object && requestOf(object, await object.arrayBuffer()),
    );
    const answer = await within(rt.clock, PAYLOAD_DEADLINE_MS, read);
    return answer.inTime ? (answer.value ?? 'gone') : 'silent';
  } catch (error) {
    logError('payload.silent', error, { key });
    return 'silent';
  }
}

function requestOf({ customMetadata, httpMetadata }: R2Object, body: ArrayBuffer): WebhookRequest {
  const headers = new Headers(customMetadata);
  headers.set('content-type', httpMetadata?.contentType ?? 'application/json');
  return new WebhookRequest(headers, new Uint8Array(body));
}

function wrongState(detail: string): Response {
  return problem({ kind: 'wrong_state', detail });
}

function deliveryJson({ v: _, received_at, job_id, ...delivery }: DeliveryRow): Record<string, unknown> {
  return {
    ...delivery,
    job_id,
    status_url: job_id === null ? null : statusUrl(job_id),
    received_at: formatInstant(received_at),
  };
}
