import { evictDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Env } from '../../src/env.ts';
import { tick } from '../../src/cron/tick.ts';
import { wake } from '../../src/jobs/park.ts';
import { wakeNext } from '../../src/jobs/passes.ts';
import type { Locks, Rates } from '../../src/jobs/runtime.ts';
import { revoke } from '../../src/jobs/inspect.ts';
import { Discard, RateLimited } from '../../src/jobs/outcome.ts';
import { defineTask, type Job, type Task, type TaskDefinition } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, nameInLife, settled, START } from '../worker/bench.ts';
import { ask } from '../worker/client.ts';
import { World } from '../worker/world.ts';

beforeEach(emptyDatabase);

interface Span {
  readonly id: string;
  readonly key: string;
  readonly from: number;
  to: number;
}

const input = z.object({ key: z.string().default('k') });
type Limits = Pick<TaskDefinition<typeof input, unknown>, 'rateLimit' | 'concurrency' | 'retry' | 'queue'>;

/** A task that writes down when its handlers ran, and does what it is told. */
function recorded(
  spans: Span[],
  limits: Partial<Limits>,
  run: (job: Job, key: string) => unknown = (job) => job.clock.sleep(100),
  name = 'test.limited',
): Task {
  return defineTask({
    name,
    queue: 'default',
    input,
    ...limits,
    async run({ key }, job) {
      const span: Span = { id: job.id, key, from: job.clock.now(), to: Infinity };
      spans.push(span);
      try {
        return await run(job, key);
      } finally {
        span.to = job.clock.now();
      }
    },
  });
}

function mostInWindow(spans: readonly Span[], periodMs: number): number {
  return Math.max(
    ...spans.map(({ from }) => spans.filter((each) => each.from >= from && each.from < from + periodMs).length),
  );
}

function mostAtOnce(spans: readonly Span[]): number {
  return Math.max(...spans.map(({ from }) => spans.filter((each) => each.from <= from && each.to > from).length));
}

/** Delivers to several isolates at once and ticks every minute until nothing is open any more, at most for so long. */
async function runFor(world: World, isolates: readonly Bench[], milliseconds: number): Promise<void> {
  const until = world.clock.now() + milliseconds;
  const ticks = async (): Promise<void> => {
    while (world.clock.now() < until) {
      for (const isolate of isolates.slice(0, 1)) await tick(isolate.rt, undefined);
      await world.clock.sleep(60_000);
    }
  };
  await world.run(Promise.all([...isolates.map((each) => world.keepDelivering(each, until, 1_000)), ticks()]));
}

async function attemptsOf(bench: Bench, ids: readonly string[]): Promise<readonly (readonly [string, number])[]> {
  return Promise.all(ids.map(async (id) => bench.job(id).then(({ state, attempt }) => [state, attempt] as const)));
}

/** Those of a port whose members are only made when they are asked for. */
function methodsOf(port: Rates): Rates;
function methodsOf(port: Locks): Locks;
function methodsOf(port: Rates | Locks): Rates | Locks {
  const names = ['reserve', 'settle', 'hold', 'acquire', 'take', 'renew', 'release', 'line', 'leave', 'standing'];
  return Object.fromEntries(names.map((name) => [name, Reflect.get(port, name) as unknown])) as unknown as
    Rates | Locks;
}

describe('300 jobs of 100 a minute, arriving at once on several consumers', () => {
  for (const evicted of [false, true]) {
    const title = evicted
      ? 'the same while the limiter is evicted again and again'
      : 'never more than 100 in any minute';
    test(`${title}, all done within three minutes, no attempt used for waiting`, async () => {
      const spans: Span[] = [];
      const task = recorded(spans, { rateLimit: '100/m' });
      const world = new World();
      const isolates = [0, 1, 2].map(() => world.isolate({ tasks: [task] }));
      const [first] = isolates;
      if (first === undefined) throw new Error('There is an isolate.');
      const ids: string[] = [];
      for (const queue of ['default', 'critical', 'bulk']) {
        for (let job = 0; job < 100; job += 1) {
          ids.push((await world.run(first.enqueue({ task: task.name, input: {}, options: { queue } }))).id);
        }
      }
      const limiter = (env as unknown as Env).RATE_LIMITER.getByName(nameInLife('test.limited/rate'));
      let times = 0;
      const evictions = async (): Promise<void> => {
        for (let at = 0; at < 17; at += 1) {
          await world.clock.sleep(10_000);
          // It may have gone by itself.
          await evictDurableObject(limiter).then(
            () => (times += 1),
            () => undefined,
          );
        }
      };
      await Promise.all([runFor(world, isolates, 180_000), ...(evicted ? [world.run(evictions())] : [])]);
      expect(times).toBeGreaterThanOrEqual(evicted ? 2 : 0);
      expect(spans).toHaveLength(300);
      expect(mostInWindow(spans, 60_000)).toBeLessThanOrEqual(100);
      expect(Math.max(...spans.map(({ to }) => to)) - START).toBeLessThanOrEqual(180_000);
      expect(new Set((await attemptsOf(first, ids)).map(String))).toEqual(new Set(['SUCCESS,1']));
    }, 30_000);
  }
});

test('a job takes from its key, its task and its queue, and gives back what it does not use', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, {
    queue: 'agents',
    rateLimit: ['5/m', { limit: '2/m', key: ({ key }) => key }],
  });
  const bench = new Bench({ tasks: [task] });
  for (const key of ['a', 'a', 'a', 'b', 'b', 'b', 'c', 'c']) await bench.enqueue({ task: task.name, input: { key } });
  const messages = bench.queues.take().map(({ envelope }) => envelope);
  await bench.deliver(messages, { queue: 'agents' });
  // Two of a, two of b, one of c; the second of c had its key's slot, and has given it back.
  expect(spans.map(({ key }) => key).sort()).toEqual(['a', 'a', 'b', 'b', 'c']);
  await bench.background();
  const left = await bench.rt.rates.reserve('test.limited/rate-2/c', { limit: 2, periodMs: 60_000 }, [
    { job: 'another', claim: 0, priority: 5, since: 0 },
  ]);
  expect(left.map(({ kind }) => kind)).toEqual(['granted']);
});

test('a batch asks each limit once, however many of its jobs take from it', async () => {
  const task = recorded([], { rateLimit: '100/m' });
  let calls = 0;
  const bench = new Bench({
    tasks: [task],
    ports: ({ rates }) => ({
      rates: {
        ...methodsOf(rates),
        reserve: (...asked) => {
          calls += 1;
          return rates.reserve(...asked);
        },
      },
    }),
  });
  for (let job = 0; job < 50; job += 1) await bench.enqueue({ task: task.name, input: {} });
  await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  expect(calls).toBe(1);
});

test('who waits for a rate limit says so, is PENDING, and keeps nobody else of its queue waiting', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { rateLimit: '1/m' });
  const bench = new Bench({ tasks: [task] });
  const first = await bench.enqueue({ task: task.name, input: {} });
  const second = await bench.enqueue({ task: task.name, input: {}, options: { countdown: 0.001 } });
  const other = await bench.enqueue({ task: 'debug_task', input: {} });
  await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  expect((await bench.job(first.id)).state).toBe('SUCCESS');
  expect((await bench.job(other.id)).state).toBe('SUCCESS');
  const waiting = await bench.job(second.id);
  expect(waiting).toMatchObject({ state: 'PENDING', attempt: 0, waiting_for: 'the rate limit of test.limited (1/m)' });
  expect(waiting.due_at - bench.clock.now()).toBeGreaterThan(50_000);
});

test('a 429 with Retry-After lets nobody start that takes from the same limit, until then', async () => {
  const spans: Span[] = [];
  let busy = true;
  const task = recorded(spans, { rateLimit: '100/m', retry: { max: 2 } }, () => {
    if (!busy) return 'taken';
    busy = false;
    throw new RateLimited('Too many requests.', { afterSeconds: 40 });
  });
  const world = new World();
  const isolate = world.isolate({ tasks: [task] });
  await world.run(isolate.enqueue({ task: task.name, input: {} }));
  await world.run(world.deliver(isolate));
  await world.run(isolate.background());
  const later = [];
  for (let job = 0; job < 3; job += 1) later.push(await world.run(isolate.enqueue({ task: task.name, input: {} })));
  await runFor(world, [isolate], 60_000);
  const [refused, ...others] = spans;
  expect(others).toHaveLength(4);
  for (const { from } of others) expect(from - (refused?.from ?? 0)).toBeGreaterThanOrEqual(40_000);
  expect(
    await attemptsOf(
      isolate,
      later.map(({ id }) => id),
    ),
  ).toEqual(Array.from({ length: 3 }, () => ['SUCCESS', 1]));
});

test('a limiter that does not answer lets nobody start, and nobody lose an attempt; then they run', async () => {
  for (const fate of ['refused', 'silent', 'done, silent'] as const) {
    await emptyDatabase();
    const spans: Span[] = [];
    const task = recorded(spans, { rateLimit: '10/s', concurrency: { limit: 2 } });
    const world = new World();
    let broken = true;
    const isolate = world.isolate({
      tasks: [task],
      fault: (port) => (port === 'limits' && broken ? fate : 'answered'),
    });
    const { id } = await world.run(isolate.enqueue({ task: task.name, input: {} }));
    await world.run(world.deliver(isolate));
    expect(spans).toHaveLength(0);
    expect(await isolate.job(id)).toMatchObject({ state: 'PENDING', attempt: 0 });
    expect((await isolate.job(id)).waiting_for).toContain('does not answer');
    broken = false;
    await runFor(world, [isolate], 120_000);
    expect(await attemptsOf(isolate, [id])).toEqual([['SUCCESS', 1]]);
  }
});

test('of one key one job runs at a time, highest priority and oldest first, on several consumers', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { concurrency: { key: ({ key }) => key, limit: 1 } });
  const world = new World();
  const isolates = [0, 1].map(() => world.isolate({ tasks: [task] }));
  const [first] = isolates;
  if (first === undefined) throw new Error('There is an isolate.');
  const ids: string[] = [];
  for (let job = 0; job < 24; job += 1) {
    const key = job % 2 === 0 ? 'even' : 'odd';
    const call = { task: task.name, input: { key }, options: { priority: job === 20 ? 7 : 5 } };
    ids.push((await world.run(first.enqueue(call))).id);
    await world.pass(1);
  }
  await runFor(world, isolates, 120_000);
  expect(spans).toHaveLength(24);
  for (const key of ['even', 'odd']) expect(mostAtOnce(spans.filter((each) => each.key === key))).toBe(1);
  expect(mostAtOnce(spans)).toBe(2);
  const even = spans.filter(({ key }) => key === 'even').map(({ id }) => ids.indexOf(id));
  // The urgent one goes before all but whoever had the lock already.
  expect(even.indexOf(20)).toBeLessThanOrEqual(1);
  expect(even.filter((job) => job !== 20)).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 22]);
  expect(new Set((await attemptsOf(first, ids)).map(String))).toEqual(new Set(['SUCCESS,1']));
});

test('who waits for a lock is parked, says who has it, and is gone at once where it is revoked', async () => {
  const task = recorded([], { concurrency: { limit: 1 } }, (job) => job.clock.sleep(30_000));
  const world = new World();
  const isolate = world.isolate({ tasks: [task] });
  const holder = await world.run(isolate.enqueue({ task: task.name, input: {} }));
  const delivering = world.keepDelivering(isolate, world.clock.now() + 10_000, 1_000);
  await world.pass(2_000);
  const waiter = await world.run(isolate.enqueue({ task: task.name, input: {} }));
  await world.pass(3_000);
  expect(await isolate.job(waiter.id)).toMatchObject({
    state: 'PENDING',
    attempt: 0,
    waiting_for: `the lock of test.limited, held by ${holder.id}`,
  });
  expect(world.broker.size).toBe(1);
  await world.run(revoke(isolate.rt, waiter.id, false));
  await world.run(delivering);
  await runFor(world, [isolate], 60_000);
  expect((await isolate.job(holder.id)).state).toBe('SUCCESS');
  expect((await isolate.job(waiter.id)).state).toBe('REVOKED');
});

test('memory: of one agent one job writes at a time, whatever its task; other agents go on', async () => {
  const spans: Span[] = [];
  const tasks = ['test.remember', 'test.forget'].map((name) =>
    defineTask({
      name,
      queue: 'memory',
      input: z.object({ agent_id: z.string() }),
      async run({ agent_id }, job) {
        const span: Span = { id: job.id, key: agent_id, from: job.clock.now(), to: Infinity };
        spans.push(span);
        await job.clock.sleep(500);
        span.to = job.clock.now();
      },
    }),
  );
  const world = new World();
  const isolates = [0, 1, 2].map(() => world.isolate({ tasks }));
  const [first] = isolates;
  if (first === undefined) throw new Error('There is an isolate.');
  for (let job = 0; job < 16; job += 1) {
    const call = { task: tasks[job % 2]?.name ?? '', input: { agent_id: job % 4 < 2 ? 'ada' : 'bob' } };
    await world.run(first.enqueue(call));
  }
  await runFor(world, isolates, 60_000);
  expect(spans).toHaveLength(16);
  for (const agent of ['ada', 'bob']) expect(mostAtOnce(spans.filter(({ key }) => key === agent))).toBe(1);
  expect(mostAtOnce(spans)).toBe(2);
});

test('a noisy key with a thousand parked jobs does not delay the one job of another', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { concurrency: { key: ({ key }) => key, limit: 1 } }, (job) => job.clock.sleep(1_000));
  const world = new World();
  const isolate = world.isolate({ tasks: [task] });
  const noisy = { task: task.name, input: { key: 'noisy' } };
  await world.run(Promise.all(Array.from({ length: 1_000 }, () => isolate.enqueue(noisy))));
  const until = world.clock.now() + 40_000;
  const delivering = world.keepDelivering(isolate, until, 500);
  await world.run(world.clock.sleep(20_000));
  const asked = world.clock.now();
  const quiet = await world.run(isolate.enqueue({ task: task.name, input: { key: 'quiet' } }));
  await world.run(delivering);
  const span = spans.find(({ id }) => id === quiet.id);
  expect((span?.from ?? Infinity) - asked).toBeLessThan(3_000);
  expect(spans.filter(({ key, from }) => key === 'noisy' && from > asked).length).toBeGreaterThan(3);
}, 30_000);

test('a lock is free again whatever its job comes to', async () => {
  const ends: readonly ((job: Job) => unknown)[] = [
    () => 'done',
    () => {
      throw new Error('failed, to be retried');
    },
    () => {
      throw new Discard('failed for good');
    },
    (job) => job.defer({ seconds: 3_600, reason: 'much later' }),
  ];
  for (const end of ends) {
    await emptyDatabase();
    let first = true;
    const task = recorded([], { concurrency: { limit: 1 } }, (job) => {
      if (!first) return 'second';
      first = false;
      return end(job);
    });
    const bench = new Bench({ tasks: [task] });
    await bench.enqueue({ task: task.name, input: {} });
    const next = await bench.enqueue({ task: task.name, input: {} });
    for (const { envelope } of bench.queues.take()) await bench.deliver([envelope]);
    expect((await bench.job(next.id)).state).toBe('SUCCESS');
  }
});

test('a wake that overtakes the park is not undone by it: the job asks again, and runs', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { concurrency: { limit: 1 } }, () => 'done');
  const lock = 'test.limited/lock';
  const other = { job: 'another', priority: 5, since: 0 };
  // Another job has the lock, and gives it back between the refusal and the park.
  const bench: Bench = new Bench({
    tasks: [task],
    ports: ({ locks }) => ({
      locks: {
        ...methodsOf(locks),
        acquire: async (...asked) => {
          const answer = await locks.acquire(...asked);
          await wake(bench.rt, await locks.release(lock, 'other', [other.job]));
          return answer;
        },
      },
    }),
  });
  const { id } = await bench.enqueue({ task: task.name, input: {} });
  const [first] = bench.queues.take().map(({ envelope }) => envelope);
  await bench.rt.locks.take(lock, 1, 'other', other);
  expect(await bench.deliver([first])).toEqual([{ id, answer: { delaySeconds: 1 } }]);
  expect(await bench.job(id)).toMatchObject({ state: 'PENDING', waiting_for: null });
  // The message of the wake.
  await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  expect((await bench.job(id)).state).toBe('SUCCESS');
});

test('a grant that has run out before its handler could begin is not used, and costs no attempt', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { rateLimit: '10/s' });
  let stale = true;
  const bench = new Bench({
    tasks: [task],
    ports: ({ rates }) => ({
      rates: {
        ...methodsOf(rates),
        reserve: async (...asked) => {
          const answers = await rates.reserve(...asked);
          return stale ? answers.map((each) => ({ ...each, validMs: 0 })) : answers;
        },
      },
    }),
  });
  const { id } = await bench.enqueue({ task: task.name, input: {} });
  const messages = bench.queues.take().map(({ envelope }) => envelope);
  expect(await bench.deliver(messages)).toEqual([{ id, answer: { delaySeconds: 1 } }]);
  expect(await bench.job(id)).toMatchObject({
    state: 'PENDING',
    attempt: 0,
    waiting_for: 'the rate limit of test.limited (10/s)',
  });
  stale = false;
  await bench.clock.sleep(1_000);
  await bench.deliver(messages);
  expect(await attemptsOf(bench, [id])).toEqual([['SUCCESS', 1]]);
  expect(spans).toHaveLength(1);
});

test('asked about a parked job, the API says who has the lock now, and how many wait before it', async () => {
  const bench = new Bench({ tasks: [recorded([], { concurrency: { limit: 1 } })] });
  const jobs = [];
  for (let job = 0; job < 3; job += 1) jobs.push(await bench.enqueue({ task: 'test.limited', input: {} }));
  const lock = 'test.limited/lock';
  await bench.rt.locks.take(lock, 1, 'other', { job: 'first-holder', priority: 5, since: 0 });
  for (const { envelope } of bench.queues.take()) await bench.deliver([envelope]);
  await bench.rt.locks.take(lock, 1, 'other', { job: 'first-holder', priority: 5, since: 0 });
  const reasons = [];
  for (const { id } of jobs) {
    const job: { waiting_for: string } = await (await ask(bench.rt, `/api/v1/jobs/${id}`)).json();
    reasons.push(job.waiting_for);
  }
  expect(reasons.sort()).toEqual([
    'the lock of test.limited, held by first-holder',
    'the lock of test.limited, held by first-holder (1 before it)',
    'the lock of test.limited, held by first-holder (2 before it)',
  ]);
});

test('who has lost his lock to another is told, and has used no attempt when he stops', async () => {
  const task = recorded([], { concurrency: { limit: 1 } }, async (job) => {
    await job.clock.sleep(60_000, job.signal);
    job.signal.throwIfAborted();
  });
  const world = new World();
  const isolate = world.isolate({ tasks: [task] });
  const { id } = await world.run(isolate.enqueue({ task: task.name, input: {} }));
  const delivering = world.keepDelivering(isolate, world.clock.now() + 15_000, 1_000);
  await world.pass(5_000);
  // As if its renewals had been lost for ninety seconds.
  const lock = 'test.limited/lock';
  await world.run(isolate.rt.locks.take(lock, 1, 'another', { job: id, priority: 5, since: 0 }));
  await world.run(delivering);
  expect(await isolate.job(id)).toMatchObject({
    state: 'PENDING',
    attempt: 0,
    waiting_for: 'Its lock was given to another job.',
  });
});

test('a parked job whose place is taken asks for the lock of the key it has now', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { concurrency: { key: ({ key }) => key, limit: 1 } }, () => 'done');
  const bench = new Bench({ tasks: [task] });
  const unique = { key: 'one', on: 'replace' };
  const { id } = await bench.enqueue({ task: task.name, input: { key: 'a' }, options: { unique } });
  await bench.rt.locks.take('test.limited/lock/a', 1, 'other', { job: 'another', priority: 5, since: 0 });
  const first = bench.queues.take().map(({ envelope }) => envelope);
  expect(await bench.deliver(first)).toEqual([{ id, answer: 'ack' }]);
  expect((await bench.enqueue({ task: task.name, input: { key: 'b' }, options: { unique } })).id).toBe(id);
  const second = bench.queues.take().map(({ envelope }) => envelope);
  expect(second).toHaveLength(1);
  // The lock of the old key has no turn for it.
  await bench.background();
  await bench.rt.locks.take('test.limited/lock/b', 1, 'other', { job: 'z', priority: 5, since: 0 });
  await bench.deliver(second);
  expect((await bench.job(id)).parked_for).toBe('test.limited/lock/b');
  await wakeNext(
    bench.rt,
    'test.limited/lock/a',
    await bench.rt.locks.release('test.limited/lock/a', 'other', ['another']),
  );
  expect(bench.queues.take()).toEqual([]);
  await wakeNext(bench.rt, 'test.limited/lock/b', await bench.rt.locks.release('test.limited/lock/b', 'other', ['z']));
  // Whichever message brings it: the old one knows only of the old key.
  await bench.deliver(first);
  expect(spans.map(({ key }) => key)).toEqual(['b']);
  await bench.deliver(second);
  expect(spans).toHaveLength(1);
});

describe('a call that takes the place of a waiting job', () => {
  const unique = { key: 'one', on: 'replace' };
  const elsewhere = { job: 'another', priority: 5, since: 0 };

  test('in a queue with a lock has the job ask for it, although its old message knows of none', async () => {
    const spans: Span[] = [];
    const task = defineTask({
      name: 'test.moved',
      queue: 'default',
      input: z.object({ agent_id: z.string() }),
      run: (_, job) => spans.push({ id: job.id, key: '', from: job.clock.now(), to: 0 }),
    });
    const bench = new Bench({ tasks: [task] });
    const call = { task: task.name, input: { agent_id: 'ada' } };
    const { id } = await bench.enqueue({ ...call, options: { unique } });
    const old = bench.queues.take().map(({ envelope }) => envelope);
    await bench.enqueue({ ...call, options: { unique, queue: 'memory' } });
    const lock = 'queue/memory/ada';
    await bench.rt.locks.take(lock, 1, 'other', elsewhere);
    expect(await bench.deliver(old)).toEqual([{ id, answer: 'ack' }]);
    expect(spans).toHaveLength(0);
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', attempt: 0 });
    await tick(bench.rt, undefined);
    await bench.drain();
    expect(spans).toHaveLength(0);
    expect((await bench.job(id)).waiting_for).toContain('the lock of the queue memory');
    await wake(bench.rt, await bench.rt.locks.release(lock, 'other', [elsewhere.job]));
    await bench.drain();
    expect(spans).toHaveLength(1);
  });

  test('has the job ask with the priority it has now', async () => {
    const asked: unknown[] = [];
    const bench = new Bench({
      tasks: [recorded([], { rateLimit: '5/s', concurrency: { limit: 1 } }, () => 'done')],
      ports: ({ locks, rates }) => ({
        locks: {
          ...methodsOf(locks),
          acquire: (name, limit, token, asks) => {
            asked.push(...asks.map(({ priority }) => priority));
            return locks.acquire(name, limit, token, asks);
          },
        },
        rates: {
          ...methodsOf(rates),
          reserve: (name, rate, asks) => {
            asked.push(...asks.map(({ priority }) => priority));
            return rates.reserve(name, rate, asks);
          },
        },
      }),
    });
    const call = { task: 'test.limited', input: {} };
    await bench.enqueue({ ...call, options: { unique } });
    await bench.enqueue({ ...call, options: { unique, priority: 7 } });
    await bench.drain();
    expect(asked).toEqual([7, 7]);
  });

  test('while the job asks for the lock of its old key lets it not start with that', async () => {
    const spans: Span[] = [];
    const task = recorded(spans, { concurrency: { key: ({ key }) => key, limit: 1 } }, () => 'done');
    const call = { task: task.name, options: { unique } };
    let meanwhile = true;
    const bench: Bench = new Bench({
      tasks: [task],
      ports: ({ locks }) => ({
        locks: {
          ...methodsOf(locks),
          acquire: async (...asked) => {
            const answer = await locks.acquire(...asked);
            if (meanwhile) await bench.enqueue({ ...call, input: { key: 'b' } });
            meanwhile = false;
            return answer;
          },
        },
      }),
    });
    const { id } = await bench.enqueue({ ...call, input: { key: 'a' } });
    await bench.rt.locks.take('test.limited/lock/b', 1, 'other', elsewhere);
    await bench.drain();
    expect(spans).toHaveLength(0);
    await wake(bench.rt, await bench.rt.locks.release('test.limited/lock/b', 'other', [elsewhere.job]));
    await tick(bench.rt, undefined);
    await bench.drain();
    expect(spans).toMatchObject([{ id, key: 'b' }]);
    expect((await bench.rt.locks.standing('test.limited/lock/a', id)).holders).toEqual([]);
  });
});

test('a thousand waiters that were purged cost whoever frees the lock some calls, and not one each', async () => {
  let left = 0;
  const bench = new Bench({
    tasks: [recorded([], { concurrency: { limit: 1 } }, () => 'done')],
    ports: ({ locks }) => ({
      locks: {
        ...methodsOf(locks),
        leave: (...said) => {
          left += 1;
          return locks.leave(...said);
        },
      },
    }),
  });
  const lock = 'test.limited/lock';
  await bench.rt.locks.take(lock, 1, 'other', { job: 'another', priority: 5, since: 0 });
  const gone = Array.from({ length: 1_000 }, (_, at) => ({ job: `gone-${String(at)}`, priority: 5, since: at }));
  await bench.rt.locks.acquire(lock, 1, 'them', gone);
  const { id } = await bench.enqueue({ task: 'test.limited', input: {} });
  await bench.drain();
  await wakeNext(bench.rt, lock, await bench.rt.locks.release(lock, 'other', ['another']));
  expect(bench.queues.sent.map(({ envelope }) => envelope.id)).toEqual([id]);
  expect(left).toBeLessThanOrEqual(10);
  expect(bench.statements('wake')).toBeLessThanOrEqual(10);
});

test('that one lock does not answer keeps nobody from hearing that he has lost another', async () => {
  const aborted: string[] = [];
  const task = recorded([], { concurrency: { key: ({ key }) => key, limit: 1 } }, async (job) => {
    await job.clock.sleep(30_000, job.signal);
    if (job.signal.aborted) aborted.push(job.id);
  });
  const bench = new Bench({
    tasks: [task],
    ports: ({ locks }) => ({
      locks: {
        ...methodsOf(locks),
        renew: (name, _, jobs) =>
          name.endsWith('/silent') ? Promise.reject(new Error('The Durable Object was reset.')) : Promise.resolve(jobs),
      },
    }),
  });
  await bench.enqueue({ task: task.name, input: { key: 'silent' } });
  const { id } = await bench.enqueue({ task: task.name, input: { key: 'lost' } });
  await bench.drain();
  expect(aborted).toEqual([id]);
});

test('the turn of whoever waits for another lock by now goes to whoever comes', async () => {
  const spans: Span[] = [];
  const task = recorded(spans, { concurrency: [{ key: ({ key }) => key, limit: 1 }, { limit: 2 }] }, () => 'done');
  const bench = new Bench({ tasks: [task] });
  const [own, all] = ['test.limited/lock/a', 'test.limited/lock-2'];
  for (const job of ['x', 'y']) await bench.rt.locks.take(all, 2, 'other', { job, priority: 5, since: 0 });
  const waiter = await bench.enqueue({ task: task.name, input: { key: 'a' } });
  await bench.drain();
  expect((await bench.job(waiter.id)).parked_for).toBe(all);
  // When it is woken for the second, somebody has the first.
  await bench.rt.locks.take(own, 1, 'other', { job: 'z', priority: 5, since: 0 });
  await wakeNext(bench.rt, all, await bench.rt.locks.release(all, 'other', ['x']));
  await bench.drain();
  expect((await bench.job(waiter.id)).parked_for).toBe(own);
  await bench.background();
  await bench.enqueue({ task: task.name, input: { key: 'b' } });
  await bench.drain();
  expect(spans.map(({ key }) => key)).toEqual(['b']);
  await wakeNext(bench.rt, own, await bench.rt.locks.release(own, 'other', ['z']));
  await bench.drain();
  expect(spans.map(({ key }) => key)).toEqual(['b', 'a']);
});

test('a parked job of a task that a deployment no longer knows is woken once, and keeps nobody from the lock', async () => {
  const bench = new Bench({ tasks: [recorded([], { concurrency: { limit: 1 } }, () => 'done')] });
  const lock = 'test.limited/lock';
  await bench.rt.locks.take(lock, 1, 'other', { job: 'another', priority: 5, since: 0 });
  const { id } = await bench.enqueue({ task: 'test.limited', input: {} });
  await bench.drain();
  const without = new Bench({ clock: bench.clock });
  await wakeNext(without.rt, lock, await bench.rt.locks.release(lock, 'other', ['another']));
  // Its message goes round until the task is known, or a day is over; one more with each turn would be thousands.
  const messages = without.queues.take().map(({ envelope }) => envelope);
  expect(messages).toMatchObject([{ id }]);
  expect(await bench.rt.locks.line(lock)).toEqual([]);
  expect(await without.deliver(messages)).toEqual([{ id, answer: { delaySeconds: 60 } }]);
  await bench.deliver(messages);
  expect((await bench.job(id)).state).toBe('SUCCESS');
});

test('a parked job whose first send was said to have failed is found by the sweep, should its wake be lost', async () => {
  const lock = 'test.limited/lock';
  const bench: Bench = new Bench({
    tasks: [recorded([], { concurrency: { limit: 1 } }, () => 'done')],
    ports: ({ queues }) => ({
      queues: {
        backlog: (queue) => queues.backlog(queue),
        // Its message arrives, and is settled, before its sender hears that it was refused.
        send: async (queue, messages) => {
          if (bench.queues.sends > 0) return queues.send(queue, messages);
          bench.queues.sends += 1;
          while ((await env.DB.prepare(`SELECT 1 FROM jobs`).first()) === null) await settled();
          await bench.deliver(messages.map(({ envelope }) => envelope));
          throw new Error('Queue send failed: Bad Gateway');
        },
      },
    }),
  });
  await bench.rt.locks.take(lock, 1, 'other', { job: 'another', priority: 5, since: 0 });
  const { id } = await bench.enqueue({ task: 'test.limited', input: {} });
  await bench.background();
  await settled();
  expect((await bench.job(id)).parked_for).toBe(lock);
  // Nobody hears that it is its turn.
  await bench.rt.locks.release(lock, 'other', ['another']);
  await bench.clock.sleep(20 * 60_000);
  await tick(bench.rt, undefined);
  await bench.drain();
  expect((await bench.job(id)).state).toBe('SUCCESS');
});

test('a parked job that is put off to a far later time is sent no message by its lock, and leaves its line', async () => {
  const bench = new Bench({ tasks: [recorded([], { concurrency: { limit: 1 } }, () => 'done')] });
  const lock = 'test.limited/lock';
  const call = { task: 'test.limited', input: {} };
  await bench.rt.locks.take(lock, 1, 'other', { job: 'another', priority: 5, since: 0 });
  const unique = { key: 'one', on: 'replace' };
  const { id } = await bench.enqueue({ ...call, options: { unique } });
  await bench.drain();
  expect((await bench.job(id)).parked_for).toBe(lock);
  await bench.enqueue({ ...call, options: { unique, countdown: 7_200 } });
  await wakeNext(bench.rt, lock, await bench.rt.locks.release(lock, 'other', ['another']));
  expect(bench.queues.take()).toEqual([]);
  expect(await bench.job(id)).toMatchObject({ state: 'SCHEDULED', sent_at: null, parked_for: null });
  const next = await bench.enqueue(call);
  await bench.drain();
  expect((await bench.job(next.id)).state).toBe('SUCCESS');
});

test('keys that are half a character, or long, or empty, are keys like any other', async () => {
  for (const key of ['\ud800', `${'x'.repeat(254)}\ud83d`, '', 'ключ/\0/🔑', 'y'.repeat(5_000)]) {
    await emptyDatabase();
    const spans: Span[] = [];
    const limits = { concurrency: { key: (given: { key: string }) => given.key, limit: 1 }, rateLimit: '5/s' };
    const world = new World();
    const isolate = world.isolate({ tasks: [recorded(spans, limits)] });
    const ids = [];
    for (let job = 0; job < 3; job += 1) {
      ids.push((await world.run(isolate.enqueue({ task: 'test.limited', input: { key } }))).id);
    }
    await runFor(world, [isolate], 30_000);
    expect(await attemptsOf(isolate, ids)).toEqual(ids.map(() => ['SUCCESS', 1]));
    expect(mostAtOnce(spans)).toBe(1);
  }
});

test('an input that makes no key is refused by name, before anything is taken', async () => {
  const task = defineTask({
    name: 'test.keyless',
    queue: 'default',
    input: z.object({ account: z.object({ id: z.string() }).nullable() }),
    concurrency: {
      key: ({ account }) => {
        if (account === null) throw new Error('it names no account');
        return account.id;
      },
      limit: 1,
    },
    run: () => 'done',
  });
  const bench = new Bench({ tasks: [task] });
  await expect(bench.enqueue({ task: task.name, input: { account: null } })).rejects.toThrow(
    'has no key for the limits of test.keyless',
  );
  expect(bench.queues.sent).toEqual([]);
});

test('of a sensitive task not even the key of an input stays behind', async () => {
  const task = defineTask({
    name: 'test.secretive',
    queue: 'default',
    sensitive: true,
    input,
    rateLimit: { limit: '1/m', key: ({ key }) => key },
    run: () => 'done',
  });
  const bench = new Bench({ tasks: [task] });
  const { id } = await bench.enqueue({ task: task.name, input: { key: 'ada@example.com' } });
  const { options } = await bench.job(id);
  expect(options.keys?.['rate']).toMatch(/^[0-9a-f]{64}$/);
});

test('a job without limits pays nothing for those of others', async () => {
  const bench = new Bench();
  let calls = 0;
  bench.db.fault = (names) => {
    if (names === 'unwon') calls += 1;
    return undefined;
  };
  await bench.enqueue({ task: 'debug_task', input: {} });
  await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  expect(calls).toBe(0);
});

test('a delivery that another one of its job has overtaken between its lease and its claim starts nothing', async () => {
  const spans: Span[] = [];
  // Put back at once, so that the next claim wins as well.
  const task = recorded(spans, { rateLimit: '10/s', concurrency: { key: ({ key }) => key, limit: 1 } }, (job) =>
    spans.length === 1 ? job.defer({ seconds: 0, reason: 'again' }) : 'done',
  );
  const first = new Bench({ tasks: [task] });
  const { id } = await first.enqueue({ task: task.name, input: {} });
  const [message] = first.queues.take().map(({ envelope }) => envelope);
  let overtaken = false;
  const second = new Bench({
    tasks: [task],
    clock: first.clock,
    ports: ({ rates }) => ({
      rates: {
        ...methodsOf(rates),
        reserve: async (...asked) => {
          if (!overtaken) {
            overtaken = true;
            expect(await first.deliver([message])).toEqual([{ id, answer: { delaySeconds: 0 } }]);
            await first.background();
          }
          return rates.reserve(...asked);
        },
      },
    }),
  });
  expect(await second.deliver([message])).toEqual([{ id, answer: { delaySeconds: 1 } }]);
  expect(spans).toHaveLength(1);
  expect(await second.job(id)).toMatchObject({
    state: 'PENDING',
    attempt: 0,
    waiting_for: 'another delivery of it, which began first',
  });
});
