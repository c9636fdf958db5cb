import { randomBytes, randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { openOutside, seenUrl, urlOf, type Outside, type Seen, type Step } from '../outside.ts';
import { enqueue, listJobs, readJob, startProduct, until, type JobView, type Product } from './product.ts';

const secret = (): string => `whsec_${btoa(String.fromCharCode(...randomBytes(32)))}`;
const SECRET = secret();
const PREVIOUS = secret();

let product: Product;
let world: Outside;
let canary: Outside;

beforeAll(async () => {
  [world, canary] = await Promise.all([openOutside(), openOutside()]);
  product = await startProduct({
    env: {
      CALLBACK_SIGNING_SECRET: SECRET,
      CALLBACK_SIGNING_SECRET_PREVIOUS: PREVIOUS,
      CALLBACK_ALLOW_HOSTS: world.host,
      DOH_URL: `http://${world.host}/dns`,
    },
  });
});
afterAll(async () => {
  await product.stop();
  await Promise.all([world.close(), canary.close()]);
});

interface Receiver {
  readonly url: string;
  seen(): Promise<readonly Seen[]>;
}

function receiverAt(host: string, steps: readonly Step[]): Receiver {
  const key = randomUUID();
  return {
    url: urlOf(host, key, steps),
    // Written by our own server.
    seen: async () => (await fetch(seenUrl(host, key))).json<readonly Seen[]>(),
  };
}

const receiver = (...steps: readonly Step[]): Receiver => receiverAt(world.host, steps);

const event = z.object({
  type: z.string(),
  timestamp: z.iso.datetime(),
  data: z.looseObject({ id: z.string(), state: z.string(), error: z.looseObject({ code: z.string() }).nullable() }),
});

/** What a receiver was sent, each verified as Standard Webhooks does it, by either secret. */
async function told(to: Receiver): Promise<readonly { id: string; event: z.infer<typeof event> }[]> {
  return (await to.seen()).map(({ headers, body }) => {
    expect(new Webhook(PREVIOUS).verify(body, headers)).toEqual(JSON.parse(body));
    const verified = event.parse(new Webhook(SECRET).verify(body, headers));
    return { id: headers['webhook-id'] ?? '', event: verified };
  });
}

async function untilTold(to: Receiver, times: number, withinMs: number): ReturnType<typeof told> {
  return until(`${String(times)} callbacks`, withinMs, async () => {
    const all = await told(to);
    return all.length >= times ? all : undefined;
  });
}

/** The callback's own job, once it is final. */
async function callbackOf(jobId: string): Promise<JobView> {
  return until('the end of the callback', 60_000, async () => {
    const callbacks = await listJobs(product, 'task=deliver_callback');
    const found = callbacks.find((each) => each['parent_id'] === jobId);
    return found?.ready === true ? found : undefined;
  });
}

describe('a job with a callback_url', () => {
  test('is told signed when it succeeds, as it is read', async () => {
    const to = receiver({});
    const id = await enqueue(product, 'debug_task', { hello: 'world' }, { callback_url: to.url });
    const [first] = await untilTold(to, 1, 15_000);
    const { input: _, ...job } = await readJob(product, id, 5);
    expect(first?.event).toEqual({ type: 'job.succeeded', timestamp: job['finished_at'], data: job });
    expect(await callbackOf(id)).toMatchObject({ state: 'SUCCESS', result: { status: 200 }, attempt: 1 });
  });

  test('is told when it fails, is revoked before it started, or expires', async () => {
    const [failed, revoked, expired] = [receiver({}), receiver({}), receiver({})];
    const ids = await Promise.all([
      enqueue(product, 'debug.fail', {}, { callback_url: failed.url, max_retries: 0 }),
      enqueue(product, 'debug_task', {}, { callback_url: revoked.url, countdown: 3_600 }),
      enqueue(product, 'debug_task', {}, { callback_url: expired.url, countdown: 3_600, expires: 1 }),
    ]);
    expect((await product.post(`/api/v1/jobs/${ids[1]}/revoke`)).status).toBe(200);
    const ends = [];
    for (const to of [failed, revoked, expired]) ends.push(...(await untilTold(to, 1, 40_000)));
    expect(ends.map(({ event: { type, data } }) => [type, data.id, data.error?.code])).toEqual([
      ['job.failed', ids[0], 'exception'],
      ['job.revoked', ids[1], 'revoked'],
      ['job.revoked', ids[2], 'expired'],
    ]);
  });

  test('is told at least once under one id, whatever the receiver does first', async () => {
    const faults: readonly Step[] = [
      { status: 500 },
      { status: 429, headers: { 'retry-after': '2' } },
      { act: 'reset' },
      { act: 'break' },
      { act: 'hang' },
    ];
    const receivers = faults.map((fault) => receiver(fault, {}));
    const ids = await Promise.all(
      receivers.map(({ url }) => enqueue(product, 'debug_task', {}, { callback_url: url })),
    );
    for (const [at, to] of receivers.entries()) {
      const all = await untilTold(to, 2, 60_000);
      expect(all.map(({ event: { type, data } }) => [type, data.id])).toEqual(
        Array(2).fill(['job.succeeded', ids[at]]),
      );
      expect(new Set(all.map(({ id }) => id)).size).toBe(1);
      expect(await callbackOf(ids[at] ?? '')).toMatchObject({ state: 'SUCCESS', attempt: 2 });
    }
  });

  test('whose receiver is gone is told once', async () => {
    const to = receiver({ status: 410 });
    const id = await enqueue(product, 'debug_task', {}, { callback_url: to.url });
    expect(await callbackOf(id)).toMatchObject({ state: 'FAILURE', attempt: 1, error: { code: 'gone' } });
    expect(await to.seen()).toHaveLength(1);
  });
});

test('nothing that is not public is requested or retried, whatever spelling, name or redirect leads there', async () => {
  const forbidden = receiverAt(canary.host, []);
  const { port } = new URL(forbidden.url);
  const elsewhere = (host: string): string => forbidden.url.replace(canary.host, `${host}:${port}`);
  const urls = [
    ...['127.0.0.1', '0x7f.1', '017700000001', '2130706433', '127.1', 'localhost', 'a.localhost.'].map(elsewhere),
    ...['[::1]', '[::ffff:127.0.0.1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]'].map(elsewhere),
    ...['10.0.0.1', '169.254.169.254', '[::ffff:10.0.0.1]', 'printer', 'printer.local'].map(elsewhere),
    elsewhere('4-127-0-0-1.outside.invalid'),
    elsewhere('4-93-184-216-34.4-127-0-0-1.outside.invalid'),
    elsewhere('4-93-184-216-34.6---1.outside.invalid'),
    receiver({ status: 307, headers: { location: forbidden.url } }).url,
    receiver({ status: 302, headers: { location: elsewhere('4-127-0-0-1.outside.invalid') } }).url,
  ];
  const ids = await Promise.all(urls.map((url) => enqueue(product, 'debug_task', {}, { callback_url: url })));
  for (const [at, id] of ids.entries()) {
    expect(await callbackOf(id), urls[at]).toMatchObject({
      state: 'FAILURE',
      attempt: 1,
      error: { code: 'callback_refused' },
    });
  }
  expect(await forbidden.seen()).toEqual([]);
});
