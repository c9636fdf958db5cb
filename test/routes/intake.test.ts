// What becomes of a verified delivery when not all is well, and what is kept of it.

import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import type { Env } from '../../src/env.ts';
import type { Runtime } from '../../src/jobs/runtime.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';
import { serve } from '../worker/client.ts';
import { formFromSlack, fromGithub, fromMailgun, fromQuo, multipartFromMailgun } from '../worker/senders.ts';

beforeEach(emptyDatabase);

const { OBJECTS } = env as unknown as Env;
const unique = (): string => JSON.stringify({ action: 'opened', unique: crypto.randomUUID() });

async function rows(): Promise<readonly { id: string; input: string }[]> {
  return (await env.DB.prepare(`SELECT id, input FROM jobs`).all<{ id: string; input: string }>()).results;
}

/** A bench whose bucket says how often something was put, and fails on demand. */
function withBucket(options: { fails?: boolean; clock?: FastClock } = {}): { bench: Bench; puts: () => number } {
  let puts = 0;
  const put = (...given: Parameters<R2Bucket['put']>): unknown => {
    puts += 1;
    return options.fails === true ? Promise.reject(new Error('10001')) : OBJECTS.put(...given);
  };
  const bucket = new Proxy(OBJECTS, {
    get: (target, name) => (name === 'put' ? put : (Reflect.get(target, name) as () => unknown).bind(target)),
  });
  const ports = ({ env: bindings }: Runtime): Partial<Runtime> => ({ env: { ...bindings, OBJECTS: bucket } });
  return {
    bench: new Bench({ ports, ...(options.clock === undefined ? {} : { clock: options.clock }) }),
    puts: () => puts,
  };
}

async function deliver(bench: Bench, request: Request): Promise<Response> {
  const answer = await serve(bench.rt, request);
  await bench.background();
  return answer;
}

test('a delivery is kept once, however many copies come', async () => {
  const { bench, puts } = withBucket();
  const body = unique();
  for (let copy = 0; copy < 3; copy += 1) await deliver(bench, await fromGithub(body, 'issues', { id: 'kept' + body }));
  expect(puts()).toBe(1);
});

test('one whose first try died with nothing is kept by the next', async () => {
  const body = unique();
  const { bench, puts } = withBucket();
  bench.db.fault = () => ({ when: 'before', error: outage() });
  bench.queues.fault = 'refuse';
  expect((await deliver(bench, await fromGithub(body, 'issues', { id: body }))).status).toBe(503);
  await emptyDatabase();
  bench.db.fault = () => undefined;
  bench.queues.fault = 'none';
  const answer = await deliver(bench, await fromGithub(body, 'issues', { id: body }));
  const { job_id: id, status } = await answer.json<{ job_id: string; status: string }>();
  expect([status, puts()]).toEqual(['accepted', 2]);
  expect(await (await OBJECTS.get(`webhooks/github/${id}`))?.text()).toBe(body);
});

test('a small one survives without its copy; one that is only its copy is not taken without', async () => {
  const { bench } = withBucket({ fails: true });
  expect((await deliver(bench, await fromGithub(unique(), 'issues'))).status).toBe(200);
  await emptyDatabase();
  const large = JSON.stringify({ filler: 'x'.repeat(9 * 1024 * 1024), unique: crypto.randomUUID() });
  expect((await deliver(bench, await fromGithub(large, 'push'))).status).toBe(503);
  expect(await rows()).toEqual([]);
});

test('what grows past the largest payload when it is written down is only its copy', async () => {
  const { bench } = withBucket();
  const mail = new FormData();
  // One byte each in the body, six characters in the job.
  mail.append('body-plain', '\u0007'.repeat(3 * 1024 * 1024));
  const timestamp = Math.floor(bench.clock.now() / 1_000);
  expect((await deliver(bench, await multipartFromMailgun(mail, { timestamp }))).status).toBe(200);
  const [row] = await rows();
  expect(JSON.parse(row?.input ?? '{}')).toMatchObject({ event: 'inbound', webhook_data: null });
});

test('one that is large and does not grow is whole in its job', async () => {
  const { bench } = withBucket();
  const filler = 'x'.repeat(4 * 1024 * 1024);
  const answer = await deliver(
    bench,
    await fromGithub(JSON.stringify({ filler, unique: crypto.randomUUID() }), 'push'),
  );
  const { job_id: id } = await answer.json<{ job_id: string }>();
  const input = await (await OBJECTS.get(`inputs/${id}`))?.json<{ webhook_data: { filler: string } }>();
  expect(input?.webhook_data.filler.length).toBe(filler.length);
});

test('a header as long as anybody likes keeps no body from being kept', async () => {
  const { bench } = withBucket();
  const answer = await deliver(bench, await fromGithub(unique(), 'issues', { id: 'g'.repeat(10_000) }));
  const { job_id: id } = await answer.json<{ job_id: string }>();
  expect(await OBJECTS.head(`webhooks/github/${id}`)).not.toBeNull();
});

test('the job knows where its request came from', async () => {
  const { bench } = withBucket();
  await deliver(bench, await fromGithub(unique(), 'issues', { headers: { 'cf-connecting-ip': '203.0.113.9' } }));
  expect(JSON.parse((await rows())[0]?.input ?? '{}')).toMatchObject({ source_ip: '203.0.113.9' });
  const id = `msg_${crypto.randomUUID()}`;
  const message = JSON.stringify({ id: 'EV1', type: 'call.missed', data: { resource: { id } } });
  await deliver(bench, await fromQuo(message, { id, timestamp: Math.floor(bench.clock.now() / 1_000) }));
  expect((await rows()).map(({ input }) => (JSON.parse(input) as { event_id: string }).event_id)).toContain(id);
});

test('one that was claimed longer ago than a row lives is only answered', async () => {
  const clock = new FastClock(START);
  const { bench } = withBucket({ clock });
  const body = JSON.stringify({ unique: crypto.randomUUID(), repository: { pushed_at: START / 1_000 } });
  const first = await (await deliver(bench, await fromGithub(body, 'push', { id: body }))).json<{ job_id: string }>();
  await emptyDatabase();
  clock.set(START + 4 * 86_400_000 + 1_000);
  const late = await (await deliver(bench, await fromGithub(body, 'push', { id: body }))).json();
  expect([late, await rows()]).toEqual([{ status: 'duplicate', job_id: first.job_id }, []]);
});

test('a full database is said to be, and what nobody expected is 503: the sender tries again', async () => {
  const full = new Bench({ settings: { DATABASE_LIMIT_MB: '0.001' } });
  await full.rt.db.run({ name: 'probe', sql: 'SELECT 1', params: [] });
  const answer = await deliver(full, await fromGithub(unique(), 'issues'));
  expect([answer.status, answer.headers.get('retry-after'), await answer.text()]).toEqual([
    503,
    '60',
    expect.stringMatching(/full/),
  ]);
  const broken = new Bench({ ports: () => ({ random: { fraction: () => 0, bytes: () => new Uint8Array(0) } }) });
  const event = await fromMailgun({ event: 'opened' }, { timestamp: Math.floor(broken.clock.now() / 1_000) });
  const odd = await serve(broken.rt, event);
  expect([odd.status, odd.headers.get('retry-after')]).toEqual([503, '5']);
});

test('an interaction that nobody can take is 503: Slack shows who clicked that it failed', async () => {
  const ports = ({ replay }: Runtime): Partial<Runtime> => ({
    replay: { ...replay, claim: () => Promise.reject(new Error('reset')) },
  });
  const bench = new Bench({ ports });
  const payload = JSON.stringify({ type: 'block_actions', trigger_id: 't' });
  const request = await formFromSlack({ payload }, { timestamp: Math.floor(bench.clock.now() / 1_000) });
  expect((await serve(bench.rt, request)).status).toBe(503);
  expect(bench.rt.isolate.deliveries.refused()).toEqual({ slack: { unavailable: 1 } });
});

test('a provider without a secret is among what is counted', async () => {
  const bench = new Bench();
  await serve(bench.rt, await fromGithub(unique(), 'issues'), {
    ...env,
    GITHUB_WEBHOOK_SECRET: '',
    GITHUB_WEBHOOK_SECRET_PREVIOUS: '',
  });
  expect(bench.rt.isolate.deliveries.refused()).toEqual({ github: { no_secret: 1 } });
});
