// GitHub: `X-Hub-Signature-256` over the raw body, JSON or form. The delivery id is not signed, so a digest of what is
// signed counts too. https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries

import { sha256Hex } from '../core/digest.ts';
import { digestFromHex, verifyHmac } from '../core/hmac.ts';
import { parseJson, type Json, type ParsedJson } from '../core/json.ts';
import {
  GITHUB_TOKEN_TTL_MS,
  MAX_PARSED_WEBHOOK_BYTES,
  MAX_WEBHOOK_BODY_BYTES,
  WEBHOOK_ANSWER_MS,
} from '../core/limits-outside.ts';
import type { IdentityToken } from '../core/envelope.ts';
import { githubDeliveryToken, idOf } from '../providers/identity.ts';
import { malformed, objectIn, type Provider } from './provider.ts';
import { lastField, type WebhookRequest } from './request.ts';

const PREFIX = 'sha256=';

export const github: Provider = {
  name: 'github',
  maxBodyBytes: MAX_WEBHOOK_BODY_BYTES,
  triesAgain: false,
  answerWithinMs: WEBHOOK_ANSWER_MS,
  readsHeaders: ['x-github-event', 'x-github-delivery'],
  secret: { name: 'GITHUB_WEBHOOK_SECRET', encoding: 'text' },
  async verify(request, keys) {
    const header = request.header('x-hub-signature-256');
    const signature = header.startsWith(PREFIX) ? digestFromHex(header.slice(PREFIX.length)) : undefined;
    return (await verifyHmac(keys, request.body, signature)) ? 'good' : 'bad';
  },
  async read(request) {
    const event = request.header('x-github-event');
    if (!/^[a-z0-9_]{1,100}$/.test(event)) return malformed('X-GitHub-Event is missing or odd');
    if (event === 'ping') return { kind: 'ignored', event };
    // A payload that large is no dispatch, and has its digest for a token: nobody here needs to look into it.
    const looked = request.body.byteLength <= MAX_PARSED_WEBHOOK_BYTES;
    const payload = looked ? await payloadOf(request) : undefined;
    if (payload?.ok === false) {
      return malformed(`${payload.path === '' ? 'body' : payload.path}: ${payload.message}`);
    }
    const delivery = idOf(request.header('x-github-delivery'));
    const tokens = tokensOf(payload?.value, delivery, request.body);
    return { kind: 'event', event: { event, eventId: delivery, payload: payload?.value, tokens } };
  },
};

async function payloadOf(request: WebhookRequest): Promise<ParsedJson> {
  const fields = await request.fields();
  if (fields === undefined) return request.json();
  const text = lastField(fields, 'payload');
  return text === '' ? { ok: false, path: '', message: 'the form has no field "payload"' } : parseJson(text);
}

function tokensOf(payload: Json | undefined, delivery: string | null, body: Uint8Array): readonly IdentityToken[] {
  const tokens = delivery === null ? [] : [githubDeliveryToken(delivery)];
  if (delivery !== null && isDispatch(payload)) return tokens;
  // The digest comes last: what is signed decides, not a header that anyone can set.
  return [...tokens, { token: `body:${sha256Hex(body)}`, ttlMs: GITHUB_TOKEN_TTL_MS }];
}

/**
 * Two dispatches may be equal to the byte and still be two events: nothing in them ever differs. Told by what is signed;
 * the header that names the event is not.
 */
function isDispatch(payload: Json | undefined): boolean {
  const members = objectIn(payload);
  return 'client_payload' in members || ('workflow' in members && 'inputs' in members);
}
