// Mailgun: events as JSON, inbound routes and legacy events as forms. Only the time and the token are signed, never what
// is said beside them, so a token counts once whatever it comes with.
// https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks

import { digestFromHex, messageOf, verifyHmac, type Key } from '../core/hmac.ts';
import { parseJson, type Json } from '../core/json.ts';
import {
  MAILGUN_WINDOW_HOURS,
  MAX_MAILGUN_WINDOW_HOURS,
  MAX_UNVERIFIED_JSON_BYTES,
  MAX_WEBHOOK_BODY_BYTES,
  SIGNATURE_WINDOW_SECONDS,
  WEBHOOK_ANSWER_MS,
} from '../core/limits-outside.ts';
import type { Env } from '../env.ts';
import { eventName, idOf, mailgunEventTokens, token } from '../providers/identity.ts';
import {
  bestOf,
  isTimely,
  malformed,
  objectIn,
  tenDigits,
  type JsonObject,
  type Provider,
  type Signature,
  type WebhookEvent,
} from './provider.ts';
import { lastField, objectOf, type Fields, type WebhookRequest } from './request.ts';

export const mailgun: Provider = {
  name: 'mailgun',
  maxBodyBytes: MAX_WEBHOOK_BODY_BYTES,
  triesAgain: true,
  signsBody: false,
  answerWithinMs: WEBHOOK_ANSWER_MS,
  // It stops at 406 and tries everything else again, for hours.
  refusal: { status: 406 },
  readsHeaders: [],
  secret: { name: 'MAILGUN_SIGNING_KEY', encoding: 'text' },
  async verify(request, keys, now, env) {
    if (request.isJson && request.body.byteLength > MAX_UNVERIFIED_JSON_BYTES) {
      // It has to show a good signature before it is taken apart; which one is its own is seen only then.
      const shown = await Promise.all(shownParts(request).map((part) => verifyPart(part, keys, now, env)));
      if (bestOf(shown) !== 'good') return bestOf(shown);
    }
    return verifyPart(await signedPart(request), keys, now, env);
  },
  async read(request) {
    const fields = await request.fields();
    if (fields !== undefined) return { kind: 'event', event: formEvent(fields) };
    const json = request.json();
    const members = json.ok ? objectIn(json.value) : {};
    if (members['event-data'] === undefined) return malformed('the block "event-data" is missing');
    return { kind: 'event', event: jsonEvent(objectIn(members['event-data']), partOf(members['signature']).token) };
  },
};

async function verifyPart(part: SignedPart, keys: readonly Key[], now: number, env: Env): Promise<Signature> {
  const at = tenDigits(part.timestamp);
  if (at === undefined || !/^[\x21-\x7e]{20,100}$/.test(part.token)) return 'bad';
  const signed = messageOf(part.timestamp + part.token);
  if (!(await verifyHmac(keys, signed, digestFromHex(part.signature)))) return 'bad';
  return isTimely(at, now, 3_600 * windowHours(env), SIGNATURE_WINDOW_SECONDS) ? 'good' : 'stale';
}

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

// It is in the body, so the body is read before anybody knows who sent it.
async function signedPart(request: WebhookRequest): Promise<SignedPart> {
  const fields = await request.fields();
  if (fields !== undefined) return partOfForm(fields);
  const json = request.isJson ? request.json() : undefined;
  return partOf(json?.ok === true ? objectIn(json.value)['signature'] : undefined);
}

/** Whatever looks like a signature in the text of a body that is not parsed yet. */
function shownParts(request: WebhookRequest): readonly SignedPart[] {
  const blocks = [...request.text().matchAll(SIGNATURE_BLOCK)].slice(0, MOST_BLOCKS);
  return blocks.flatMap(([, block]) => {
    const json = parseJson(block ?? '');
    return json.ok ? [partOf(json.value)] : [];
  });
}

const SIGNATURE_BLOCK = /"signature"\s{0,20}:\s{0,20}(\{[^{}]{1,1000}\})/g;
const MOST_BLOCKS = 5;

function partOfForm(fields: Fields): SignedPart {
  const [timestamp = '', once = '', signature = ''] = ['timestamp', 'token', 'signature'].map((name) =>
    lastField(fields, name),
  );
  return { timestamp, token: once, signature };
}

// The documentation says number, every request says text; signed is what is written.
function partOf(block: Json | undefined): SignedPart {
  const { timestamp, token: once, signature } = objectIn(block);
  return { timestamp: textOf(timestamp), token: textOf(once), signature: textOf(signature) };
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
/** What only a route has. Told before anything else: whoever writes a mail names the other fields. */
const MAIL_FIELDS = ['body-plain', 'body-html', 'body-mime', 'stripped-text', 'stripped-html', 'message-url'];

function formEvent(fields: Fields): WebhookEvent {
  const payload = objectOf(fields.filter(([name]) => !SIGNATURE_FIELDS.includes(name)));
  const isMail = fields.some(([name]) => MAIL_FIELDS.includes(name));
  const event = isMail || lastField(fields, 'event') === '' ? 'inbound' : eventName(lastField(fields, 'event'));
  const tokens = [token('token', partOfForm(fields).token)];
  return { event, eventId: idOf(lastField(fields, 'Message-Id')), payload, tokens };
}
