// The providers, as they send: each signs what it signs, in its own words. Nothing here is taken from the code it tries.

export const SECRETS = {
  github: ['test-github-secret', 'test-github-secret-before'],
  mailgun: ['test-mailgun-key', 'test-mailgun-key-before'],
  slack: ['test-slack-secret', 'test-slack-secret-before'],
  openphone: ['dGVzdC1vcGVucGhvbmUta2V5AP8=', 'dGVzdC1vcGVucGhvbmUta2V5LWJlZm9yZQ=='],
} as const;

export type Bytes = Uint8Array<ArrayBuffer>;

/** What a test changes of an honest request. */
export interface Sending {
  secret?: string;
  /** Epoch seconds, as they are written. */
  timestamp?: string | number;
  /** The delivery's own id. */
  id?: string;
  /** Instead of the right one. */
  signature?: string;
  /** `null` takes a header away. */
  headers?: Readonly<Record<string, string | null>>;
  type?: string;
}

// A copy: what TextEncoder returns may share its memory, and a body may not.
function encode(text: string): Bytes {
  return new Uint8Array(new TextEncoder().encode(text));
}

export async function hmac(key: Bytes, message: Bytes): Promise<Bytes> {
  const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, message));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

export function fromBase64(text: string): Bytes {
  return Uint8Array.from(atob(text.replace(/^whsec_/, '')), (character) => character.charCodeAt(0));
}

export function bytesOf(body: Bytes | string): Bytes {
  return typeof body === 'string' ? encode(body) : body;
}

function joined(head: string, body: Bytes): Bytes {
  return new Uint8Array([...encode(head), ...body]);
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1_000);
}

function requestOf(provider: string, body: Bytes, headers: Record<string, string>, { headers: own }: Sending): Request {
  const all = new Headers(headers);
  for (const [name, value] of Object.entries(own ?? {})) {
    if (value === null) all.delete(name);
    else all.set(name, value);
  }
  return new Request(`http://lovage.test/webhooks/${provider}`, { method: 'POST', headers: all, body });
}

export async function fromGithub(body: Bytes | string, event = 'push', sending: Sending = {}): Promise<Request> {
  const bytes = bytesOf(body);
  const key = encode(sending.secret ?? SECRETS.github[0]);
  const headers = {
    'content-type': sending.type ?? 'application/json',
    'x-github-event': event,
    'x-github-delivery': sending.id ?? crypto.randomUUID(),
    'x-hub-signature-256': sending.signature ?? `sha256=${hex(await hmac(key, bytes))}`,
  };
  return requestOf('github', bytes, headers, sending);
}

export interface MailgunSignature {
  readonly timestamp: string;
  readonly token: string;
  readonly signature: string;
}

/** `id` is the token. */
export async function mailgunSignature(sending: Sending = {}): Promise<MailgunSignature> {
  const timestamp = String(sending.timestamp ?? nowSeconds());
  const token = sending.id ?? hex(crypto.getRandomValues(new Uint8Array(25)));
  const key = encode(sending.secret ?? SECRETS.mailgun[0]);
  return { timestamp, token, signature: sending.signature ?? hex(await hmac(key, encode(timestamp + token))) };
}

export async function fromMailgun(eventData: unknown, sending: Sending = {}): Promise<Request> {
  const signature = await mailgunSignature(sending);
  const body = encode(JSON.stringify({ signature, 'event-data': eventData }));
  return requestOf('mailgun', body, { 'content-type': sending.type ?? 'application/json' }, sending);
}

export async function formFromMailgun(
  fields: readonly (readonly [string, string])[],
  sending: Sending = {},
): Promise<Request> {
  const form = new URLSearchParams([...fields.map(([name, value]) => [name, value])]);
  for (const [name, value] of Object.entries(await mailgunSignature(sending))) form.append(name, String(value));
  const body = encode(form.toString());
  return requestOf('mailgun', body, { 'content-type': 'application/x-www-form-urlencoded' }, sending);
}

/** As a route sends mail that has attachments. */
export async function multipartFromMailgun(form: FormData, sending: Sending = {}): Promise<Request> {
  for (const [name, value] of Object.entries(await mailgunSignature(sending))) form.append(name, String(value));
  const written = new Response(form);
  const body = new Uint8Array(await written.arrayBuffer());
  return requestOf('mailgun', body, { 'content-type': written.headers.get('content-type') ?? '' }, sending);
}

export async function fromSlack(body: Bytes | string, sending: Sending = {}): Promise<Request> {
  const bytes = bytesOf(body);
  const timestamp = String(sending.timestamp ?? nowSeconds());
  const key = encode(sending.secret ?? SECRETS.slack[0]);
  const headers = {
    'content-type': sending.type ?? 'application/json',
    'x-slack-request-timestamp': timestamp,
    'x-slack-signature': sending.signature ?? `v0=${hex(await hmac(key, joined(`v0:${timestamp}:`, bytes)))}`,
  };
  return requestOf('slack', bytes, headers, sending);
}

/** A command, or with `{ payload }` an interaction. */
export function formFromSlack(fields: Readonly<Record<string, string>>, sending: Sending = {}): Promise<Request> {
  const type = 'application/x-www-form-urlencoded';
  return fromSlack(new URLSearchParams(fields).toString(), { type, ...sending });
}

/** The scheme of the app's own webhooks and of v1: milliseconds, one header. */
export async function fromOpenphone(body: Bytes | string, sending: Sending = {}): Promise<Request> {
  const bytes = bytesOf(body);
  const timestamp = String(sending.timestamp ?? Date.now());
  const key = fromBase64(sending.secret ?? SECRETS.openphone[0]);
  const digest = base64(await hmac(key, joined(`${timestamp}.`, bytes)));
  const headers = {
    'content-type': 'application/json',
    'openphone-signature': sending.signature ?? `hmac;1;${timestamp};${digest}`,
  };
  return requestOf('openphone', bytes, headers, sending);
}

/** Standard Webhooks, as Quo sends since 2026-03-30. */
export async function fromQuo(body: Bytes | string, sending: Sending = {}): Promise<Request> {
  const bytes = bytesOf(body);
  const timestamp = String(sending.timestamp ?? nowSeconds());
  const id = sending.id ?? `msg_${crypto.randomUUID()}`;
  const key = fromBase64(sending.secret ?? SECRETS.openphone[0]);
  const digest = base64(await hmac(key, joined(`${id}.${timestamp}.`, bytes)));
  const headers = {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': sending.signature ?? `v1,${digest}`,
  };
  return requestOf('openphone', bytes, headers, sending);
}

// What a fixture says, as it would be said for the first time now.

export interface Fixture {
  /** Below test/fixtures/webhooks. */
  readonly file: string;
  readonly text: string;
}

const files = import.meta.glob('../fixtures/webhooks/*/*/*', { query: '?raw', import: 'default', eager: true });

export const FIXTURES: readonly Fixture[] = Object.entries(files).map(([path, text]) => ({
  file: path.replace('../fixtures/webhooks/', ''),
  text,
}));

/** The request a fixture stands for, with an id, a token and a time of its own, signed. */
export async function send(fixture: Fixture, sending: Sending = {}): Promise<Request> {
  const [provider = '', folder = '', name = ''] = fixture.file.split('/');
  switch (provider) {
    case 'github':
      return fromGithub(fixture.text.replace(/\}\s*$/, `,"lovage_test":"${crypto.randomUUID()}"}`), folder, sending);
    case 'mailgun':
      return sendMailgun(fixture.text, name, sending);
    case 'slack':
      return sendSlack(fixture.text, name, sending);
    case 'openphone':
      return sendOpenphone(fixture.text, folder, sending);
    default:
      throw new Error(`Nobody sends ${fixture.file}.`);
  }
}

type Members = Record<string, unknown>;

function sendMailgun(text: string, name: string, sending: Sending): Promise<Request> {
  const said = JSON.parse(text) as Members;
  if (name.endsWith('.form.json')) {
    const fields = Object.entries(said)
      .filter(([field]) => !['timestamp', 'token', 'signature'].includes(field))
      .flatMap(([field, value]) =>
        (Array.isArray(value) ? value : [value]).map((each) => [field, String(each)] as const),
      );
    return formFromMailgun(fields, sending);
  }
  const data = name.endsWith('.event-data.json') ? said : (said['event-data'] as Members);
  return fromMailgun('id' in data ? { ...data, id: crypto.randomUUID() } : data, sending);
}

function sendSlack(text: string, name: string, sending: Sending): Promise<Request> {
  if (name.endsWith('.txt')) {
    const form = Object.fromEntries(new URLSearchParams(text.trim()));
    return formFromSlack({ ...form, trigger_id: crypto.randomUUID() }, sending);
  }
  const said = JSON.parse(text) as Members;
  const fresh = { ...said, ...('trigger_id' in said ? { trigger_id: crypto.randomUUID() } : {}) };
  if (['event_callback', 'url_verification', 'app_rate_limited'].includes(String(said['type']))) {
    return fromSlack(JSON.stringify({ ...fresh, event_id: `Ev${crypto.randomUUID()}` }), sending);
  }
  return formFromSlack({ payload: JSON.stringify(fresh) }, sending);
}

function sendOpenphone(text: string, folder: string, sending: Sending): Promise<Request> {
  const body = JSON.stringify({ ...(JSON.parse(text) as Members), id: `EV${crypto.randomUUID()}` });
  return folder === '2026-03-30' ? fromQuo(body, sending) : fromOpenphone(body, sending);
}
