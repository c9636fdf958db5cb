import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { retire } from '../../src/cron/retention.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';
import { ask } from '../worker/client.ts';

beforeEach(emptyDatabase);

const DAY_MS = 86_400_000;

/** A bench whose database holds `share` of what it may. */
async function benchFilledTo(share: number, now = START): Promise<Bench> {
  const { meta } = await env.DB.prepare('SELECT 1').run();
  const DATABASE_LIMIT_MB = String(meta.size_after / share / 1_000_000);
  return new Bench({ clock: new FastClock(now), settings: { DATABASE_LIMIT_MB } });
}

test('a full database takes no more jobs: 503 that says so and when to come back, and nothing is written or sent', async () => {
  const bench = await benchFilledTo(0.951);
  // What an isolate knows of the size it knows from answers: the first call is told by the second look.
  await bench.rt.db.run({ name: 'any', sql: 'SELECT 1', params: [] });
  const reply = await ask(bench.rt, '/api/v1/jobs', { method: 'POST', body: '{"task":"debug_task"}' });
  expect([reply.status, reply.headers.get('retry-after')]).toEqual([503, '60']);
  expect(await reply.json()).toMatchObject({ detail: expect.stringContaining('full') as string });
  expect([bench.statements('accept'), bench.queues.sends]).toEqual([0, 0]);
  const health = await ask(bench.rt, '/health');
  expect(health.status).toBe(503);
  expect(await health.json()).toMatchObject({ checks: { database: { status: 'unhealthy' } } });
});

test('a call that was accepted before is told so, however full the database is by then', async () => {
  const call = { task: 'debug_task', options: { idempotency_key: 'before-it-was-full' } };
  const first = await new Bench({ clock: new FastClock(START) }).enqueue(call);
  const bench = await benchFilledTo(0.99);
  await bench.rt.db.run({ name: 'any', sql: 'SELECT 1', params: [] });
  expect(await bench.enqueue(call)).toMatchObject({ id: first.id, replayed: true });
});

test('a little below that it takes them', async () => {
  const bench = await benchFilledTo(0.9);
  await bench.rt.db.run({ name: 'any', sql: 'SELECT 1', params: [] });
  expect((await bench.enqueue({ task: 'debug_task' })).kind).toBe('accepted');
});

test('an isolate that heard of a full database long ago asks again before it refuses', async () => {
  const bench = await benchFilledTo(0.5);
  bench.rt.isolate.size.bytes = Number.MAX_SAFE_INTEGER;
  expect((await bench.enqueue({ task: 'debug_task' })).kind).toBe('accepted');
});

test('a database that does not answer is not known to be full: the message alone is the acceptance', async () => {
  const bench = await benchFilledTo(0.99);
  bench.rt.isolate.size.bytes = Number.MAX_SAFE_INTEGER;
  bench.db.fault = () => ({ when: 'before', error: outage() });
  expect((await bench.enqueue({ task: 'debug_task' })).kind).toBe('accepted');
  expect(bench.queues.sent).toHaveLength(1);
});

test('from 80 % on finished jobs leave sooner, though never before a message of theirs could still come', async () => {
  const bench = new Bench({ clock: new FastClock(START) });
  const { id } = await bench.enqueue({ task: 'debug_task' });
  await bench.drain();
  const tidy = async (share: number, ageMs: number): Promise<boolean> => {
    const later = await benchFilledTo(share, START + ageMs);
    await later.rt.db.run({ name: 'any', sql: 'SELECT 1', params: [] });
    await retire(later.rt);
    await retire(later.rt);
    return later.job(id).then(
      () => true,
      () => false,
    );
  };
  expect(await tidy(0.79, 6 * DAY_MS)).toBe(true);
  expect(await tidy(0.81, 5 * DAY_MS - 1)).toBe(true);
  expect(await tidy(0.81, 5 * DAY_MS + 1_000)).toBe(false);
});
