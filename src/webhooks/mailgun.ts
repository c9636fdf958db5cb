// Mailgun: events as JSON, inbound routes and legacy events as forms. Only the time and the token are signed, never what
// is said beside them, so a token counts once whatever it comes with.
// https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks

import { digestFromHex, verifyHmac, messageOf } from '../core/hmac.ts';
import type { Json } from '../core/json.ts';
import {
  MAILGUN_WINDOW_HOURS,
  MAX_MAILGUN_WINDOW_HOURS,
  MAX_WEBHOOK_BODY_BYTES,
  SIGNATURE_WINDOW_SECONDS,
  WEBHOOK_ANSWER_MS,
} from '../core/limits-outside.ts';
import type { Env } from '../env.ts';
import { eventName, idOf, mailgunEventTokens, token } from '../providers/identity.ts';
import {
  isTimely,
  malformed,
  objectIn,
  tenDigits,
  type JsonObject,
  type Provider,
  type WebhookEvent,
} from './provider.ts';
import { lastField, objectOf, type Fields, type WebhookRequest } from './request.ts';

export const mailgun: Provider = {
  name: 'mailgun',
  maxBodyBytes: MAX_WEBHOOK_BODY_BYTES,
  triesAgain: true,
  answerWithinMs: WEBHOOK_ANSWER_MS,
  // It stops at 406 and tries everything else again, for hours.
  refusal: { status: 406 },
  readsHeaders: [],
  secret: { name: 'MAILGUN_SIGNING_KEY', encoding: 'text' },
  async verify(request, keys, now, env) {
    const { timestamp, token: once, signature } = await signedPart(request);
    const at = tenDigits(timestamp);
    if (at === undefined || !/^[\x21-\x7e]{20,100}$/.test(once)) return 'bad';
    const good = await verifyHmac(keys, messageOf(timestamp + once), digestFromHex(signature));
    if (!good) return 'bad';
    return isTimely(at, now, 3_600 * windowHours(env), SIGNATURE_WINDOW_SECONDS) ? 'good' : 'stale';
  },
  async read(request) {
    const fields = await request.fields();
    const { token: once } = await signedPart(request);
    if (fields !== undefined) return { kind: 'event', event: formEvent(fields, once) };
    const json = request.json();
    const data = json.ok ? objectIn(json.value)['event-data'] : undefined;
    if (data === undefined) return malformed('the block "event-data" is missing');
    return { kind: 'event', event: jsonEvent(objectIn(data), once) };
  },
};

/** How long after its signature a delivery may come. Retries end after 8 h, tokens are forgotten after 7 days. */
function windowHours({ MAILGUN_WINDOW_HOURS: wanted }: Env): number {
  const hours = Number(wanted);
  return hours > 0 ? Math.min(hours, MAX_MAILGUN_WINDOW_HOURS) : MAILGUN_WINDOW_HOURS;
}

interface SignedPart {
  readonly timestamp: string;
  readonly token: string;
  readonly signature: string;
}

async function signedPart(request: WebhookRequest): Promise<SignedPart> {
  const fields = await request.fields();
  if (fields !== undefined) {
    const [timestamp, once, signature] = ['timestamp', 'token', 'signature'].map((name) => lastField(fields, name));
    return { timestamp: timestamp ?? '', token: once ?? '', signature: signature ?? '' };
  }
  const json = request.isForm ? undefined : request.json();
  const block = json?.ok === true ? objectIn(objectIn(json.value)['signature']) : {};
  // The documentation says number, every request says text; signed is what is written.
  return {
    timestamp: textOf(block['timestamp']),
    token: textOf(block['token']),
    signature: textOf(block['signature']),
  };
}

function textOf(value: Json | undefined): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

function jsonEvent(data: JsonObject, once: string): WebhookEvent {
  // The token comes last: it is what is signed.
  const tokens = [...mailgunEventTokens(data), token('token', once)];
  return { event: eventName(data['event']), eventId: idOf(data['id']), payload: data, tokens };
}

const SIGNATURE_FIELDS = ['token', 'signature'];

// A route's mail has no "event"; a legacy event has. A route that stores says where instead of sending the files.
function formEvent(fields: Fields, once: string): WebhookEvent {
  const payload = objectOf(fields.filter(([name]) => !SIGNATURE_FIELDS.includes(name)));
  const legacy = lastField(fields, 'event');
  const event = legacy === '' ? (lastField(fields, 'message-url') === '' ? 'inbound' : 'stored') : eventName(legacy);
  const messageId = lastField(fields, 'Message-Id');
  return { event, eventId: idOf(messageId), payload, tokens: [token('token', once)] };
}
