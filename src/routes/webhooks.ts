// POST /webhooks/:provider: size, signature, meaning, job. Nothing is written for what is refused.

import type { Context } from 'hono';
import { within } from '../core/deadline.ts';
import { newId } from '../core/ids.ts';
import type { Env } from '../env.ts';
import type { Enqueued } from '../jobs/enqueue.ts';
import { logError } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import type { Verdict } from '../store/deliveries.ts';
import { keysOf, type Provider, type WebhookEvent } from '../webhooks/provider.ts';
import { findProvider } from '../webhooks/providers.ts';
import { WebhookRequest } from '../webhooks/request.ts';
import type { App } from './app.ts';
import { readBytes } from './body.ts';
import { takeIn } from './intake.ts';
import { NOT_TAKEN, problem, type Failure } from './problems.ts';

export async function receiveWebhook(c: Context<App>): Promise<Response> {
  const name = c.req.param('provider') ?? '';
  const provider = findProvider(name);
  if (provider === undefined) return problem({ kind: 'not_found', what: `webhook provider ${JSON.stringify(name)}` });
  return new Receiving(c.get('rt'), provider).answer(c.req.raw, c.env);
}

/** One request of a provider, from its headers to its answer. */
class Receiving {
  readonly #rt: Runtime;
  readonly #provider: Provider;
  readonly #receivedAt: number;
  #bytes = 0;

  constructor(rt: Runtime, provider: Provider) {
    this.#rt = rt;
    this.#provider = provider;
    this.#receivedAt = rt.clock.now();
  }

  async answer(raw: Request, env: Env): Promise<Response> {
    const { clock } = this.#rt;
    const provider = this.#provider;
    const keys = keysOf(provider, env);
    if (keys.length === 0)
      return this.#refuse('no_secret', {
        kind: 'not_configured',
        detail: `${provider.secret.name} is not set, or cannot be read.`,
      });
    const body = await readBytes(raw, provider.maxBodyBytes, clock);
    // Its own status: too large is too large, also for Mailgun.
    if (!body.ok) return this.#refuse(body.failure.kind, body.failure, undefined, provider.refusal?.headers);
    this.#bytes = body.value.byteLength;
    const request = new WebhookRequest(raw.headers, body.value);
    const signature = await provider.verify(request, keys, clock.now(), env);
    if (signature !== 'good') {
      return this.#refuseForGood({ kind: signature === 'stale' ? 'stale_signature' : 'bad_signature' });
    }
    const reading = await provider.read(request, clock.now());
    switch (reading.kind) {
      case 'malformed':
        return this.#refuseForGood({ kind: 'malformed', detail: reading.detail });
      case 'ignored':
        this.#record(reading.event, null, 'ignored', null);
        return Response.json({ status: 'ignored' });
      case 'handshake':
        this.#record(reading.event, null, 'handshake', null);
        return new Response(reading.text, { headers: { 'content-type': 'text/plain; charset=utf-8' } });
      case 'event':
        return this.#take(request, reading.event);
    }
  }

  async #take(request: WebhookRequest, event: WebhookEvent): Promise<Response> {
    const left = this.#provider.answerWithinMs - (this.#rt.clock.now() - this.#receivedAt);
    const taking = takeIn(this.#rt, this.#provider, request, event).catch((error: unknown): Enqueued => {
      logError('webhook.not_taken', error, { provider: this.#provider.name, event: event.event });
      return { kind: 'unknown' };
    });
    // It goes on when its sender is no longer kept waiting.
    this.#rt.waitUntil(taking);
    const taken = await within(this.#rt.clock, left, taking);
    if (!taken.inTime) {
      this.#rt.waitUntil(taking.then((late) => this.#recordTaken(event, late)));
      return this.#notTaken(event, 'unknown');
    }
    const enqueued = taken.value;
    if (enqueued.kind !== 'accepted') return this.#notTaken(event, enqueued.kind === 'full' ? 'full' : 'unknown');
    const status = this.#recordTaken(event, enqueued);
    const headers = { 'x-job-id': enqueued.id };
    // Exactly 200: Mailgun tries again on any other 2xx.
    if (event.reply !== undefined) return new Response(null, { headers });
    return Response.json({ status, job_id: enqueued.id }, { headers });
  }

  #recordTaken({ event, eventId }: WebhookEvent, enqueued: Enqueued): Verdict | undefined {
    if (enqueued.kind !== 'accepted') return undefined;
    const verdict = enqueued.replayed ? 'duplicate' : 'accepted';
    this.#record(event, eventId, verdict, enqueued.id);
    return verdict;
  }

  #notTaken({ reply }: WebhookEvent, why: keyof typeof NOT_TAKEN): Response {
    this.#rt.isolate.deliveries.refuse(this.#rt, this.#provider.name, 'unavailable');
    return reply?.notTaken === undefined ? problem(NOT_TAKEN[why]) : Response.json(reply.notTaken);
  }

  #refuseForGood(failure: Failure): Response {
    const { status, headers } = this.#provider.refusal ?? {};
    return this.#refuse(failure.kind, failure, status, headers);
  }

  #refuse(reason: string, failure: Failure, status?: number, headers?: Readonly<Record<string, string>>): Response {
    this.#rt.isolate.deliveries.refuse(this.#rt, this.#provider.name, reason);
    return problem(failure, status, headers);
  }

  #record(event: string, eventId: string | null, verdict: Verdict, jobId: string | null): void {
    const receivedAt = this.#receivedAt;
    this.#rt.isolate.deliveries.write(this.#rt, {
      id: newId(receivedAt, this.#rt.random.bytes(9)),
      provider: this.#provider.name,
      event,
      event_id: eventId,
      verdict,
      job_id: jobId,
      bytes: this.#bytes,
      latency_ms: this.#rt.clock.now() - receivedAt,
      received_at: receivedAt,
    });
  }
}
