import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import type { Env } from '../../src/env.ts';
import { Discard, Retry, SoftTimeLimitExceeded } from '../../src/jobs/outcome.ts';
import { defineTask, type Job } from '../../src/jobs/task.ts';
import { emptyDatabase, outage, START } from '../worker/bench.ts';
import { askJson } from '../worker/client.ts';
import { Scene } from '../worker/scene.ts';
import { Life } from '../worker/world.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** When each start, clean-up and return was, in milliseconds since the first start. */
const seen: { at: number; what: string }[] = [];

beforeEach(async () => {
  await emptyDatabase();
  seen.length = 0;
});

function see(job: Job, what: string): void {
  seen.push({ at: job.clock.now() - START, what });
}

/** Works for two minutes, and cleans up when it is told to stop. */
const tidy = defineTask({
  name: 'test.tidy',
  queue: 'email',
  input: z.object({ then: z.enum(['return', 'throw', 'throw on', 'discard', 'retry']) }),
  retry: { max: 1, delays: { kind: 'delays', seconds: [100] } },
  async run({ then }, job) {
    see(job, 'start');
    if (job.attempt > 1) return 'whole';
    try {
      await job.clock.sleep(2 * MINUTE, job.signal);
      job.signal.throwIfAborted();
      return 'whole';
    } catch (error) {
      if (!(job.signal.reason instanceof SoftTimeLimitExceeded)) throw error;
      await job.clock.sleep(2 * SECOND);
      see(job, 'clean');
      switch (then) {
        case 'return':
          return 'part';
        case 'throw':
          throw new TypeError('cut off', { cause: error });
        case 'throw on':
          throw error;
        case 'discard':
          throw new Discard('not worth another try');
        case 'retry':
          throw new Retry('at once', { afterSeconds: 1 });
      }
    }
  },
});

const CLEANED_AT = 52 * SECOND;

describe('INV-F21 time limits: at the soft limit the signal fires with SoftTimeLimitExceeded, and a handler', () => {
  test('may clean up and return what it has: that is SUCCESS', async () => {
    const scene = new Scene([tidy]);
    await scene.begin('test.tidy', { then: 'return' });
    await scene.world.pass(MINUTE);
    const { state, result, started_at, finished_at } = await scene.job();
    expect([state, result, seen.map(({ what }) => what)]).toEqual(['SUCCESS', 'part', ['start', 'clean']]);
    expect(Math.abs((finished_at ?? 0) - (started_at ?? 0) - CLEANED_AT)).toBeLessThan(100);
  });

  test.each([
    ['throw', 'time_limit', 100],
    ['throw on', 'time_limit', 100],
    ['retry', 'exception', 1],
  ])('may clean up and %s: a failed attempt, %s, retried after %d s', async (then, code, seconds) => {
    const scene = new Scene([tidy]);
    await scene.begin('test.tidy', { then });
    await scene.world.pass(42.4 * SECOND);
    const waiting = await scene.job();
    expect(waiting).toMatchObject({ state: 'RETRY', attempt: 1, error: { code } });
    expect(waiting.due_at).toBe((waiting.attempts[0]?.finished_at ?? 0) + seconds * SECOND);
    await scene.world.pass(3 * MINUTE);
    await scene.world.run(tick(scene.bench.rt, undefined));
    await scene.world.pass(MINUTE);
    expect(await scene.job()).toMatchObject({ state: 'SUCCESS', attempt: 2, result: 'whole' });
  });

  test('may say that no other attempt would end otherwise', async () => {
    const scene = new Scene([tidy]);
    await scene.begin('test.tidy', { then: 'discard' });
    await scene.world.pass(MINUTE);
    expect(await scene.job()).toMatchObject({ state: 'FAILURE', attempt: 1, error: { code: 'discarded' } });
  });
});

/** Hears nothing: its first run goes on for 200 s, reports all the while, and returns a large result. */
const deaf = defineTask({
  name: 'test.deaf',
  queue: 'email',
  input: z.object({}),
  retry: { max: 0, delays: { kind: 'delays', seconds: [5] } },
  async run(_input, job) {
    const run = 1 + seen.filter(({ what }) => what.startsWith('start')).length;
    see(job, `start ${String(run)}`);
    for (let step = 1; step <= 20; step += 1) {
      await job.clock.sleep(run === 1 ? 10 * SECOND : 2.4 * SECOND);
      job.progress(run === 1 ? 60 + step : step, `run ${String(run)}`);
    }
    see(job, `return ${String(run)} ${job.signal.aborted ? (job.signal.reason as Error).name : ''}`.trim());
    return `${String(run)}${'x'.repeat(100_000)}`;
  },
});

async function keptResults(id: string): Promise<number> {
  const { RESULTS } = env as unknown as Env;
  return (await RESULTS.list({ prefix: `result/${id}` })).keys.length;
}

describe('INV-F21 time limits: a handler that ignores its signal', () => {
  test('has failed at the hard limit, and whatever it reports and returns later is refused', async () => {
    const scene = new Scene([deaf]);
    await scene.begin('test.deaf', {});
    await scene.world.pass(52 * SECOND);
    const failed = await scene.job();
    expect(failed).toMatchObject({ state: 'FAILURE', attempt: 1, error: { code: 'time_limit' }, progress: 65 });
    expect(failed.error?.message).toContain('hard limit of 60 s');
    expect(Math.abs((failed.finished_at ?? 0) - (failed.started_at ?? 0) - MINUTE)).toBeLessThan(100);
    await scene.world.pass(3 * MINUTE);
    expect(seen.map(({ what }) => what)).toEqual(['start 1', 'return 1 SoftTimeLimitExceeded']);
    expect(await scene.job()).toEqual(failed);
    expect((await scene.ask('GET')).body).toMatchObject({ state: 'FAILURE', progress: 65, result: null });
    expect([await keptResults(scene.id), await scene.letters(), scene.world.broker.taken.length]).toEqual([0, 1, 1]);
  });

  test('does not disturb the attempt after it, neither its progress nor its result', async () => {
    const scene = new Scene([deaf]);
    await scene.begin('test.deaf', {}, { max_retries: 1 });
    // The second attempt began at 65 s; its second heartbeat was at 105 s.
    await scene.world.pass(96 * SECOND);
    expect(await scene.job()).toMatchObject({ state: 'STARTED', attempt: 2, progress_note: 'run 2' });
    expect((await scene.job()).progress).toBeLessThanOrEqual(20);
    await scene.world.pass(2 * MINUTE);
    expect(seen.map(({ what }) => what)).toEqual(['start 1', 'start 2', 'return 2', 'return 1 SoftTimeLimitExceeded']);
    const { body } = await scene.ask('GET');
    expect(body).toMatchObject({ state: 'SUCCESS', attempt: 2, progress: 100 });
    expect(String(body['result']).slice(0, 2)).toBe('2x');
    expect(await keptResults(scene.id)).toBe(1);
  });
});

test('INV-F21 time limits: a run whose job was taken over is told so, and what it reports and returns is refused', async () => {
  const scene = new Scene([deaf]);
  const { world } = scene;
  await scene.enqueue('test.deaf', {}, { time_limit: 800, soft_time_limit: 800 });
  const frozen = world.isolate({ tasks: [deaf] });
  const batch = frozen.deliver(world.broker.takeAll(), { queue: 'email' });
  await world.pass(10 * SECOND);
  frozen.db.fault = (names) => (names === 'heartbeat' ? { when: 'before', error: outage() } : undefined);
  await world.pass(95 * SECOND);
  await world.run(tick(scene.bench.rt, undefined));
  scene.consume();
  await world.pass(SECOND);
  // Its heartbeats get through again, before the first one of the other run.
  frozen.db.fault = () => undefined;
  await world.pass(17 * SECOND);
  expect(await scene.job()).toMatchObject({ state: 'STARTED', progress: 0, progress_note: null });
  await world.pass(13 * SECOND);
  expect(await scene.job()).toMatchObject({ state: 'STARTED', progress_note: 'run 2' });
  await world.pass(30 * SECOND);
  const ended = await scene.job();
  expect(ended).toMatchObject({ state: 'SUCCESS', attempt: 1, lost: 1 });
  expect(await world.run(batch)).toMatchObject([{ answer: 'ack' }]);
  expect(seen.map(({ what }) => what)).toEqual(['start 1', 'start 2', 'return 2', 'return 1 LeaseLost']);
  expect(await scene.job()).toEqual(ended);
  expect(String((await scene.ask('GET')).body['result']).slice(0, 2)).toBe('2x');
});

test('INV-F21 time limits: an attempt whose isolate was killed is found by the sweep, and costs no retry', async () => {
  const scene = new Scene([tidy]);
  const { world } = scene;
  await scene.enqueue('test.tidy', { then: 'return' }, { max_retries: 0 });
  // Its second call would be its first heartbeat.
  const doomed = world.isolate({ tasks: [tidy], life: new Life(2, 'before') });
  scene.consume(doomed);
  await world.pass(30 * SECOND);
  expect(seen.map(({ what }) => what)).toEqual(['start']);
  await world.run(tick(scene.bench.rt, undefined));
  expect(await scene.job()).toMatchObject({ state: 'STARTED', lost: 0 });
  await world.pass(61 * SECOND);
  await world.run(tick(scene.bench.rt, undefined));
  expect(await scene.job()).toMatchObject({ state: 'PENDING', lost: 1, attempt: 0 });
  scene.consume();
  await world.pass(MINUTE);
  expect(await scene.job()).toMatchObject({ state: 'SUCCESS', attempt: 1, result: 'part' });
});

describe('INV-F21 time limits: of a call', () => {
  test.each([
    ['shorter than the task', { time_limit: 5, soft_time_limit: 2 }, 'test.tidy', 'part', 4],
    ['of fractions of a second', { time_limit: 3.5, soft_time_limit: 0.25 }, 'test.tidy', 'part', 2.25],
    ['longer than the task', { time_limit: 300, soft_time_limit: 200 }, 'test.tidy', 'whole', 120],
    ['a soft one alone, over the hard one of the task', { soft_time_limit: 100 }, 'test.tidy', null, 100],
    ['a hard one alone, under the soft one of the task', { time_limit: 5 }, 'test.tidy', null, 5],
  ])('win over those of its task: %s', async (_, options, task, result, seconds) => {
    const scene = new Scene([tidy]);
    await scene.begin(task, { then: 'return' }, { ...options, max_retries: 0 });
    await scene.world.pass(2 * MINUTE);
    const job = await scene.job();
    expect([job.state, job.result]).toEqual([result === null ? 'FAILURE' : 'SUCCESS', result]);
    expect(Math.abs((job.finished_at ?? 0) - (job.started_at ?? 0) - seconds * SECOND)).toBeLessThan(100);
  });

  test.each(['time_limit', 'soft_time_limit'])('may be 840 s and no more: %s', async (name) => {
    const { rt } = new Scene([]).bench;
    const body = (seconds: number): object => ({ task: 'debug_task', options: { [name]: seconds } });
    expect((await askJson(rt, 'POST', '/api/v1/jobs', body(840))).status).toBe(202);
    const refused = await askJson(rt, 'POST', '/api/v1/jobs', body(840.001));
    expect(refused).toMatchObject({ status: 422, body: { errors: [{ path: `options.${name}` }] } });
  });
});
