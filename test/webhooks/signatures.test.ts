// INV-F12: what is signed is taken, and nothing else. Raw bytes, constant time, a window of time, no secret no entry.

import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { Bench, emptyDatabase, FastClock } from '../worker/bench.ts';
import { encode, get, send, serve } from '../worker/client.ts';
import {
  base64,
  formFromMailgun,
  formFromSlack,
  fromBase64,
  fromGithub,
  fromMailgun,
  fromOpenphone,
  fromQuo,
  fromSlack,
  hex,
  hmac,
  mailgunSignature,
  multipartFromMailgun,
  SECRETS,
  type Bytes,
  type Sending,
} from '../worker/senders.ts';

beforeEach(emptyDatabase);

/** A body that no test sent before, as somebody might sign it. */
function body(note = 'signed'): string {
  return JSON.stringify({ note, unique: crypto.randomUUID() });
}

function quoBody(): string {
  return JSON.stringify({ id: 'EV1', type: 'message.received', data: { resource: { id: crypto.randomUUID() } } });
}

/** Every way in: how an honest sender does it, and what refuses a dishonest one. */
const WAYS: Readonly<Record<string, { send: (sending?: Sending) => Promise<Request>; refused: number }>> = {
  github: { send: (sending) => fromGithub(body(), 'issues', sending), refused: 401 },
  'github form': {
    send: (sending) =>
      fromGithub(new URLSearchParams({ payload: body() }).toString(), 'issues', {
        type: 'application/x-www-form-urlencoded',
        ...sending,
      }),
    refused: 401,
  },
  'mailgun event': {
    send: (sending) => fromMailgun({ event: 'opened', id: crypto.randomUUID() }, sending),
    refused: 406,
  },
  'mailgun route': { send: (sending) => formFromMailgun([['recipient', 'a@b.example']], sending), refused: 406 },
  'mailgun route with files': { send: (sending) => multipartFromMailgun(mailWithFile(), sending), refused: 406 },
  'slack event': { send: (sending) => fromSlack(slackEvent(), sending), refused: 401 },
  'slack command': {
    send: (sending) => formFromSlack({ command: '/do', trigger_id: crypto.randomUUID() }, sending),
    refused: 401,
  },
  'slack interaction': {
    send: (sending) =>
      formFromSlack({ payload: JSON.stringify({ type: 'block_actions', trigger_id: crypto.randomUUID() }) }, sending),
    refused: 401,
  },
  'openphone legacy': { send: (sending) => fromOpenphone(quoBody(), sending), refused: 401 },
  'openphone standard': { send: (sending) => fromQuo(quoBody(), sending), refused: 401 },
};
const ways = Object.entries(WAYS).map(([name, way]) => ({ name, provider: name.split(' ')[0] ?? '', ...way }));

function seconds(): string {
  return String(Math.floor(Date.now() / 1_000));
}

function slackEvent(): string {
  return JSON.stringify({ type: 'event_callback', event_id: crypto.randomUUID(), event: { type: 'message' } });
}

function mailWithFile(): FormData {
  const form = new FormData();
  form.append('recipient', 'a@b.example');
  form.append('attachment-1', new File(['x'.repeat(100)], 'a.txt', { type: 'text/plain' }));
  return form;
}

async function rows(): Promise<unknown> {
  const tables = ['jobs', 'deliveries', 'dead_letters'].map((table) => `(SELECT count(*) FROM ${table})`).join(' + ');
  return (await env.DB.prepare(`SELECT ${tables} AS n`).first())?.['n'];
}

async function expectRefused(request: Request, status: number): Promise<void> {
  const reply = await send(request);
  expect(reply.status).toBe(status);
  expect(reply.headers.get('content-type')).toBe('application/problem+json');
  expect(reply.body['status']).toBe(status);
  expect(await rows()).toBe(0);
}

/** Whether a request is taken, once all of it is written down: nothing of it reaches into the next test. */
async function isTaken(request: Request): Promise<boolean> {
  const reply = await send(request);
  const id = reply.headers.get('x-job-id');
  if (reply.status !== 200 || id === null) return false;
  expect((await get(`/api/v1/jobs/${id}?wait=10`)).body['state']).toBe('SUCCESS');
  for (let look = 0; look < 100; look += 1) {
    const { items } = (await get(`/api/v1/deliveries?job_id=${id}`)).body as { items: unknown[] };
    if (items.length > 0) return true;
  }
  return false;
}

describe.for(ways)('INV-F12 $name', ({ send: sent, provider, refused }) => {
  test('is taken when it is rightly signed, with exactly 200', async () => {
    expect(await isTaken(await sent())).toBe(true);
  });

  test('is taken under the secret before the last rotation', async () => {
    const secret = SECRETS[provider as keyof typeof SECRETS][1];
    expect(await isTaken(await sent({ secret }))).toBe(true);
  });

  test('is refused under any other secret', async () => {
    await expectRefused(await sent({ secret: base64(encode('somebody else')) }), refused);
  });

  test('is refused with one bit of the signature flipped, wherever', async () => {
    for (const at of [0, 127, 255]) {
      const once = await withFlippedSignature(await sent(), provider, at);
      const back = await withFlippedSignature(once.clone(), provider, at);
      await expectRefused(once, refused);
      // It was that bit alone.
      expect(await isTaken(back)).toBe(true);
      await emptyDatabase();
    }
  });

  test('is 503 without a secret, and with an empty one: never taken', async () => {
    const none: Record<string, string | undefined> = {};
    for (const name of SECRET_NAMES) none[name] = undefined;
    const empty = Object.fromEntries(SECRET_NAMES.map((name) => [name, '']));
    for (const settings of [none, empty]) {
      const answer = await serve(new Bench().rt, await sent(), { ...env, ...settings });
      expect([answer.status, answer.headers.has('retry-after')]).toEqual([503, true]);
    }
    expect(await rows()).toBe(0);
  });
});

const SECRET_NAMES = [
  'GITHUB_WEBHOOK_SECRET',
  'MAILGUN_SIGNING_KEY',
  'SLACK_SIGNING_SECRET',
  'OPENPHONE_SIGNING_KEY',
].flatMap((name) => [name, `${name}_PREVIOUS`]);

// Where a signature stands differs; that it is checked to its last bit does not.
async function withFlippedSignature(request: Request, provider: string, bit: number): Promise<Request> {
  const flip = (bytes: Bytes): Bytes => {
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return bytes;
  };
  const flipHex = (text: string): string =>
    text.replace(/(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/, (digest) => hex(flip(fromHex(digest))));
  const flipBase64 = (text: string): string =>
    text.replace(/[A-Za-z0-9+/]{43}=/, (digest) => base64(flip(fromBase64(digest))));
  const { url, headers } = request;
  const text = new TextDecoder().decode(await request.arrayBuffer());
  if (provider === 'mailgun') return new Request(url, { method: 'POST', headers, body: flipHex(text) });
  const own = new Headers(headers);
  for (const name of ['x-hub-signature-256', 'x-slack-signature', 'openphone-signature', 'webhook-signature']) {
    const value = headers.get(name);
    if (value !== null) own.set(name, flipBase64(flipHex(value)));
  }
  return new Request(url, { method: 'POST', headers: own, body: text });
}

function fromHex(text: string): Bytes {
  return Uint8Array.from(text.match(/../g) ?? [], (two) => Number.parseInt(two, 16));
}

describe('INV-F12 a header', () => {
  const digest = '0'.repeat(64);
  const ODD_HEX = [
    '',
    'zz',
    digest,
    digest.slice(1),
    digest.slice(2),
    `${digest}0`,
    digest.toUpperCase().replace('0', 'A'),
  ];

  test.for(['x-hub-signature-256', 'x-slack-signature'])('%s that is odd in any way is refused', async (name) => {
    const github = name.startsWith('x-hub');
    const prefix = github ? 'sha256=' : 'v0=';
    // The same bytes each time: what is refused is the header.
    const [text, timestamp] = [github ? body() : slackEvent(), seconds()];
    const sent = (headers?: Record<string, string | null>): Promise<Request> => {
      const sending = headers === undefined ? { timestamp } : { timestamp, headers };
      return github ? fromGithub(text, 'issues', sending) : fromSlack(text, sending);
    };
    const right = (await sent()).headers.get(name) ?? '';
    const digest = right.slice(prefix.length);
    const odd = [
      null,
      ...ODD_HEX.map((each) => prefix + each),
      right.toUpperCase(),
      prefix + digest.toUpperCase(),
      digest,
      (github ? 'sha1=' : 'v1=') + digest,
      `${github ? 'sha512' : 'v00'}=${digest}`,
      ` ${prefix} ${digest}`,
      `${right}, ${right}`,
      `${right},${right}`,
      `${right}0`,
      right.slice(0, -1),
    ];
    for (const value of odd) await expectRefused(await sent({ [name]: value }), 401);
    expect(await isTaken(await sent())).toBe(true);
  });

  test('of OpenPhone that is odd in any way is refused', async () => {
    const now = String(Date.now());
    const right = (await fromOpenphone('{}', { timestamp: now })).headers.get('openphone-signature') ?? '';
    const mac = right.split(';')[3] ?? '';
    const odd = [
      null,
      '',
      'hmac',
      'hmac;1',
      `hmac;1;${now}`,
      `hmac;1;${now};`,
      `hmac;2;${now};${mac}`,
      `sha256;1;${now};${mac}`,
      `hmac;1;${now}abc;${mac}`,
      `hmac;1;-${now};${mac}`,
      `hmac;1;NaN;${mac}`,
      `hmac;1;${now};${mac};`,
      `hmac;1;${now};${mac.slice(0, -1)}`,
      `hmac;1;${now};${mac.toLowerCase()}`,
      right.toUpperCase(),
    ];
    for (const value of odd)
      await expectRefused(await fromOpenphone('{}', { headers: { 'openphone-signature': value } }), 401);
  });

  test('of Standard Webhooks that is odd in any way is refused', async () => {
    const [id, timestamp, text] = ['msg_1', seconds(), quoBody()];
    const sent = (headers: Record<string, string | null>): Promise<Request> =>
      fromQuo(text, { id, timestamp, headers });
    const right = (await sent({})).headers.get('webhook-signature') ?? '';
    const mac = right.slice(3);
    const signatures = [null, '', 'v1', 'v1,', mac, `v2,${mac}`, `v1a,${mac}`, `V1,${mac}`, `${right.slice(0, -2)}=`];
    for (const value of signatures) await expectRefused(await sent({ 'webhook-signature': value }), 401);
    for (const name of ['webhook-id', 'webhook-timestamp']) {
      for (const value of [null, '', 'other']) await expectRefused(await sent({ [name]: value }), 401);
    }
    // Nothing to tell it apart by, however well it is signed.
    await expectRefused(await fromQuo(text, { id: '' }), 401);
    const both = (await fromOpenphone(text)).headers.get('openphone-signature');
    await expectRefused(
      await sent({ 'webhook-signature': 'v1,x', 'webhook-id': null, 'openphone-signature': both }),
      401,
    );
    expect(await isTaken(await sent({}))).toBe(true);
  });

  test('with several signatures is good if one of them is', async () => {
    const mac = (await fromQuo('{}')).headers.get('webhook-signature') ?? '';
    const text = quoBody();
    const id = 'msg_several';
    const timestamp = seconds();
    const right = (await fromQuo(text, { id, timestamp })).headers.get('webhook-signature') ?? '';
    for (const value of [`${mac} ${right}`, `v2,abc ${right}`, `${right} v1a,xyz`, `${mac}, ${right}`]) {
      expect(await isTaken(await fromQuo(text, { id, timestamp, headers: { 'webhook-signature': value } }))).toBe(true);
    }
    const legacy = quoBody();
    const now = String(Date.now());
    const good = (await fromOpenphone(legacy, { timestamp: now })).headers.get('openphone-signature') ?? '';
    const value = `hmac;1;${now};${mac.slice(3)},${good}`;
    expect(
      await isTaken(await fromOpenphone(legacy, { timestamp: now, headers: { 'openphone-signature': value } })),
    ).toBe(true);
  });

  test('of the other scheme does not help: an id that is not signed cannot make a signed body new', async () => {
    await expectRefused(await fromOpenphone(quoBody(), { headers: { 'webhook-id': 'msg_made_up' } }), 401);
  });
});

describe('INV-F12 a timestamp', () => {
  const now = Math.floor(Date.now() / 1_000);
  const ODD = [
    '',
    `${String(now)}abc`,
    `-${String(now)}`,
    'NaN',
    'Infinity',
    `${String(now)}.5`,
    ` ${String(now)}`,
    '0',
    `${String(now)}000`,
  ];

  test.for(ODD)('%j is refused, however well it is signed', async (timestamp) => {
    await expectRefused(await fromSlack(slackEvent(), { timestamp }), 401);
    await expectRefused(await fromQuo(quoBody(), { timestamp }), 401);
    await expectRefused(await fromMailgun({ event: 'opened' }, { timestamp }), 406);
    if (timestamp !== `${String(now)}000`) await expectRefused(await fromOpenphone(quoBody(), { timestamp }), 401);
  });

  test('too long ago or too far ahead is refused, and one just within is not', async () => {
    for (const away of [-330, 330]) {
      await expectRefused(await fromSlack(slackEvent(), { timestamp: now + away }), 401);
      await expectRefused(await fromQuo(quoBody(), { timestamp: now + away }), 401);
      await expectRefused(await fromOpenphone(quoBody(), { timestamp: 1_000 * (now + away) }), 401);
    }
    for (const away of [-270, 270]) {
      const taken = [
        await fromSlack(slackEvent(), { timestamp: now + away }),
        await fromQuo(quoBody(), { timestamp: now + away }),
        await fromOpenphone(quoBody(), { timestamp: 1_000 * (now + away) }),
        // Nobody says that they are milliseconds.
        await fromOpenphone(quoBody(), { timestamp: now + away }),
      ];
      for (const request of taken) expect(await isTaken(request)).toBe(true);
    }
  });

  test('of Mailgun may be as old as its last try is late, and no older than its tokens are remembered', async () => {
    const hours = (count: number): Promise<Request> =>
      fromMailgun({ event: 'opened', id: crypto.randomUUID() }, { timestamp: now - 3_600 * count });
    expect(await isTaken(await hours(8))).toBe(true);
    expect(await isTaken(await hours(11.9))).toBe(true);
    await emptyDatabase();
    await expectRefused(await hours(12.1), 406);
    await expectRefused(await fromMailgun({ event: 'opened' }, { timestamp: now + 330 }), 406);
  });

  test('of Mailgun has the window that is set', async () => {
    const at = async (window: string, count: number): Promise<number> => {
      const timestamp = Math.floor(now - 3_600 * count);
      const request = await fromMailgun({ event: 'opened', id: crypto.randomUUID() }, { timestamp });
      const clock = new FastClock(Date.now());
      return (await serve(new Bench({ clock }).rt, request, { ...env, MAILGUN_WINDOW_HOURS: window })).status;
    };
    expect([await at('1', 0.9), await at('1', 1.1), await at('24', 23)]).toEqual([200, 406, 200]);
    for (const none of ['nonsense', '0', '-1', ''])
      expect([await at(none, 11), await at(none, 13)]).toEqual([200, 406]);
    // Older than tokens are remembered, a replay would be taken for new.
    expect(await at('9999', 145)).toBe(406);
  });
});

describe('INV-F12 odd bytes', () => {
  const ODD: Readonly<Record<string, (text: string) => Bytes>> = {
    'a byte order mark': (text) => new Uint8Array([0xef, 0xbb, 0xbf, ...encode(text)]),
    'a trailing newline': (text) => encode(`${text}\r\n`),
    'invalid UTF-8': (text) =>
      new Uint8Array([...encode(text.slice(0, -1)), ...encode(',"odd":"'), 0xff, 0xc0, 0xaf, ...encode('"}')]),
    'spaces before it': (text) => encode(` \n\t${text}`),
  };

  test.for(Object.entries(ODD))('%s: signed as they are, they are taken', async ([, odd]) => {
    const requests = [
      await fromGithub(odd(body()), 'issues'),
      await fromSlack(odd(slackEvent())),
      await fromOpenphone(odd(quoBody())),
      await fromQuo(odd(quoBody())),
    ];
    for (const request of requests) expect([request.url, await isTaken(request)]).toEqual([request.url, true]);
  });

  test.for(Object.entries(ODD))('%s: the signature of what they look like is not theirs', async ([, odd]) => {
    const text = body();
    const looksLike = new TextDecoder().decode(odd(text)).trim();
    const signature = `sha256=${hex(await hmac(encode(SECRETS.github[0]), encode(looksLike)))}`;
    await expectRefused(await fromGithub(odd(text), 'issues', { signature }), 401);
  });

  test('no bytes at all are refused: signed, they say nothing', async () => {
    for (const request of [await fromGithub(''), await fromSlack(''), await fromOpenphone(''), await fromQuo('')]) {
      await expectRefused(request, 400);
    }
    await expectRefused(new Request('http://lovage.test/webhooks/mailgun', { method: 'POST' }), 406);
  });
});

describe('INV-F12 what is read before anybody knows who sent it', () => {
  test('is no larger than a mail is: a form of a million fields is refused at once', async () => {
    const type = { headers: { 'content-type': 'application/x-www-form-urlencoded' } };
    const url = 'http://lovage.test/webhooks/mailgun';
    const fields = '&a'.repeat(4_900);
    const signed = new URLSearchParams(Object.entries(await mailgunSignature())).toString();
    await expectRefused(new Request(url, { method: 'POST', ...type, body: `${signed}${'&a'.repeat(5_100)}` }), 406);
    const boundary = 'x7Q';
    const part = (name: string, value: string): string =>
      `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
    const parts = Object.entries(await mailgunSignature()).map(([name, value]) => part(name, String(value)));
    const many = `${part('a', 'b').repeat(5_100)}${parts.join('')}--${boundary}--\r\n`;
    const multipart = { headers: { 'content-type': `multipart/form-data; boundary="${boundary}"` } };
    await expectRefused(new Request(url, { method: 'POST', ...multipart, body: many }), 406);
    const few = `${part('a', 'b').repeat(4_000)}${parts.join('')}--${boundary}--\r\n`;
    expect(await isTaken(new Request(url, { method: 'POST', ...multipart, body: few }))).toBe(true);
    expect(await isTaken(new Request(url, { method: 'POST', ...type, body: `${signed}${fields}` }))).toBe(true);
  });

  test('is not taken apart when it is large and shows no good signature, and is when it does', async () => {
    const large = { event: 'opened', id: crypto.randomUUID(), filler: 'x'.repeat(2_000_000) };
    await expectRefused(await fromMailgun(large, { secret: 'wrong' }), 406);
    expect(await isTaken(await fromMailgun(large))).toBe(true);
    // A good one that was captured elsewhere does not vouch for a token of somebody's own.
    const captured = await mailgunSignature();
    const own = { ...captured, token: 'f'.repeat(50) };
    const body = JSON.stringify({ signature: own, 'event-data': { ...large, note: { signature: captured } } });
    const headers = { 'content-type': 'application/json' };
    await emptyDatabase();
    await expectRefused(new Request('http://lovage.test/webhooks/mailgun', { method: 'POST', headers, body }), 406);
    // Whatever else calls itself a signature: the right one is enough.
    const decoy = { ...large, id: crypto.randomUUID(), note: '"signature": {"token": 1}' };
    expect(await isTaken(await fromMailgun(decoy))).toBe(true);
  });
});

describe('INV-F12 what is signed and still nothing', () => {
  test('is 400, for Mailgun 406, and Slack is told not to try again', async () => {
    await expectRefused(await fromGithub('{"half":'), 400);
    await expectRefused(await fromGithub(body(), 'Not An Event!'), 400);
    await expectRefused(await fromSlack('{"half":'), 400);
    await expectRefused(await formFromSlack({ something: 'else' }), 400);
    await expectRefused(await formFromSlack({ payload: 'no json' }), 400);
    await expectRefused(await fromQuo('{"half":'), 400);
    await expectRefused(await fromQuo('[]'), 400);
    await expectRefused(await fromOpenphone('{}'), 400);
    const signature = await mailgunSignature();
    for (const once of ['t'.repeat(19), 't'.repeat(101), 'with space in it, of a good length']) {
      await expectRefused(await fromMailgun({ event: 'opened' }, { id: once }), 406);
    }
    const json = await (await fromMailgun({ event: 'opened' })).text();
    for (const type of [
      'multipart/form-data',
      'multipart/form-data; boundary=none',
      'application/x-www-form-urlencoded',
    ]) {
      const headers = { 'content-type': type };
      await expectRefused(
        new Request('http://lovage.test/webhooks/mailgun', { method: 'POST', headers, body: json }),
        406,
      );
    }
    await expectRefused(await fromSlack(JSON.stringify({ type: 'url_verification' })), 400);
    for (const text of [
      '{"half":',
      '[]',
      'null',
      '{}',
      JSON.stringify({ signature }),
      JSON.stringify({ 'event-data': {} }),
    ]) {
      const headers = { 'content-type': 'application/json' };
      await expectRefused(
        new Request('http://lovage.test/webhooks/mailgun', { method: 'POST', headers, body: text }),
        406,
      );
    }
    expect((await send(await fromSlack('{"half":'))).headers.get('x-slack-no-retry')).toBe('1');
    expect((await send(await fromSlack('{}', { secret: 'wrong' }))).headers.get('x-slack-no-retry')).toBe('1');
  });

  test('a handshake that nobody signed is refused', async () => {
    const challenge = JSON.stringify({ type: 'url_verification', challenge: 'abc' });
    await expectRefused(await fromSlack(challenge, { secret: 'wrong' }), 401);
    await expectRefused(await formFromSlack({ ssl_check: '1' }, { secret: 'wrong' }), 401);
    await expectRefused(await fromGithub('{}', 'ping', { secret: 'wrong' }), 401);
  });
});

test('a thousand badly signed requests write nothing to the database and ask no Durable Object', async () => {
  const asked = { database: 0, guard: 0, objects: 0, queues: 0 };
  const counting = <T extends object>(inner: T, what: keyof typeof asked): T =>
    new Proxy(inner, {
      get: (target, name) => {
        asked[what] += 1;
        return Reflect.get(target, name) as unknown;
      },
    });
  const ports = ({ db, replay, queues, env: bindings }: Bench['rt']): Partial<Bench['rt']> => ({
    db: counting(db, 'database'),
    replay: counting(replay, 'guard'),
    queues: counting(queues, 'queues'),
    env: { ...bindings, OBJECTS: counting(bindings.OBJECTS, 'objects') },
  });
  const bench = new Bench({ ports });
  const bad = await Promise.all(ways.map(({ send: sent }) => sent({ secret: base64(encode('somebody else')) })));
  const statuses = new Set<number>();
  for (let round = 0; round < 100; round += 1) {
    const answers = await Promise.all(bad.map((request) => serve(bench.rt, request.clone())));
    for (const { status } of answers) statuses.add(status);
  }
  expect([...statuses].sort()).toEqual([401, 406]);
  expect(asked).toEqual({ database: 0, guard: 0, objects: 0, queues: 0 });
  expect(await rows()).toBe(0);
  const counts = Object.values(bench.rt.isolate.deliveries.refused()).flatMap((reasons) => Object.values(reasons));
  expect(counts.reduce((sum, each) => sum + each, 0)).toBe(1_000);
});
