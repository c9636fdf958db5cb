// A verified delivery becomes one job, however often and however concurrently it comes.

import { derivedId, newId } from '../core/ids.ts';
import { within } from '../core/deadline.ts';
import type { Envelope, Identity } from '../core/envelope.ts';
import { formatInstant } from '../core/instant.ts';
import { byteLength, type Json } from '../core/json.ts';
import { MAX_PAYLOAD_BYTES, PAYLOAD_DEADLINE_MS } from '../core/limits.ts';
import { commit, itemOf, requestOf, type Enqueued } from '../jobs/enqueue.ts';
import type { Item } from '../jobs/flush.ts';
import { logError } from '../jobs/log.ts';
import { claimTokens } from '../jobs/replay.ts';
import { toEnvelope } from '../jobs/request.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { metadata, rawKey } from '../store/payloads.ts';
import { processWebhook } from '../tasks/webhooks/process-webhook.ts';
import type { Provider, WebhookEvent } from '../webhooks/provider.ts';
import type { WebhookRequest } from '../webhooks/request.ts';

/** Resolves once the delivery is durable, or nobody knows whether it is. Never rejects. */
export async function takeIn(
  rt: Runtime,
  provider: Provider,
  request: WebhookRequest,
  event: WebhookEvent,
): Promise<Enqueued> {
  const now = rt.clock.now();
  const identity: Identity = { scope: provider.name, tokens: [...event.tokens] };
  const claiming = await claimTokens(rt, identity, proposedId(rt, provider, identity, now), now);
  if (claiming.kind === 'conflict') return claiming;
  const envelope = envelopeOf(provider, request, event, { id: claiming.id, now });
  if (claiming.kind === 'claimed') return keepAndCommit(rt, provider, request, itemOf(rt, envelope, claiming));
  if (provider.triesAgain) return { kind: 'unknown' };
  // Refused now it would be lost. Its consumer asks the guard before it runs.
  const unclaimed = { ...envelope, options: { ...envelope.options, unclaimed: identity } };
  return keepAndCommit(rt, provider, request, { envelope: unclaimed, mode: 'again' });
}

// Of a sender that does not try again the id is derived, so that copies of one minute meet in one row while the guard is
// silent; and it is proposed to the guard in any case, which may have stored it although its answer was lost.
function proposedId(rt: Runtime, { triesAgain }: Provider, identity: Identity, now: number): string {
  if (triesAgain) return newId(now, rt.random.bytes(9));
  return derivedId(now - (now % MINUTE_MS), JSON.stringify(identity.tokens.map(({ token }) => token)));
}

const MINUTE_MS = 60_000;

/** The job that a delivery is, under an id of its own. Reads nothing and keeps nothing. */
export function envelopeOf(
  provider: Provider,
  { headers, body }: WebhookRequest,
  { event, eventId, payload }: WebhookEvent,
  { id, now, raw = rawKey(provider.name, id), retryOf }: { id: string; now: number; raw?: string; retryOf?: string },
): Envelope {
  const input = {
    webhook_type: provider.name,
    event,
    event_id: eventId,
    received_at: formatInstant(now),
    source_ip: headers.get('cf-connecting-ip'),
    bytes: body.byteLength,
    raw_key: raw,
    webhook_data: payload !== undefined && fits(payload, body.byteLength) ? payload : null,
  };
  const origin = { id, now, source: `webhook:${provider.name}`, ...(retryOf === undefined ? {} : { retryOf }) };
  return toEnvelope(requestOf(processWebhook, input), origin);
}

// An odd byte of the body may be six in the job. The rest of the input is short.
function fits(payload: Json, bodyBytes: number): boolean {
  const most = MAX_PAYLOAD_BYTES - 4_096;
  return bodyBytes <= most / 6 || byteLength(JSON.stringify(payload)) <= most;
}

// A payload that is in the job survives without its stored copy, so nobody waits for that; one that is not in the job is
// worthless without. A copy of a delivery that is a job already keeps nothing.
async function keepAndCommit(
  rt: Runtime,
  provider: Provider,
  request: WebhookRequest,
  item: Item | Enqueued,
): Promise<Enqueued> {
  if (!('envelope' in item)) return item;
  const { envelope, mode } = item;
  const proven = provider.signsBody || mode === 'new' ? item : { ...item, unproven: true as const };
  const keep = (): Promise<boolean> => keepRaw(rt, provider, request, envelope, mode);
  if (!hasPayload(envelope)) return (await keep()) ? commit(rt, proven) : { kind: 'unknown' };
  if (mode === 'new') rt.waitUntil(keep());
  const enqueued = await commit(rt, proven);
  if (mode === 'again' && enqueued.kind === 'accepted' && !enqueued.replayed) rt.waitUntil(keep());
  return enqueued;
}

function hasPayload(envelope: Envelope): boolean {
  // Made a moment ago by envelopeOf.
  return envelope.v === 1 && (envelope.input as { webhook_data: Json }).webhook_data !== null;
}

async function keepRaw(
  rt: Runtime,
  { name, readsHeaders }: Provider,
  { headers, body }: WebhookRequest,
  { id, acceptedAt }: Envelope,
  mode: Item['mode'],
): Promise<boolean> {
  const key = rawKey(name, id);
  const kept = metadata(headers.get('content-type') ?? 'application/octet-stream', acceptedAt);
  const read = readsHeaders.flatMap((header) => {
    const value = headers.get(header);
    return value === null ? [] : [[header, value.slice(0, MAX_KEPT_HEADER_CHARS)] as const];
  });
  const customMetadata = { ...kept.customMetadata, ...Object.fromEntries(read) };
  try {
    // A copy never replaces what was kept first: of Mailgun's it may say anything.
    const onlyIf = mode === 'again' ? { onlyIf: new Headers({ 'if-none-match': '*' }) } : {};
    const putting = rt.env.OBJECTS.put(key, body, { ...kept, customMetadata, ...onlyIf });
    const { inTime } = await within(rt.clock, PAYLOAD_DEADLINE_MS, putting);
    if (inTime) return true;
    throw new Error('The store did not answer in time.');
  } catch (error) {
    logError('webhook.raw_not_kept', error, { key, bytes: body.byteLength });
    return false;
  }
}

/** R2 keeps 8 KB of metadata with an object. */
const MAX_KEPT_HEADER_CHARS = 500;
