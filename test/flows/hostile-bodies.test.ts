import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  answerOf,
  countStatements,
  listJobs,
  sendGithub,
  signGithub,
  startProduct,
  type Answer,
  type Product,
} from './product.ts';

const MB = 1024 * 1024;
const PART = 64 * 1024;

let product: Product;
let acceptsBefore = 0;

beforeAll(async () => {
  product = await startProduct();
});
afterAll(() => product.stop());

beforeEach(async () => {
  acceptsBefore = await countStatements(product, 'accept');
});
afterEach(async () => {
  // Whatever was refused left nothing behind, and the next one is served.
  expect(await listJobs(product)).toEqual([]);
  expect(await countStatements(product, 'accept')).toBe(acceptsBefore);
  expect((await product.get('/health/live')).status).toBe(200);
});

const problemShape = z.object({
  type: z.string().min(1),
  title: z.string().min(1),
  status: z.int(),
  detail: z.string().min(1),
  errors: z.array(z.object({ path: z.string(), message: z.string().min(1) })).optional(),
});

/** Expects a whole problem of this status; returns the paths it names. */
function pathsOf({ status, headers, body }: Answer, expected: number): readonly string[] {
  expect(headers.get('content-type')).toBe('application/problem+json');
  const problem = problemShape.parse(body);
  expect({ http: status, body: problem.status }).toEqual({ http: expected, body: expected });
  return (problem.errors ?? []).map(({ path }) => path);
}

async function postRaw(
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`${product.address}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${product.key}`, 'content-type': 'application/json', ...headers },
    body,
    signal: AbortSignal.timeout(60_000),
  });
  return answerOf(response);
}

const GOOD = JSON.stringify({ task: 'debug_task', input: {} });

describe.each([
  ['/api/v1/jobs', 8 * MB],
  ['/api/v1/jobs/batch', 16 * MB],
] as const)('POST %s', (path, limit) => {
  test.each([
    ['nothing', ''],
    ['half a body', GOOD.slice(0, -3)],
    ['two bodies', `${GOOD}${GOOD}`],
    ['a word', 'jobs'],
    ['what JavaScript takes and JSON does not', "{task: 'debug_task'}"],
    ['NaN', '{"task": "debug_task", "input": NaN}'],
  ])('answers 400 to %s: it is not JSON', async (_, body) => {
    pathsOf(await postRaw(path, body), 400);
  });

  test('answers 400 to bytes that are not UTF-8', async () => {
    pathsOf(await postRaw(path, new Uint8Array([0x22, 0xff, 0xfe, 0x22])), 400);
  });

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonp',
  ])('answers 415 to the type %s', async (type) => {
    pathsOf(await postRaw(path, GOOD, { 'content-type': type }), 415);
  });

  test('answers 415 to a compressed body', async () => {
    pathsOf(await postRaw(path, new Uint8Array(gzipSync(GOOD)), { 'content-encoding': 'gzip' }), 415);
  });

  test.each([
    ['arrays', '[', ']'],
    ['objects', '{"a":', '}'],
  ])('answers 400 to %s nested 100,000 deep', async (_, open, close) => {
    const deep = `{"task":"debug_task","input":${open.repeat(100_000)}1${close.repeat(100_000)}}`;
    pathsOf(await postRaw(path, deep), 400);
    pathsOf(await postRaw(path, open.repeat(100_000)), 400);
  });

  test('answers 413 to 30 MB announced, when only 64 KB of it have come', async () => {
    const { answer, bytesSent } = await withhold(path, 30 * MB, PART);
    pathsOf(answer, 413);
    expect(bytesSent).toBe(PART);
  });

  test('answers 413 to a body without a length as soon as it is over the limit, though it does not end', async () => {
    const { answer } = await withhold(path, undefined, limit + PART);
    pathsOf(answer, 413);
  });

  // A connection closed while the client still writes is reset, and the client never reads why: the rest is taken first.
  test.each([
    ['with', 30 * MB],
    ['without', undefined],
  ])('answers 413 to 30 MB sent in one go %s a length, every time', async (_, length) => {
    for (let time = 0; time < 5; time += 1) {
      const { answer } = await withhold(path, length, 30 * MB);
      pathsOf(answer, 413);
    }
  });
});

test('a webhook over 25 MB is answered 413 before it has come, with a length and without', async () => {
  const announced = await withhold('/webhooks/github', 30 * MB, PART);
  pathsOf(announced.answer, 413);
  const chunked = await withhold('/webhooks/github', undefined, 25 * MB + PART);
  pathsOf(chunked.answer, 413);
});

// What comes after the announced length is, in HTTP/1.1, the beginning of the next request on the connection, and never
// body. A few bytes wait there for the rest of a request. Megabytes are no request: that one is answered 431 (its head is
// too large) and the connection closed, perhaps reset before the client has read either answer.
test.each([
  ['/api/v1/jobs', 400, `${GOOD.slice(0, -1)} }`],
  ['/api/v1/jobs/batch', 400, `{"jobs":[${GOOD}] }`],
  ['/webhooks/github', 401, '{"ref":"refs/heads/main" }'],
] as const)(
  'POST %s with more body than its length announces takes what was announced',
  async (path, status, whole) => {
    const signature = signGithub(product.githubSecret, new TextEncoder().encode(whole));
    const announced = whole.length - 1;
    expect(await sendMore(path, whole, announced, '', { 'x-hub-signature-256': signature })).toEqual([status]);
    const flooded = await sendMore(path, whole, announced, 'x'.repeat(30 * MB), { 'x-hub-signature-256': signature });
    expect([status, 431]).toEqual(expect.arrayContaining([...flooded]));
  },
);

test('a signed webhook that is not JSON, nests too deep or has a key __proto__ is answered 400', async () => {
  for (const text of ['not JSON', '['.repeat(100_000), '{"a":{"__proto__":{"admin":true}}}']) {
    const body = new Uint8Array(new TextEncoder().encode(text));
    pathsOf(await sendGithub(product, 'push', body, randomUUID()), 400);
  }
});

test.each([
  ['{"task":"debug_task","input":{"a":[0,{"__proto__":{"admin":true}}]}}', 'input.a[1].__proto__'],
  ['{"task":"debug_task","input":{"a":{"\\u005f_proto\\u005f_":1}}}', 'input.a.__proto__'],
  ['{"task":"debug_task","options":{"__proto__":{"priority":10}}}', 'options.__proto__'],
  ['{"__proto__":{"task":"debug_task"}}', '__proto__'],
])('%s is answered 400, naming %s', async (body, path) => {
  const answer = await postRaw('/api/v1/jobs', body);
  expect(pathsOf(answer, 400)).toEqual([path]);
  expect(JSON.stringify(answer.body)).toContain(path);
});

test.each([
  ['an unknown task', { task: 'no.such.task' }, 'task'],
  ['a task named like a property of every object', { task: 'constructor' }, 'task'],
  ['no task', { input: {} }, 'task'],
  ['a task that is a number', { task: 7 }, 'task'],
  ['an unknown queue', { task: 'debug_task', options: { queue: 'nowhere' } }, 'options.queue'],
  [
    'a queue named like a property of every object',
    { task: 'debug_task', options: { queue: 'toString' } },
    'options.queue',
  ],
  ['a dead-letter queue', { task: 'debug_task', options: { queue: 'default-dlq' } }, 'options.queue'],
  ['a negative countdown', { task: 'debug_task', options: { countdown: -1 } }, 'options.countdown'],
  ['a countdown in words', { task: 'debug_task', options: { countdown: 'soon' } }, 'options.countdown'],
  ['an eta without a zone', { task: 'debug_task', options: { eta: '2030-01-01T00:00:00' } }, 'options.eta'],
  ['a priority of 11', { task: 'debug_task', options: { priority: 11 } }, 'options.priority'],
  ['negative retry delays', { task: 'debug_task', options: { retry_delays: [0, -1] } }, 'options.retry_delays[1]'],
  ['no input where one is needed', { task: 'debug.effect' }, 'input.key'],
  ['an input of the wrong shape', { task: 'debug.effect', input: { key: 5 } }, 'input.key'],
  ['kwargs of the wrong shape', { task: 'debug.sleep', kwargs: { seconds: -1 } }, 'input.seconds'],
  ['an input that is no object', { task: 'debug.effect', input: ['key'] }, 'input'],
  ['options that are no object', { task: 'debug_task', options: [] }, 'options'],
])('%s is answered 422, naming the place', async (_, call, path) => {
  expect(pathsOf(await product.post('/api/v1/jobs', call), 422)).toEqual([path]);
});

test.each([
  ['option', { task: 'debug_task', options: { no_such_option: 1 } }],
  ['member', { task: 'debug_task', no_such_option: 1 }],
])('an unknown %s is answered 422, naming it', async (_, call) => {
  const answer = await product.post('/api/v1/jobs', call);
  pathsOf(answer, 422);
  expect(problemShape.parse(answer.body).detail).toContain('no_such_option');
});

test.each([
  ['1,001 jobs', { jobs: Array.from({ length: 1_001 }, () => ({ task: 'debug_task' })) }, 'jobs'],
  ['no jobs', { jobs: [] }, 'jobs'],
  ['jobs that are no list', { jobs: { task: 'debug_task' } }, 'jobs'],
])('a batch of %s is answered 422', async (_, body, path) => {
  expect(pathsOf(await product.post('/api/v1/jobs/batch', body), 422)).toEqual([path]);
});

test('a batch of nothing but bad jobs says of each what is wrong with it', async () => {
  const { status, body } = await product.post('/api/v1/jobs/batch', {
    jobs: [{ task: 'no.such.task' }, { task: 'debug.effect', input: {} }, 7, null],
  });
  expect(status).toBe(202);
  const { jobs } = z.object({ jobs: z.array(z.object({ error: problemShape })) }).parse(body);
  expect(jobs.map(({ error }) => [error.status, error.errors?.[0]?.path])).toEqual([
    [422, 'task'],
    [422, 'input.key'],
    [422, ''],
    [422, ''],
  ]);
});

test('clients that hang up in the middle of their upload hurt nobody else', async () => {
  const hangUps = Array.from({ length: 60 }, async (_, n) => {
    const path = n % 3 === 0 ? '/webhooks/github' : '/api/v1/jobs';
    await hangUpWithin(path, 1 * MB, 64 * 1024, n % 20);
  });
  await Promise.all(hangUps);
  pathsOf(await postRaw('/api/v1/jobs', 'not JSON'), 400);
});

/**
 * Posts `bytes` and no end: with a length, as much of what it announces as is said here; without one, a chunked body
 * that is never finished. Stops as soon as there is an answer.
 */
function withhold(
  path: string,
  contentLength: number | undefined,
  bytes: number,
): Promise<{ answer: Answer; bytesSent: number }> {
  return new Promise((resolve, reject) => {
    let bytesSent = 0;
    let answered = false;
    const outgoing = request(`${product.address}${path}`, {
      method: 'POST',
      agent: false,
      headers: {
        authorization: `Bearer ${product.key}`,
        'content-type': 'application/json',
        ...(contentLength === undefined
          ? { 'transfer-encoding': 'chunked' }
          : { 'content-length': String(contentLength) }),
      },
      timeout: 60_000,
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`No answer in 60 s, after ${String(bytesSent)} bytes.`)));
    outgoing.on('error', (error) => {
      if (!answered) reject(error);
    });
    outgoing.on('response', (response) => {
      answered = true;
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('error', reject);
      response.on('end', () => {
        outgoing.destroy();
        const headers = new Headers({ 'content-type': response.headers['content-type'] ?? '' });
        resolve({
          answer: { status: response.statusCode ?? 0, headers, body: JSON.parse(text) as unknown },
          bytesSent,
        });
      });
    });
    const part = new Uint8Array(PART).fill(0x20);
    const writeOn = (): void => {
      if (answered || bytesSent >= bytes) return;
      bytesSent += part.length;
      outgoing.write(part, writeOn);
    };
    writeOn();
  });
}

/**
 * Announces the first `length` characters of `body` and sends all of it, and `excess` after it. Returns the status of
 * every answer until the server closes the connection, or has said nothing for a second.
 */
function sendMore(
  path: string,
  body: string,
  length: number,
  excess: string,
  more: Record<string, string>,
): Promise<readonly number[]> {
  return new Promise((resolve) => {
    let text = '';
    const { hostname, port } = new URL(product.address);
    const socket = connect(Number(port), hostname);
    const headers = Object.entries({
      host: `${hostname}:${port}`,
      authorization: `Bearer ${product.key}`,
      'content-type': 'application/json',
      'x-github-event': 'push',
      'content-length': String(length),
      ...more,
    });
    const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
    socket.setEncoding('latin1').on('data', (part: string) => {
      text += part;
      socket.setTimeout(1_000);
    });
    socket.setTimeout(60_000, () => socket.destroy());
    // Closed while it still writes: what was answered by then is what counts.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      resolve(Array.from(text.matchAll(/^HTTP\/1\.1 (\d{3})/gm), ([, status]) => Number(status)));
    });
    socket.write(`POST ${path} HTTP/1.1\r\n${head}\r\n${body}${excess}`);
  });
}

/** Announces `contentLength` bytes, sends the first of them, and is gone `afterMs` later. */
function hangUpWithin(path: string, contentLength: number, bytes: number, afterMs: number): Promise<void> {
  return new Promise((resolve) => {
    const outgoing = request(`${product.address}${path}`, {
      method: 'POST',
      agent: false,
      headers: {
        authorization: `Bearer ${product.key}`,
        'content-type': 'application/json',
        'content-length': String(contentLength),
      },
    });
    // Whether it heard something by then is all the same.
    outgoing.on('response', (response) => response.resume());
    outgoing.on('error', () => undefined);
    outgoing.on('close', resolve);
    outgoing.write(new Uint8Array(bytes).fill(0x20), () => setTimeout(() => outgoing.destroy(), afterMs));
  });
}
