// GitHub: `X-Hub-Signature-256` over the raw body, JSON or form. The delivery id is not signed, so a digest of what is
// signed counts too. https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries

import { sha256Hex } from '../core/digest.ts';
import { digestFromHex, verifyHmac } from '../core/hmac.ts';
import { parseJson, type Json } from '../core/json.ts';
import { GITHUB_TOKEN_TTL_MS, MAX_EVENT_ID_CHARS } from '../core/limits.ts';
import { configured, type Provider, type Reading, type WebhookRequest } from './provider.ts';

const PREFIX = 'sha256=';

/**
 * Two dispatches may be equal to the byte and still be two events: nothing in them ever differs. Told by what is signed;
 * the header that names the event is not.
 */
function isDispatch(payload: Json): boolean {
  if (payload === null || typeof payload !== 'object') return false;
  return 'client_payload' in payload || ('workflow' in payload && 'inputs' in payload);
}

export const github: Provider = {
  name: 'github',
  secrets: (env) => configured(env.GITHUB_WEBHOOK_SECRET, env.GITHUB_WEBHOOK_SECRET_PREVIOUS),
  async verify({ headers, body }, secrets) {
    const header = headers.get('x-hub-signature-256') ?? '';
    const signature = header.startsWith(PREFIX) ? digestFromHex(header.slice(PREFIX.length)) : undefined;
    if (signature === undefined) return false;
    const verdicts = await Promise.all(secrets.map((secret) => verifyHmac(secret, body, signature)));
    return verdicts.includes(true);
  },
  read(request) {
    const event = request.headers.get('x-github-event');
    if (event === null || !/^[a-z0-9_]{1,100}$/.test(event)) return malformed('X-GitHub-Event is missing or odd');
    if (event === 'ping') return { kind: 'ignored' };
    const text = payloadText(request);
    if (text === undefined) return malformed('the form has no field "payload"');
    const payload = parseJson(text);
    if (!payload.ok) return malformed(`${payload.path === '' ? 'body' : payload.path}: ${payload.message}`);
    const delivery = request.headers.get('x-github-delivery');
    return {
      kind: 'event',
      event: {
        event,
        // A header: anybody may have made it long.
        eventId: delivery?.slice(0, MAX_EVENT_ID_CHARS) ?? null,
        payload: payload.value,
        tokens: tokensOf(payload.value, delivery, request.body),
      },
    };
  },
};

function tokensOf(payload: Json, delivery: string | null, body: Uint8Array): { token: string; ttlMs: number }[] {
  const tokens = delivery === null ? [] : [`delivery:${sha256Hex(delivery)}`];
  // The digest comes last: what is signed decides, not a header that anyone can set.
  if (delivery === null || !isDispatch(payload)) tokens.push(`body:${sha256Hex(body)}`);
  return tokens.map((token) => ({ token, ttlMs: GITHUB_TOKEN_TTL_MS }));
}

function payloadText({ headers, body }: WebhookRequest): string | undefined {
  // Lenient on purpose: the bytes are signed, and an odd one in somebody's commit message must not lose the event.
  const text = new TextDecoder().decode(body);
  const form = headers.get('content-type')?.toLowerCase().startsWith('application/x-www-form-urlencoded') === true;
  return form ? (new URLSearchParams(text).get('payload') ?? undefined) : text;
}

function malformed(detail: string): Reading {
  return { kind: 'malformed', detail };
}
