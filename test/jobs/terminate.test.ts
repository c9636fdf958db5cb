import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Json } from '../../src/core/json.ts';
import { tick } from '../../src/cron/tick.ts';
import { Discard, Retry, Terminated } from '../../src/jobs/outcome.ts';
import { defineTask, type Job } from '../../src/jobs/task.ts';
import { emptyDatabase, outage } from '../worker/bench.ts';
import { Scene } from '../worker/scene.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HEARTBEAT = 20 * SECOND;

const ENDINGS = ['returns', 'throws', 'throws Retry', 'throws Discard', 'defers', 'ignores'] as const;
type Ending = (typeof ENDINGS)[number];

/** What its handlers saw: each start, each firing of a signal, each hook. */
const seen: { starts: number; signals: { reason: unknown; at: number }[]; hooks: string[] } = {
  starts: 0,
  signals: [],
  hooks: [],
};

beforeEach(async () => {
  await emptyDatabase();
  Object.assign(seen, { starts: 0, signals: [], hooks: [] });
});

/** Takes 50 s whatever its signal says, and then ends as it was told to. */
const ending = defineTask({
  name: 'test.ending',
  queue: 'default',
  longOnDefault: 'a test',
  input: z.object({ how: z.enum(ENDINGS).default('returns') }),
  timeLimit: { softSeconds: 80, hardSeconds: 90 },
  retry: { max: 3, delays: { kind: 'delays', seconds: [5] } },
  async run({ how }, job) {
    seen.starts += 1;
    job.signal.addEventListener('abort', () => {
      seen.signals.push({ reason: job.signal.reason, at: job.clock.now() });
    });
    await job.clock.sleep(how === 'ignores' ? 5 * MINUTE : 50 * SECOND);
    return endOf(how, job);
  },
  onSuccess: () => void seen.hooks.push('success'),
  onRetry: () => void seen.hooks.push('retry'),
  onFailure: () => void seen.hooks.push('failure'),
});

function endOf(how: Ending, job: Job): unknown {
  switch (how) {
    case 'returns':
    case 'ignores':
      return 'done';
    case 'throws':
      throw new Error('no');
    case 'throws Retry':
      throw new Retry('not now', { afterSeconds: 1 });
    case 'throws Discard':
      throw new Discard('never');
    case 'defers':
      return job.defer({ seconds: 5, reason: 'later' });
  }
}

function revoke(scene: Scene, terminate?: boolean): ReturnType<Scene['ask']> {
  return scene.ask('POST', '/revoke', terminate === undefined ? {} : { terminate });
}

const WHILE_IT_RUNS = { state: 'STARTED', previous_state: 'STARTED', terminating: true };

test('INV-F20 terminate: a long job stops within one heartbeat, and is terminating until it is REVOKED', async () => {
  const scene = new Scene([ending]);
  const { world, bench } = scene;
  await scene.begin('debug.sleep', { seconds: 120, steps: 120 });
  // Just after a heartbeat: the longest way to the next.
  await world.pass(30.5 * SECOND);
  const askedAt = world.clock.now();
  const first = await scene.ask('DELETE', '?terminate=true');
  expect(first).toEqual({ status: 200, body: { id: scene.id, ...WHILE_IT_RUNS } });

  // Asked again and again, also less strictly: nothing takes it back.
  let answers = 0;
  for (const terminate of [undefined, false, true, undefined]) {
    const again = await revoke(scene, terminate);
    if (again.body['state'] === 'REVOKED') break;
    expect(again).toEqual({ status: 200, body: { id: scene.id, ...WHILE_IT_RUNS } });
    answers += 1;
    await world.pass(SECOND);
  }
  expect(answers).toBeGreaterThanOrEqual(3);

  await world.pass(askedAt + HEARTBEAT + SECOND - world.clock.now());
  const ended = await scene.job();
  expect(ended).toMatchObject({ state: 'REVOKED', result: null, attempt: 1, error: { code: 'revoked' } });
  expect((ended.finished_at ?? Infinity) - askedAt).toBeLessThanOrEqual(HEARTBEAT + 100);
  expect(ended.progress).toBeLessThanOrEqual(51);
  expect(await revoke(scene, true)).toEqual({
    status: 200,
    body: { id: scene.id, state: 'REVOKED', previous_state: 'REVOKED', terminating: false },
  });

  await world.pass(5 * MINUTE);
  await world.run(tick(bench.rt, undefined));
  await world.pass(MINUTE);
  expect(await scene.job()).toEqual(ended);
  expect([world.broker.size, world.broker.taken.length, await scene.letters()]).toEqual([0, 1, 0]);
});

test('INV-F20 terminate: the signal fires with the reason Terminated, once', async () => {
  const scene = new Scene([ending]);
  await scene.begin('test.ending', { how: 'throws' });
  const askedAt = scene.world.clock.now();
  await revoke(scene, true);
  await scene.world.pass(2 * MINUTE);
  expect(seen.signals.map(({ reason }) => reason instanceof Terminated)).toEqual([true]);
  expect((seen.signals[0]?.at ?? Infinity) - askedAt).toBeLessThanOrEqual(HEARTBEAT);
});

test('a terminated attempt is listed as revoked with what its handler threw, whether retries were left or not', async () => {
  for (const max_retries of [3, 0]) {
    const scene = new Scene([ending]);
    await scene.begin('test.ending', { how: 'throws' }, { max_retries });
    const { body: before } = await scene.ask('GET');
    await revoke(scene, true);
    await scene.world.pass(2 * MINUTE);
    const { body } = await scene.ask('GET');
    // Not when a retry would have been.
    expect(body['due_at']).toBe(before['due_at']);
    expect(body).toMatchObject({ state: 'REVOKED', attempt: 1, attempts: [{ attempt: 1, outcome: 'revoked' }] });
  }
});

test('an attempt after which its job was to be retried stays listed as that when the job is revoked later', async () => {
  const scene = new Scene([ending]);
  await scene.begin('test.ending', { how: 'throws' }, { retry_delays: [600] });
  await scene.world.pass(2 * MINUTE);
  expect((await revoke(scene)).body).toMatchObject({ state: 'REVOKED', previous_state: 'RETRY' });
  const { body } = await scene.ask('GET');
  expect(body).toMatchObject({ state: 'REVOKED', attempts: [{ attempt: 1, outcome: 'retry' }] });
});

describe('INV-F20 terminate: what a job that runs becomes', () => {
  const last = { max_retries: 0 };
  test.each<[Ending, Record<string, number>, string, string, string[]]>([
    ['returns', {}, 'SUCCESS', 'SUCCESS', ['success']],
    ['throws', {}, 'REVOKED', 'REVOKED', []],
    ['throws Retry', {}, 'REVOKED', 'REVOKED', []],
    ['defers', {}, 'REVOKED', 'REVOKED', []],
    ['ignores', {}, 'REVOKED', 'REVOKED', []],
    ['throws Discard', {}, 'FAILURE', 'REVOKED', []],
    ['throws', last, 'FAILURE', 'REVOKED', []],
    ['throws Retry', last, 'FAILURE', 'REVOKED', []],
    ['ignores', last, 'FAILURE', 'REVOKED', []],
  ])('when its handler %s (%j): revoked %s, terminated %s', async (how, options, revoked, terminated, hooks) => {
    for (const [terminate, state] of [
      [false, revoked],
      [true, terminated],
    ] as const) {
      await emptyDatabase();
      Object.assign(seen, { starts: 0, signals: [], hooks: [] });
      const scene = new Scene([ending]);
      await scene.begin('test.ending', { how }, options);
      expect((await revoke(scene, terminate)).body).toMatchObject({ terminating: terminate });
      await scene.world.pass(10 * MINUTE);
      const job = await scene.job();
      expect({ terminate, state: job.state, result: job.result }).toEqual({
        terminate,
        state,
        result: state === 'SUCCESS' ? 'done' : null,
      });
      expect(seen.starts).toBe(1);
      expect(await scene.letters()).toBe(state === 'FAILURE' ? 1 : 0);
      expect(seen.hooks).toEqual(state === 'FAILURE' ? ['failure'] : hooks);
      expect((await revoke(scene, true)).status).toBe(state === 'REVOKED' ? 200 : 409);
    }
  });

  test('only revoked it is left in peace: its signal does not fire', async () => {
    const scene = new Scene([ending]);
    await scene.begin('test.ending', { how: 'returns' });
    await revoke(scene);
    await scene.world.pass(2 * MINUTE);
    expect([(await scene.job()).state, seen.signals]).toEqual(['SUCCESS', []]);
  });
});

test('INV-F20 terminate: what an attempt still returns after its isolate was given up is refused', async () => {
  const scene = new Scene([ending]);
  const { world } = scene;
  const frozen = world.isolate({ tasks: [ending] });
  await scene.enqueue('test.ending', { how: 'ignores' }, LONG);
  scene.consume(frozen);
  await world.pass(10 * SECOND);
  // None of its heartbeats gets through, so it never hears of it.
  frozen.db.fault = (names) => (names === 'heartbeat' ? { when: 'before', error: outage() } : undefined);
  expect((await revoke(scene, true)).body).toMatchObject(WHILE_IT_RUNS);
  await world.pass(2 * MINUTE);
  expect((await revoke(scene)).body).toMatchObject(WHILE_IT_RUNS);
  await world.run(tick(scene.bench.rt, undefined));
  const ended = await scene.job();
  expect(ended).toMatchObject({ state: 'REVOKED', result: null, lost: 1, error: { code: 'revoked' } });
  // Its handler returns after five minutes.
  await world.pass(10 * MINUTE);
  expect(await scene.job()).toEqual(ended);
  expect([seen.starts, seen.hooks]).toEqual([1, []]);
});

const LONG = { time_limit: 800, soft_time_limit: 800 };

describe('INV-F20 terminate: a job that waits', () => {
  test.each<[string, Record<string, Json>, Ending]>([
    ['PENDING', {}, 'returns'],
    ['SCHEDULED', { countdown: 30 }, 'returns'],
    ['RETRY', { retry_delays: [30] }, 'throws'],
  ])(
    'never starts once it is revoked as %s, though its message is delivered twice later',
    async (state, options, how) => {
      const scene = new Scene([ending]);
      const { world, bench } = scene;
      const { id } = await world.run(bench.enqueue({ task: 'test.ending', input: { how }, options }));
      scene.id = id;
      const [envelope] = world.broker.takeAll();
      if (state === 'RETRY') await world.run(bench.deliver([envelope]));
      const { starts } = seen;
      expect(await revoke(scene, true)).toEqual({
        status: 200,
        body: { id, state: 'REVOKED', previous_state: state, terminating: false },
      });
      await world.pass(MINUTE);
      for (const attempts of [1, 2]) {
        expect(await world.run(bench.deliver([envelope], { attempts }))).toEqual([{ id, answer: 'ack' }]);
      }
      await world.run(tick(bench.rt, 'after a restart'));
      expect([seen.starts - starts, world.broker.size]).toEqual([0, 0]);
      expect((await scene.job()).state).toBe('REVOKED');
    },
  );
});
