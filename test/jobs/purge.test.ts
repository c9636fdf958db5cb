import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { callbackOf } from '../../src/jobs/callbacks.ts';
import { submitAll } from '../../src/jobs/enqueue.ts';
import { pause, purge, resume } from '../../src/jobs/queue-control.ts';
import { readCall } from '../../src/jobs/request.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, outage, settled, START } from '../worker/bench.ts';

beforeEach(emptyDatabase);

async function count(where: string): Promise<unknown> {
  return env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE ${where}`).first('n');
}

async function effects(): Promise<unknown> {
  return env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first('n');
}

/** Enqueues many jobs at once. */
async function enqueueMany(bench: Bench, many: number, options: Record<string, number | string> = {}): Promise<void> {
  const request = readCall(bench.rt.registry, { task: 'debug.effect', input: { key: 'purged' }, options });
  if (!request.ok) throw new Error(JSON.stringify(request.faults));
  const { value } = request;
  await submitAll(
    bench.rt,
    Array.from({ length: many }, () => value),
    { owner: 'test', source: 'test' },
  );
}

test('thousands of waiting jobs are cancelled in one call, wherever they wait, and none of them ever runs', async () => {
  const bench = new Bench();
  await enqueueMany(bench, 1_700);
  await enqueueMany(bench, 1_000, { countdown: 3_600 });
  await pause(bench.rt, 'default', null, 'test');
  const messages = bench.queues.take().map(({ envelope }) => envelope);
  await bench.deliver(messages.slice(0, 100));
  expect(await purge(bench.rt, 'default', 'somebody')).toEqual({ purged: 2_700, running: 0, remaining: false });
  expect(await count(`state = 'REVOKED' AND error ->> 'code' = 'purged' AND finished_at IS NOT NULL`)).toBe(2_700);
  await resume(bench.rt, 'default', 'test');
  for (let from = 0; from < messages.length; from += 100) {
    const answers = await bench.deliver(messages.slice(from, from + 100), { attempts: 2 });
    expect(answers.every(({ answer }) => answer === 'ack')).toBe(true);
  }
  (bench.clock as FastClock).set(START + 3_601_000);
  await tick(bench.rt, 'boot');
  expect(bench.queues.sent).toEqual([]);
  expect(await effects()).toBe(0);
  const { results } = await env.DB.prepare(`SELECT actor, detail FROM audit_log WHERE action = 'queue.purged'`).all();
  expect(results).toEqual([{ actor: 'somebody', detail: '{"waiting":2700,"running":0}' }]);
}, 30_000);

test('a purge whose time is over says that something remains, and the next one ends it', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  await enqueueMany(bench, 2_300);
  // Every statement of a purge takes six seconds.
  bench.db.fault = (names) => {
    if (names.includes('purge')) clock.set(clock.now() + 6_000);
    return undefined;
  };
  expect(await purge(bench.rt, 'default', 'test')).toEqual({ purged: 2_000, running: 0, remaining: true });
  expect(await purge(bench.rt, 'default', 'test')).toEqual({ purged: 300, running: 0, remaining: false });
  expect(await count(`finished_at IS NULL`)).toBe(0);
});

test('what a purge cut short by an outage has done is done, and it does not say that all is', async () => {
  const bench = new Bench();
  await enqueueMany(bench, 1_500);
  bench.db.fault = (names) => (names === 'purge' ? { when: 'after', error: outage() } : undefined);
  await expect(purge(bench.rt, 'default', 'test')).rejects.toThrow('Network connection lost');
  bench.db.fault = () => undefined;
  const { purged, remaining } = await purge(bench.rt, 'default', 'test');
  expect([purged, remaining, await count(`error ->> 'code' = 'purged'`)]).toEqual([0, false, 1_500]);
});

test('a job accepted while the database was silent is known to nobody when its queue is purged, and never runs', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  bench.db.fault = () => ({ when: 'before', error: outage() });
  const before = [];
  for (const countdown of [0, 0, 30, 3_600]) {
    const call = { task: 'debug.effect', input: { key: 'silent' }, options: { countdown } };
    before.push((await bench.enqueue(call)).id);
  }
  bench.db.fault = () => undefined;
  expect(await count('true')).toBe(0);
  const envelopes = bench.queues.take().map(({ envelope }) => envelope);
  clock.set(START + 5_000);
  expect(await purge(bench.rt, 'default', 'test')).toEqual({ purged: 0, running: 0, remaining: false });
  clock.set(START + 6_000);
  const [viaDlq, ...others] = envelopes;
  expect((await bench.deliver([viaDlq], { queue: 'default-dlq' }))[0]?.answer).toBe('ack');
  const answers = await bench.deliver(others, { attempts: 3 });
  expect(answers.map(({ answer }) => answer)).toEqual(['ack', 'ack', 'ack']);
  for (const id of before) {
    expect(await bench.job(id)).toMatchObject({ state: 'REVOKED', error: { code: 'purged' }, attempt: 0 });
  }
  // What is accepted afterwards runs, also where its consumer makes the row.
  bench.db.fault = () => ({ when: 'before', error: outage() });
  const after = await bench.enqueue({ task: 'debug_task' });
  const elsewhere = await bench.enqueue({ task: 'debug_task', options: { queue: 'bulk' } });
  bench.db.fault = () => undefined;
  await bench.drain();
  for (const { id } of [after, elsewhere]) expect((await bench.job(id)).state).toBe('SUCCESS');
  clock.set(START + 3_700_000);
  await tick(bench.rt, undefined);
  expect([bench.queues.sent, await effects()]).toEqual([[], 0]);
});

const trying = defineTask({
  name: 'test.trying',
  queue: 'default',
  input: z.object({ how: z.enum(['return', 'throw']) }),
  retry: { max: 3, delays: { kind: 'delays', seconds: [1] } },
  async run({ how }, job) {
    await job.clock.sleep(10_000);
    if (how === 'throw') throw new Error('not yet');
    return 'done';
  },
});

test('what runs when its queue is purged may finish, and has no further attempt', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock, tasks: [trying] });
  const good = await bench.enqueue({ task: 'test.trying', input: { how: 'return' } });
  const bad = await bench.enqueue({ task: 'test.trying', input: { how: 'throw' } });
  const running = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  const waiting = await bench.enqueue({ task: 'test.trying', input: { how: 'return' } });
  expect(await purge(bench.rt, 'default', 'test')).toEqual({ purged: 1, running: 2, remaining: false });
  // They are still running, and are said to be.
  expect(await purge(bench.rt, 'default', 'test')).toEqual({ purged: 0, running: 2, remaining: false });
  await clock.advance(10_100);
  await running;
  expect(await bench.job(good.id)).toMatchObject({ state: 'SUCCESS' });
  expect(await bench.job(bad.id)).toMatchObject({ state: 'REVOKED', attempt: 1, error: { code: 'revoked' } });
  expect(await bench.job(waiting.id)).toMatchObject({ state: 'REVOKED', error: { code: 'purged' } });
});

test('a purge of a job asked to terminate leaves it asked to terminate', async () => {
  const bench = new Bench();
  const { id } = await bench.enqueue({ task: 'debug_task' });
  await env.DB.prepare(`UPDATE jobs SET state = 'STARTED', revoke_requested = 2 WHERE id = ?`).bind(id).run();
  await purge(bench.rt, 'default', 'test');
  expect(await bench.job(id)).toMatchObject({ state: 'STARTED', revoke_requested: 2 });
});

test('who called a purged job is told, also where the queue of the callbacks is the one that was purged', async () => {
  const bench = new Bench();
  const options = { callback_url: 'https://example.invalid/', queue: 'bulk' };
  const { id } = await bench.enqueue({ task: 'debug_task', options });
  await enqueueMany(bench, 999, { queue: 'bulk' });
  expect(await purge(bench.rt, 'bulk', 'test')).toEqual({ purged: 1_000, running: 0, remaining: false });
  expect(await bench.job(callbackOf(id, '').id)).toMatchObject({ task: 'deliver_callback', state: 'PENDING' });
});

test('a retry that waits when its queue is purged is cancelled, and no job that has ended is touched', async () => {
  const bench = new Bench();
  const done = await bench.enqueue({ task: 'debug_task' });
  const failed = await bench.enqueue({ task: 'debug.fail', options: { max_retries: 0 } });
  const retrying = await bench.enqueue({ task: 'debug.fail', options: { retry_delays: [3_600] } });
  await bench.drain();
  expect((await bench.job(retrying.id)).state).toBe('RETRY');
  expect((await purge(bench.rt, 'default', 'test')).purged).toBe(1);
  const states = await Promise.all([done, failed, retrying].map(async ({ id }) => (await bench.job(id)).state));
  expect(states).toEqual(['SUCCESS', 'FAILURE', 'REVOKED']);
});

test('a job that was moved into the queue after its purge is not ended by a message of before', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const call = { task: 'debug.effect', input: { key: 'moved' } };
  const unique = { key: 'moved', on: 'replace' };
  const { id } = await bench.enqueue({ ...call, options: { unique, queue: 'bulk' } });
  const old = bench.queues.take().map(({ envelope }) => envelope);
  clock.set(START + 1_000);
  await purge(bench.rt, 'default', 'test');
  clock.set(START + 2_000);
  await bench.enqueue({ ...call, options: { unique, queue: 'default' } });
  // The platform gave up on its message: the job is owed another.
  await bench.deliver(old, { queue: 'bulk-dlq' });
  expect((await bench.job(id)).state).toBe('PENDING');
  await tick(bench.rt, undefined);
  await bench.drain();
  expect((await bench.job(id)).state).toBe('SUCCESS');
});
