// GitHub: `X-Hub-Signature-256` over the raw body, JSON or form. The delivery id is not signed, so a digest of what is
// signed counts too. https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries

import { sha256Hex } from '../core/digest.ts';
import { digestFromHex, verifyHmac } from '../core/hmac.ts';
import { parseJson, type Json } from '../core/json.ts';
import {
  DATED_WITHIN_MS,
  GITHUB_TOKEN_TTL_MS,
  MAX_PARSED_WEBHOOK_BYTES,
  MAX_WEBHOOK_BODY_BYTES,
  UNDATED_TOKEN_TTL_MS,
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
  signsBody: true,
  answerWithinMs: WEBHOOK_ANSWER_MS,
  readsHeaders: ['x-github-event', 'x-github-delivery'],
  secret: { name: 'GITHUB_WEBHOOK_SECRET', encoding: 'text' },
  async verify(request, keys) {
    const header = request.header('x-hub-signature-256');
    const signature = header.startsWith(PREFIX) ? digestFromHex(header.slice(PREFIX.length)) : undefined;
    return (await verifyHmac(keys, request.body, signature)) ? 'good' : 'bad';
  },
  async read(request, now) {
    const event = request.header('x-github-event');
    if (!/^[a-z0-9_]{1,100}$/.test(event)) return malformed('X-GitHub-Event is missing or odd');
    if (event === 'ping') return { kind: 'ignored', event };
    // A payload that large is no dispatch, and has its digest for a token: nobody here needs to look into it.
    const looked = request.body.byteLength <= MAX_PARSED_WEBHOOK_BYTES;
    const text = looked ? await textOf(request) : undefined;
    const payload = text === undefined ? undefined : parseJson(text);
    if (payload?.ok === false) {
      return malformed(`${payload.path === '' ? 'body' : payload.path}: ${payload.message}`);
    }
    const delivery = idOf(request.header('x-github-delivery'));
    const tokens = delivery === null ? [] : [githubDeliveryToken(delivery)];
    // The digest comes last: what is signed decides, not a header that anyone can set.
    if (delivery === null || !isDispatch(payload?.value)) tokens.push(digestToken(request.body, text, now));
    return { kind: 'event', event: { event, eventId: delivery, payload: payload?.value, tokens } };
  },
};

async function textOf(request: WebhookRequest): Promise<string> {
  const fields = await request.fields();
  return fields === undefined ? request.text() : lastField(fields, 'payload');
}

/**
 * Somebody who joins a team, leaves it and joins again makes the same bytes twice, and both are events: a body without
 * the time of its event counts for as long as copies of one may come.
 */
function digestToken(body: Uint8Array, text: string | undefined, now: number): IdentityToken {
  const ttlMs = text === undefined || isDated(text, now) ? GITHUB_TOKEN_TTL_MS : UNDATED_TOKEN_TTL_MS;
  return { token: `body:${sha256Hex(body)}`, ttlMs };
}

function isDated(text: string, now: number): boolean {
  const iso = [...text.matchAll(ISO)].map(([each]) => Date.parse(each));
  const epoch = [...text.matchAll(EPOCH)].map(([, seconds]) => 1_000 * Number(seconds));
  return [...iso, ...epoch].some((at) => Math.abs(now - at) <= DATED_WITHIN_MS);
}

const ISO = /\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})/g;
const EPOCH = /"(?:pushed|created|updated)_at":\s{0,5}(\d{10})\b/g;

/**
 * Two dispatches may be equal to the byte and still be two events: nothing in them ever differs. Told by what is signed;
 * the header that names the event is not.
 */
function isDispatch(payload: Json | undefined): boolean {
  const members = objectIn(payload);
  return 'client_payload' in members || ('workflow' in members && 'inputs' in members);
}
