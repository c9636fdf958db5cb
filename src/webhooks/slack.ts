// Slack: events as JSON, commands and interactions as forms, one signature for all: `v0:{timestamp}:{raw body}`.
// https://docs.slack.dev/authentication/verifying-requests-from-slack

import { canonicalJson, parseJson } from '../core/json.ts';
import { sha256Hex } from '../core/digest.ts';
import { digestFromHex, verifyHmac, messageOf } from '../core/hmac.ts';
import { MAX_SMALL_WEBHOOK_BODY_BYTES, SIGNATURE_WINDOW_SECONDS, SLACK_ANSWER_MS } from '../core/limits-outside.ts';
import type { IdentityToken } from '../core/envelope.ts';
import { eventName, idOf, token } from '../providers/identity.ts';
import { isTimely, malformed, objectIn, tenDigits, type JsonObject, type Provider, type Reading } from './provider.ts';
import { lastField, objectOf, type Fields, type WebhookRequest } from './request.ts';

const PREFIX = 'v0=';

/** What somebody who typed a command is told while nothing can be taken: Slack does not ask twice. */
const TRY_AGAIN = {
  response_type: 'ephemeral',
  text: 'That may not have got through. Please look before you try again.',
};

export const slack: Provider = {
  name: 'slack',
  maxBodyBytes: MAX_SMALL_WEBHOOK_BODY_BYTES,
  triesAgain: true,
  signsBody: true,
  answerWithinMs: SLACK_ANSWER_MS,
  // What is refused now is refused every time.
  refusal: { headers: { 'x-slack-no-retry': '1' } },
  readsHeaders: [],
  secret: { name: 'SLACK_SIGNING_SECRET', encoding: 'text' },
  async verify(request, keys, now) {
    const timestamp = request.header('x-slack-request-timestamp');
    const header = request.header('x-slack-signature');
    const at = tenDigits(timestamp);
    if (at === undefined || !header.startsWith(PREFIX)) return 'bad';
    const signed = messageOf(`v0:${timestamp}:`, request.body);
    if (!(await verifyHmac(keys, signed, digestFromHex(header.slice(PREFIX.length))))) return 'bad';
    return isTimely(at, now, SIGNATURE_WINDOW_SECONDS, SIGNATURE_WINDOW_SECONDS) ? 'good' : 'stale';
  },
  async read(request) {
    const fields = await request.fields();
    if (fields !== undefined) return readForm(fields, request);
    const json = request.json();
    return json.ok ? readEvent(objectIn(json.value), request) : malformed(`body: ${json.message}`);
  },
};

function readEvent(body: JsonObject, { body: bytes }: WebhookRequest): Reading {
  const { type, challenge, event_id: id, token: _, ...payload } = body;
  if (type === 'url_verification') {
    if (typeof challenge !== 'string') return malformed('challenge: missing');
    return { kind: 'handshake', event: type, text: challenge };
  }
  if (type === 'event_callback') {
    const inner = objectIn(payload['event']);
    if (isOurOwn(inner, payload)) return { kind: 'ignored', event: eventName(inner['type']) };
    const tokens = [typeof id === 'string' && id !== '' ? token('event', id) : digestToken(bytes)];
    const kept = { type, event_id: id ?? null, ...payload };
    return { kind: 'event', event: { event: eventName(inner['type']), eventId: idOf(id), payload: kept, tokens } };
  }
  // It asks us to slow down, or says something that did not exist yet when this was written.
  const event = { event: eventName(type), eventId: null, payload: { type: type ?? null, ...payload } };
  return { kind: 'event', event: { ...event, tokens: [digestToken(bytes)] } };
}

// What our own bot posts comes back as an event; whoever answers it talks to himself for ever.
function isOurOwn(event: JsonObject, { authorizations, api_app_id: app }: JsonObject): boolean {
  if (event['bot_id'] === undefined) return false;
  if (event['app_id'] !== undefined && event['app_id'] === app) return true;
  const ours = Array.isArray(authorizations) ? authorizations.map(objectIn) : [];
  return ours.some(({ is_bot: bot, user_id: user }) => bot === true && user !== undefined && user === event['user']);
}

function readForm(fields: Fields, request: WebhookRequest): Reading {
  if (lastField(fields, 'ssl_check') === '1') return { kind: 'ignored', event: 'ssl_check' };
  const text = lastField(fields, 'payload');
  if (text !== '') return readInteraction(text, request);
  if (lastField(fields, 'command') === '') return malformed('neither "payload" nor "command" is in the form');
  const { token: _, ...payload } = objectOf(fields);
  const id = lastField(fields, 'trigger_id');
  const tokens = [id === '' ? digestToken(request.body) : token('trigger', 'command', id)];
  const event = { event: 'slash_command', eventId: idOf(id), payload, tokens };
  return { kind: 'event', event: { ...event, reply: { notTaken: TRY_AGAIN } } };
}

function readInteraction(text: string, { body }: WebhookRequest): Reading {
  const json = parseJson(text);
  if (!json.ok) return malformed(`payload: ${json.message}`);
  const { token: _, ...payload } = objectIn(json.value);
  const tokens = [interactionToken(payload) ?? digestToken(body)];
  const event = { event: eventName(payload['type']), eventId: idOf(payload['trigger_id']), payload, tokens };
  return { kind: 'event', event: { ...event, reply: { notTaken: undefined } } };
}

function interactionToken(payload: JsonObject): IdentityToken | undefined {
  const { type, trigger_id: trigger, user, actions } = payload;
  const view = objectIn(payload['view']);
  // Sent twice by an impatient person, it is the same view with the same answers under another trigger.
  if (type === 'view_submission' && typeof view['hash'] === 'string') {
    return token('view', sha256Hex(canonicalJson([view, user ?? null])));
  }
  if (typeof trigger !== 'string') return undefined;
  const at = payload['action_ts'] ?? objectIn(Array.isArray(actions) ? actions[0] : undefined)['action_ts'];
  return token('trigger', eventName(type), trigger, typeof at === 'string' ? at : '');
}

// A body without an id of its own. The same may rightly come again; a replay only as long as its signature is young.
function digestToken(body: Uint8Array): IdentityToken {
  return { ...token('body', sha256Hex(body)), ttlMs: 3 * SIGNATURE_WINDOW_SECONDS * 1_000 };
}
