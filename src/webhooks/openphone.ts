// OpenPhone (now Quo): two signature schemes, told apart by their headers, and three generations of payloads, all in use.
// https://support.quo.com/core-concepts/integrations/webhooks https://www.quo.com/docs/mdx/guides/webhooks

import { sha256Hex } from '../core/digest.ts';
import { digestFromBase64, verifyHmac, messageOf, type Key } from '../core/hmac.ts';
import {
  MAX_OPENPHONE_WINDOW_SECONDS,
  MAX_SMALL_WEBHOOK_BODY_BYTES,
  SIGNATURE_WINDOW_SECONDS,
  WEBHOOK_ANSWER_MS,
} from '../core/limits-outside.ts';
import type { IdentityToken } from '../core/envelope.ts';
import type { Env } from '../env.ts';
import { eventName, idOf, token } from '../providers/identity.ts';
import { normalise, type OpenphoneEvent } from './openphone-event.ts';
import { bestOf, isTimely, malformed, objectIn, tenDigits, type Provider, type Signature } from './provider.ts';
import type { WebhookRequest } from './request.ts';

export const openphone: Provider = {
  name: 'openphone',
  maxBodyBytes: MAX_SMALL_WEBHOOK_BODY_BYTES,
  triesAgain: true,
  signsBody: true,
  answerWithinMs: WEBHOOK_ANSWER_MS,
  readsHeaders: ['webhook-id'],
  secret: { name: 'OPENPHONE_SIGNING_KEY', encoding: 'base64' },
  async verify(request, keys, now, env) {
    return isStandard(request)
      ? verifyStandard(request, keys, now)
      : verifyLegacy(request, keys, now, windowSecondsOf(env));
  },
  read(request) {
    const json = request.json();
    if (!json.ok) return Promise.resolve(malformed(`body: ${json.message}`));
    if (Object.keys(objectIn(json.value)).length === 0) return Promise.resolve(malformed('body: no event'));
    const event = normalise(objectIn(json.value));
    const name = eventName(event.type);
    const eventId = idOf(isStandard(request) ? request.header('webhook-id') : event.id);
    const payload = { ...event, type: name };
    const tokens = tokensOf(request, name, event);
    return Promise.resolve({ kind: 'event', event: { event: name, eventId, payload, tokens } });
  },
};

function isStandard(request: WebhookRequest): boolean {
  return request.headers.has('webhook-id') || request.headers.has('webhook-signature');
}

/** Standard Webhooks: `{id}.{timestamp}.{raw body}`; of several signatures one has to fit. */
async function verifyStandard(request: WebhookRequest, keys: readonly Key[], now: number): Promise<Signature> {
  const id = request.header('webhook-id');
  const timestamp = request.header('webhook-timestamp');
  const at = tenDigits(timestamp);
  if (at === undefined || id === '') return 'bad';
  const signed = messageOf(`${id}.${timestamp}.`, request.body);
  const entries = request.header('webhook-signature').split(/,?\s+/).slice(0, MOST_SIGNATURES);
  return anyGood(
    entries.map((entry) => ({ signed, digest: entry.startsWith('v1,') ? entry.slice(3) : '', at })),
    keys,
    now,
    SIGNATURE_WINDOW_SECONDS,
  );
}

/** `hmac;1;{timestamp};{digest}`, perhaps several with commas between; `{timestamp}.{raw body}`. Milliseconds by evidence. */
async function verifyLegacy(
  request: WebhookRequest,
  keys: readonly Key[],
  now: number,
  windowSeconds: number,
): Promise<Signature> {
  const entries = request.header('openphone-signature').split(',').slice(0, MOST_SIGNATURES);
  const claims = entries.flatMap((entry) => {
    const [, timestamp, digest] = /^\s*hmac;1;(\d{10,13});([^;]*)$/.exec(entry) ?? [];
    if (timestamp === undefined || digest === undefined) return [];
    const at = timestamp.length >= 12 ? Number(timestamp) / 1_000 : Number(timestamp);
    return [{ signed: messageOf(`${timestamp}.`, request.body), digest: digest.trim(), at }];
  });
  return anyGood(claims, keys, now, windowSeconds);
}

/** How old a legacy delivery may be: whether one that is tried again is signed anew is not documented. */
function windowSecondsOf({ OPENPHONE_WINDOW_SECONDS: wanted }: Env): number {
  const seconds = Number(wanted);
  return seconds > 0 ? Math.min(seconds, MAX_OPENPHONE_WINDOW_SECONDS) : SIGNATURE_WINDOW_SECONDS;
}

/** Each is an HMAC over the whole body: whoever sends a thousand of them waits in vain. */
const MOST_SIGNATURES = 5;

interface Claim {
  readonly signed: Uint8Array<ArrayBuffer>;
  readonly digest: string;
  readonly at: number;
}

async function anyGood(
  claims: readonly Claim[],
  keys: readonly Key[],
  now: number,
  pastSeconds: number,
): Promise<Signature> {
  const verdicts = await Promise.all(
    claims.map(async ({ signed, digest, at }): Promise<Signature> => {
      if (!(await verifyHmac(keys, signed, digestFromBase64(digest)))) return 'bad';
      return isTimely(at, now, pastSeconds, SIGNATURE_WINDOW_SECONDS) ? 'good' : 'stale';
    }),
  );
  return bestOf(verdicts);
}

// While somebody moves from one kind of webhook to the other, the same event comes under both schemes, with two ids that
// have nothing in common. Within one scheme the ids alone decide: Quo's test events name the same message every time.
function tokensOf(request: WebhookRequest, type: string, event: OpenphoneEvent): readonly IdentityToken[] {
  const standard = isStandard(request);
  const transport = standard ? token('standard', request.header('webhook-id')) : legacyToken(request, type, event.id);
  const { id, callId, updatedAt } = event.resource;
  const about = idOf(id) ?? idOf(callId);
  if (about === null) return [transport];
  const both = token('event', type, about, typeof updatedAt === 'string' ? updatedAt : '');
  return [transport, { ...both, party: standard ? 'standard' : 'legacy' }];
}

function legacyToken({ body }: WebhookRequest, type: string, id: string): IdentityToken {
  return id === '' ? token('body', sha256Hex(body)) : token('legacy', id, type);
}
