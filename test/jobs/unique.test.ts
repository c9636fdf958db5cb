import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import type { Env } from '../../src/env.ts';
import type { Json } from '../../src/core/json.ts';
import { enqueue, submit, submitAll, type Enqueued } from '../../src/jobs/enqueue.ts';
import { runAgain } from '../../src/jobs/inspect.ts';
import { readCall, type Request } from '../../src/jobs/request.ts';
import { defineTask, type Job, type Task } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, HeldClock, outage, settled, START } from '../worker/bench.ts';

// Hundreds of calls in a row: a test that ends late would go on among the rows of the next one.
vi.setConfig({ testTimeout: 60_000 });

beforeEach(emptyDatabase);

// The bindings of wrangler.toml; the test types know only some of them.
const { OBJECTS } = env as unknown as Env;
const SECOND = 1_000;
const HOUR = 3_600_000;
const DAY = 86_400_000;
/** Just over what a message carries. */
const LARGE = 97_000;

interface Ran {
  readonly id: string;
  readonly input: unknown;
  readonly job: Job;
}

/** A task that notes what it is run with, and what its first call is to do meanwhile. */
function noting(ran: Ran[], meanwhile: () => Promise<unknown> = () => Promise.resolve()): Task {
  return defineTask({
    name: 'test.note',
    queue: 'default',
    input: z.unknown(),
    async run(input, job) {
      ran.push({ id: job.id, input, job });
      await meanwhile();
      if (input === 'fail') throw new Error('as it was told');
    },
  });
}

interface There {
  readonly bench: Bench;
  readonly clock: HeldClock;
  readonly ran: Ran[];
  /** One call under the key of the test. */
  readonly call: (input: Json, options?: Readonly<Record<string, Json>>) => Promise<Enqueued>;
}

let keys = 0;

function there(unique: Readonly<Record<string, Json>>, more: { meanwhile?: () => Promise<unknown> } = {}): There {
  const clock = new HeldClock(START);
  const ran: Ran[] = [];
  const bench = new Bench({ tasks: [noting(ran, more.meanwhile)], clock });
  const key = `key-${String(keys++)}`;
  const call: There['call'] = (input, options = {}) =>
    submitted(bench, { task: 'test.note', input, options: { ...options, unique: { key, ...unique } } });
  return { bench, clock, ran, call };
}

function checked(bench: Bench, call: Json): Request {
  const request = readCall(bench.rt.registry, call);
  if (!request.ok) throw new Error(JSON.stringify(request.faults));
  return request.value;
}

async function submitted(bench: Bench, call: Json): Promise<Enqueued> {
  const enqueued = await submit(bench.rt, checked(bench, call), { owner: 'test', source: 'test' });
  await bench.background();
  return enqueued;
}

function idOf(enqueued: Enqueued | undefined): string {
  if (enqueued?.kind !== 'accepted') throw new Error(JSON.stringify(enqueued));
  return enqueued.id;
}

function isReplayed(enqueued: Enqueued): boolean {
  if (enqueued.kind !== 'accepted') throw new Error(enqueued.kind);
  return enqueued.replayed;
}

async function rows(): Promise<readonly Record<string, unknown>[]> {
  return (await env.DB.prepare(`SELECT * FROM jobs ORDER BY id`).all()).results;
}

async function kept(): Promise<readonly string[]> {
  return (await OBJECTS.list()).objects.map(({ key }) => key);
}

describe('a further call of a key', () => {
  test('is given the first job while it waits and while it runs, and nothing is enqueued', async () => {
    let again: Enqueued | undefined;
    const { bench, ran, call }: There = there({}, { meanwhile: async () => (again ??= await call('third')) });
    const first = await call('first');
    const second = await call('second');
    expect(second).toEqual({ ...first, replayed: true });
    expect(isReplayed(first)).toBe(false);
    expect(bench.queues.sent).toHaveLength(1);
    await bench.drain();
    expect(again).toMatchObject({ id: idOf(first), state: 'STARTED', replayed: true });
    expect(ran.map(({ input }) => input)).toEqual(['first']);
    expect(await rows()).toHaveLength(1);
  });

  test('without `for` is a new job once the first has ended, which the key then names', async () => {
    for (const input of ['good', 'fail']) {
      const { bench, call } = there({});
      const first = await call(input, { max_retries: 0 });
      await bench.drain();
      const second = await call('second');
      expect(isReplayed(second)).toBe(false);
      expect(idOf(second)).not.toBe(idOf(first));
      expect(idOf(await call('third'))).toBe(idOf(second));
    }
  });

  test('without `for` is the first job for as long as that waits, however long that is', async () => {
    const { clock, call } = there({});
    const first = await call('in a year', { countdown: 365 * 86_400 });
    await clock.advance(364 * DAY);
    expect(await call('now')).toMatchObject({ id: idOf(first), state: 'SCHEDULED', replayed: true });
  });

  test('is a new job where the first has expired, though no sweep has come by', async () => {
    const { clock, call } = there({});
    const first = await call('first', { expires: 60 });
    await clock.advance(60 * SECOND - 1);
    expect(idOf(await call('second'))).toBe(idOf(first));
    await clock.advance(1);
    expect(idOf(await call('third'))).not.toBe(idOf(first));
  });

  test('is a new job where the first ended so long ago that its row is gone', async () => {
    const { bench, clock, call } = there({});
    const first = await call('first');
    await bench.drain();
    await emptyDatabase();
    await clock.advance(5 * DAY);
    const second = await call('second');
    expect(idOf(second)).not.toBe(idOf(first));
    expect((await rows()).map(({ id }) => id)).toEqual([idOf(second)]);
  });

  test('with `for` is the first job for so many seconds from its acceptance, whatever has become of it', async () => {
    const { bench, clock, call } = there({ for: 3_600 });
    const first = await call('first');
    await bench.drain();
    await clock.advance(HOUR - 1);
    expect(await call('second')).toMatchObject({ id: idOf(first), state: 'SUCCESS', replayed: true });
    await clock.advance(1);
    const third = await call('third');
    expect([idOf(third) === idOf(first), isReplayed(third)]).toEqual([false, false]);
    expect(idOf(await call('fourth'))).toBe(idOf(third));
  });

  test('with `for` is a new job in time although an earlier deployment kept the key for longer', async () => {
    const { bench, clock, call } = there({});
    const first = await call('first');
    await bench.drain();
    const [key] = [`key-${String(keys - 1)}`];
    const soon = (): Promise<Enqueued> =>
      submitted(bench, { task: 'test.note', input: 'soon', options: { unique: { key, for: 60 } } });
    expect(idOf(await soon())).toBe(idOf(first));
    await clock.advance(60 * SECOND);
    expect(idOf(await soon())).not.toBe(idOf(first));
  });

  test('is another job for another task and another key', async () => {
    const bench = new Bench();
    const options = { unique: { key: `shared-${String(keys++)}` } };
    const ids = [
      await submitted(bench, { task: 'debug_task', options }),
      await submitted(bench, { task: 'debug.effect', input: { key: 'k' }, options }),
      await submitted(bench, { task: 'debug_task', options: { unique: { key: 'another' } } }),
    ].map(idOf);
    expect(new Set(ids).size).toBe(3);
  });

  test('of 50 at once is one job that runs once, and all but one are told that it was there', async () => {
    const { bench, ran, call } = there({});
    const all = await Promise.all(Array.from({ length: 50 }, (_, at) => call(at)));
    expect(new Set(all.map(idOf)).size).toBe(1);
    expect(all.filter((each) => !isReplayed(each))).toHaveLength(1);
    await bench.drain();
    expect(ran).toHaveLength(1);
    // What it ran with is what its row says it was given.
    expect(await rows()).toMatchObject([{ input: JSON.stringify(ran[0]?.input), state: 'SUCCESS' }]);
  });

  test('makes the job that whoever claimed the key died before making', async () => {
    const { bench, call } = there({});
    bench.db.fault = () => ({ when: 'before', error: outage() });
    bench.queues.fault = 'refuse';
    expect(await call('first')).toEqual({ kind: 'unknown' });
    bench.db.fault = () => undefined;
    bench.queues.fault = 'none';
    const second = await call('second');
    expect(await rows()).toMatchObject([{ id: idOf(second), input: '"second"', sent_at: START }]);
    expect(bench.queues.sent.map(({ envelope }) => envelope.id)).toEqual([idOf(second)]);
  });
});

describe('a call that replaces', () => {
  test('takes the place of the waiting job under its id, in all that a call decides, though the old message runs it', async () => {
    const { bench, ran, call } = there({ on: 'replace' });
    const first = await call('fail', { max_retries: 9, tags: ['old'], priority: 5 });
    const options = { max_retries: 0, tags: ['new'], priority: 7, time_limit: 30, result_ttl: 120, expires: 600 };
    const second = await call('fail', options);
    expect(second).toEqual({ ...first, replayed: false });
    const [message, ...others] = bench.queues.take();
    expect([message?.envelope.tags, others]).toEqual([['old'], []]);
    await bench.deliver([message?.envelope]);
    expect(ran).toMatchObject([{ id: idOf(first), input: 'fail', job: { tags: ['new'], maxRetries: 0 } }]);
    expect(await bench.job(idOf(first))).toMatchObject({
      state: 'FAILURE',
      attempt: 1,
      priority: 7,
      tags: ['new'],
      options: { maxRetries: 0, hardSeconds: 30, resultTtlSeconds: 120 },
      expires_at: START + 600 * SECOND,
    });
  });

  test('brings its own limits and input to the run, whatever the message says', async () => {
    const clock = new HeldClock(START);
    const heard: unknown[] = [];
    const slow = defineTask({
      name: 'test.slow',
      queue: 'default',
      input: z.object({ n: z.number() }),
      retry: { max: 0 },
      async run({ n }, job) {
        heard.push(n);
        await job.clock.sleep(20 * SECOND, job.signal);
        job.signal.throwIfAborted();
      },
    });
    const bench = new Bench({ tasks: [slow], clock });
    const unique = { key: `slow-${String(keys++)}`, on: 'replace' };
    const call = (n: number, options: object): Promise<Enqueued> =>
      submitted(bench, { task: 'test.slow', input: { n }, options: { ...options, unique } });
    const id = idOf(await call(1, {}));
    await call(2, { time_limit: 5 });
    const run = bench.drain();
    await settled();
    await clock.advance(6 * SECOND);
    await run;
    expect(heard).toEqual([2]);
    expect(await bench.job(id)).toMatchObject({ state: 'FAILURE', error: { code: 'time_limit' } });
  });

  test('is a new job where the first is running or has ended, and the key names the new one', async () => {
    const later: Enqueued[] = [];
    const { bench, ran, call }: There = there(
      { on: 'replace' },
      {
        meanwhile: async () => {
          if (later.length === 0) later.push(await call('second'), await call('third'));
        },
      },
    );
    const first = await call('first');
    await bench.drain();
    const [second, third] = later.map(idOf);
    expect(second).not.toBe(idOf(first));
    expect(third).toBe(second);
    expect(ran.map(({ input }) => input)).toEqual(['first', 'third']);
    const fourth = await call('fourth');
    expect([idOf(first), second]).not.toContain(idOf(fourth));
    expect(isReplayed(fourth)).toBe(false);
  });

  test('is a new job where the first waits for its retry: it has started', async () => {
    const { bench, call } = there({ on: 'replace' });
    const first = await call('fail');
    await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
    expect((await bench.job(idOf(first))).state).toBe('RETRY');
    expect(idOf(await call('second'))).not.toBe(idOf(first));
    expect((await bench.job(idOf(first))).input).toBe('fail');
  });

  test('is a new job where the attempt of the first vanished: it has started, though it waits', async () => {
    const { bench, clock, call } = there({ on: 'replace' });
    const first = idOf(await call('first'));
    await env.DB.prepare(
      `UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, started_at = ?1, lease_until = ?1 + 90000`,
    )
      .bind(START)
      .run();
    await clock.advance(2 * 60 * SECOND);
    await tick(bench.rt, undefined);
    expect(await bench.job(first)).toMatchObject({ state: 'PENDING', lost: 1 });
    expect(idOf(await call('second'))).not.toBe(first);
    expect((await bench.job(first)).input).toBe('first');
  });

  test('takes the place of a job that put itself back in its first attempt, and of why that waits', async () => {
    const heard: unknown[] = [];
    const deferring = defineTask({
      name: 'test.deferring',
      queue: 'default',
      input: z.number(),
      run: (n, job) => (heard.push(n) === 1 ? job.defer({ seconds: 3_600, reason: 'later' }) : n),
    });
    const bench = new Bench({ tasks: [deferring] });
    const unique = { key: `deferring-${String(keys++)}`, on: 'replace' };
    const call = (input: number): Promise<Enqueued> =>
      submitted(bench, { task: 'test.deferring', input, options: { unique } });
    const id = idOf(await call(1));
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', waiting_for: 'later', sent_at: null });
    expect(idOf(await call(2))).toBe(id);
    expect((await bench.job(id)).waiting_for).toBeNull();
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS', attempt: 1, result: 2 });
    expect(heard).toEqual([1, 2]);
  });

  test('to a far later time keeps the key for as long', async () => {
    const { clock, call } = there({ on: 'replace' });
    const id = idOf(await call(1));
    await call(2, { countdown: 40 * 86_400 });
    await clock.advance(39 * DAY);
    expect(idOf(await call(3, { countdown: 86_400 }))).toBe(id);
  });

  test('brings a large input, and takes one away, wherever the message says it is', async () => {
    const large = (letter: string): string => letter.repeat(LARGE);
    const cases: readonly [string, string, number][] = [
      ['small', large('b'), 1],
      [large('a'), 'small', 0],
      [large('a'), large('b'), 1],
    ];
    for (const [before, after, objects] of cases) {
      await emptyDatabase();
      const { bench, ran, call } = there({ on: 'replace' });
      const id = idOf(await call(before));
      expect(idOf(await call(after))).toBe(id);
      expect(await kept()).toHaveLength(objects);
      expect(bench.queues.sent).toHaveLength(1);
      const [row] = await rows();
      expect([row?.['v'], row?.['input_key'] === null, row?.['input_bytes']]).toEqual(
        objects === 1 ? [2, false, LARGE + 2] : [1, true, null],
      );
      await bench.drain();
      expect(ran.map(({ input }) => input === after)).toEqual([true]);
    }
  });

  test('brings no more large inputs to a batch than it has room for: what is too much comes back, its attempt returned', async () => {
    const bench = new Bench({ tasks: [noting([])] });
    const large = (letter: string): string => letter.repeat(LARGE);
    const unique = [1, 2, 3].map(() => ({ key: `crowd-${String(keys++)}`, on: 'replace' }));
    for (const input of ['a', large('b')]) {
      for (const each of unique) await submitted(bench, { task: 'test.note', input, options: { unique: each } });
    }
    // As if each were 20 MiB: two do not fit beside each other.
    await env.DB.prepare(`UPDATE jobs SET input_bytes = 20 * 1024 * 1024`).run();
    const messages = bench.queues.take().map(({ envelope }) => envelope);
    expect(messages).toMatchObject([{ v: 1 }, { v: 1 }, { v: 1 }]);
    for (const done of [1, 2, 3]) {
      const open = (await rows()).filter(({ finished_at: at }) => at === null).map(({ id }) => id);
      await bench.deliver(messages.filter(({ id }) => open.includes(id)));
      const after = await rows();
      expect(after.filter(({ state }) => state === 'SUCCESS')).toHaveLength(done);
      for (const { state, attempt, lost } of after) {
        expect([state, attempt, lost]).toEqual(state === 'SUCCESS' ? ['SUCCESS', 1, 0] : ['PENDING', 0, 0]);
      }
    }
  });

  test('leaves the input of a job that has started where it is', async () => {
    const large = (letter: string): string => letter.repeat(LARGE);
    let second: Enqueued | undefined;
    const { bench, call }: There = there(
      { on: 'replace' },
      { meanwhile: async () => (second ??= await call(large('b'))) },
    );
    const first = await call(large('a'));
    await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
    expect(await kept()).toEqual([`inputs/${idOf(first)}`, `inputs/${idOf(second)}`].sort());
  });

  test('sends a message where the job is due sooner, and none where it is due later', async () => {
    const { bench, clock, call } = there({ on: 'replace' });
    const id = idOf(await call(1, { countdown: 50 }));
    expect(bench.queues.take()).toMatchObject([{ delaySeconds: 50 }]);
    await call(2, { countdown: 10 });
    expect(bench.queues.take()).toMatchObject([{ delaySeconds: 10, envelope: { id, input: 2 } }]);
    await call(3, { countdown: 40 });
    await call(4, { countdown: 3_600 });
    expect(bench.queues.take()).toEqual([]);
    expect(await bench.job(id)).toMatchObject({ state: 'SCHEDULED', due_at: START + HOUR, sent_at: START });
    // Sooner, but not soon: the tick will send it.
    await call(5, { countdown: 1_800 });
    expect(bench.queues.take()).toEqual([]);
    expect(await bench.job(id)).toMatchObject({ sent_at: null });
    await call(6);
    expect(bench.queues.take()).toMatchObject([{ delaySeconds: 0, envelope: { id, input: 6 } }]);
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', due_at: START, sent_at: START });
    // Due already, it stays due since then.
    await clock.advance(5 * SECOND);
    await call(7);
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', due_at: START, input: 7 });
    expect(bench.queues.sent).toEqual([]);
  });

  test('later runs at its time and not at that of the old message', async () => {
    const { bench, clock, ran, call } = there({ on: 'replace' });
    const id = idOf(await call(1, { countdown: 30 }));
    await call(2, { countdown: 60 });
    await clock.advance(30 * SECOND);
    const [message] = bench.queues.take();
    expect(await bench.deliver([message?.envelope])).toEqual([{ id, answer: { delaySeconds: 30 } }]);
    await call(3, { countdown: 3_600 });
    await clock.advance(30 * SECOND);
    // Its own message is let go: the tick sends another in time.
    expect(await bench.deliver([message?.envelope])).toEqual([{ id, answer: 'ack' }]);
    expect(await bench.job(id)).toMatchObject({ sent_at: null });
    await clock.advance(HOUR - 60 * SECOND);
    await tick(bench.rt, undefined);
    const [fresh] = bench.queues.take();
    await clock.advance(30 * SECOND);
    await bench.deliver([fresh?.envelope]);
    expect(ran.map(({ input }) => input)).toEqual([3]);
  });

  test('moves the job to the queue that its priority asks for; the old message still runs it', async () => {
    const { bench, ran, call } = there({ on: 'replace' });
    const id = idOf(await call(1));
    expect(await call(2, { priority: 9 })).toMatchObject({ id, queue: 'critical' });
    expect((await bench.job(id)).queue).toBe('critical');
    await bench.drain();
    expect(ran.map(({ input }) => input)).toEqual([2]);
  });

  test('keeps the id of its callback, and calls where the last call says', async () => {
    const { bench, call } = there({ on: 'replace' });
    const id = idOf(await call(1, { callback_url: 'https://example.com/old' }));
    const before = (await bench.job(id)).options.callback;
    await call(2, { callback_url: 'https://example.com/new' });
    expect((await bench.job(id)).options.callback).toEqual({ id: before?.id, url: 'https://example.com/new' });
    await call(3);
    await bench.drain();
    expect(await rows()).toHaveLength(1);
  });

  test('stays who and what first made the job', async () => {
    const { bench, clock, call } = there({ on: 'replace' });
    const id = idOf(await call(1, { countdown: 600 }));
    await clock.advance(SECOND);
    await call(2, { countdown: 600 });
    expect(await bench.job(id)).toMatchObject({ created_at: START, source: 'test', input: 2 });
  });

  test('of 50 at once is one job that runs once, with what its row says it was given', async () => {
    const { bench, ran, call } = there({ on: 'replace' });
    const all = await Promise.all(Array.from({ length: 50 }, (_, at) => call(at)));
    expect(new Set(all.map(idOf)).size).toBe(1);
    const [row] = await rows();
    expect(bench.queues.sent.length).toBeLessThanOrEqual(2);
    await bench.drain();
    expect(ran.map(({ input }) => JSON.stringify(input))).toEqual([row?.['input']]);
  });

  test('of 50 at once beside a running job is one more job, not fifty', async () => {
    const later: Enqueued[] = [];
    const { bench, ran, call }: There = there(
      { on: 'replace' },
      {
        meanwhile: async () => {
          if (later.length > 0) return;
          later.push(...(await Promise.all(Array.from({ length: 50 }, (_, at) => call(at)))));
        },
      },
    );
    await call('first');
    await bench.drain();
    expect(new Set(later.map(idOf)).size).toBe(1);
    expect(ran).toHaveLength(2);
    expect(await rows()).toHaveLength(2);
  });

  test('before the row of the first call wins over what the first call brings', async () => {
    const { bench, ran, call } = there({ on: 'replace' });
    // The first call hands out its message, and its row is not there yet.
    bench.db.fault = (names) => (names === 'accept' ? { when: 'before', error: outage() } : undefined);
    const id = idOf(await call('first'));
    bench.db.fault = () => undefined;
    expect(await rows()).toEqual([]);
    expect(idOf(await call('second'))).toBe(id);
    await bench.deliver(
      bench.queues
        .take()
        .map(({ envelope }) => envelope)
        .slice(0, 1),
    );
    expect(ran.map(({ input }) => input)).toEqual(['second']);
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS', input: 'second' });
  });
});

describe('a call that debounces', () => {
  test('a burst of a hundred is one run with the last input, `for` seconds after the last call, by at most two messages', async () => {
    for (const seconds of [30, 300]) {
      await emptyDatabase();
      const { bench, clock, ran, call } = there({ for: seconds, on: 'debounce' });
      const ids = new Set<string>();
      for (let at = 1; at <= 100; at += 1) {
        ids.add(idOf(await call(at)));
        if (at < 100) await clock.advance(100);
      }
      expect(ids.size).toBe(1);
      const [row] = await rows();
      const last = clock.now();
      expect(row?.['due_at']).toBe(last + seconds * SECOND);
      const messages = bench.queues.take();
      expect(messages.length).toBeLessThanOrEqual(1);
      await clock.advance((seconds - 5) * SECOND);
      await bench.deliver(messages.map(({ envelope }) => envelope));
      expect(ran).toEqual([]);
      await tick(bench.rt, undefined);
      messages.push(...bench.queues.take());
      expect(messages.length).toBeLessThanOrEqual(2);
      await clock.advance(5 * SECOND);
      await bench.deliver(messages.slice(-1).map(({ envelope }) => envelope));
      expect(ran.map(({ input }) => input)).toEqual([100]);
    }
  });

  test('of 100 at once is one run by at most two messages', async () => {
    const { bench, clock, ran, call } = there({ for: 20, on: 'debounce' });
    const all = await Promise.all(Array.from({ length: 100 }, (_, at) => call(at)));
    expect(new Set(all.map(idOf)).size).toBe(1);
    expect(bench.queues.sent.length).toBeLessThanOrEqual(2);
    const [row] = await rows();
    await clock.advance(20 * SECOND);
    await bench.drain();
    expect(ran.map(({ input }) => JSON.stringify(input))).toEqual([row?.['input']]);
  });

  test('keeps the key with every call, and lets it go `for` seconds after the last', async () => {
    const { bench, clock, ran, call } = there({ for: 60, on: 'debounce' });
    const first = await call(1);
    for (let at = 2; at <= 5; at += 1) {
      await clock.advance(59 * SECOND);
      expect(idOf(await call(at))).toBe(idOf(first));
    }
    await clock.advance(60 * SECOND);
    const next = await call(6);
    expect(idOf(next)).not.toBe(idOf(first));
    await bench.drain();
    expect(ran.map(({ input }) => input)).toEqual([5]);
  });
});

describe('unique by its task', () => {
  const policy = { key: ({ account }: { account: string }) => account, on: 'replace' } as const;
  const perAccount = defineTask({
    name: 'test.per_account',
    queue: 'default',
    input: z.object({ account: z.string(), n: z.number().default(0) }),
    unique: policy,
    run: ({ n }) => n,
  });

  test('applies to every call of the task, from wherever', async () => {
    const made: string[] = [];
    const account = `account-${String(keys++)}`;
    const parent = defineTask({
      name: 'test.parent',
      queue: 'default',
      input: z.unknown(),
      async run(_input, job) {
        for (const n of [3, 4]) {
          const { id, created } = await job.enqueue(perAccount, { account, n });
          made.push(`${id} ${String(created)}`);
        }
      },
    });
    const bench = new Bench({ tasks: [perAccount, parent] });
    const id = idOf(await submitted(bench, { task: 'test.per_account', input: { account, n: 1 } }));
    expect(idOf(await enqueue(bench.rt, perAccount, { account, n: 2 }))).toBe(id);
    const messages = bench.queues.take();
    await bench.enqueue({ task: 'test.parent' });
    await bench.drain();
    expect(made).toEqual([`${id} true`, `${id} true`]);
    await bench.deliver(messages.map(({ envelope }) => envelope));
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS', result: 4 });
  });

  test('is not asked of a job that somebody runs again by hand', async () => {
    const bench = new Bench({ tasks: [perAccount] });
    const account = `account-${String(keys++)}`;
    const id = idOf(await submitted(bench, { task: 'test.per_account', input: { account } }));
    await bench.drain();
    const waiting = idOf(await submitted(bench, { task: 'test.per_account', input: { account } }));
    const again = await runAgain(bench.rt, await bench.job(id));
    expect(again).toMatchObject({ kind: 'accepted', replayed: false });
    expect(await rows()).toHaveLength(3);
    expect((await bench.job(waiting)).state).toBe('PENDING');
  });

  test('takes no idempotency key from code either', async () => {
    const bench = new Bench({ tasks: [perAccount] });
    const input = { account: `account-${String(keys++)}` };
    const both = { unique: { key: 'own' }, idempotencyKey: 'k' };
    await expect(enqueue(bench.rt, perAccount, input, both)).rejects.toThrow('options.unique');
    await expect(enqueue(bench.rt, perAccount, input, { idempotencyKey: 'k' })).rejects.toThrow('test.per_account');
    expect(await rows()).toEqual([]);
  });
});

describe('many calls in one request', () => {
  test('are decided each by itself; of those that mean one job the first is given back, the last takes the place', async () => {
    const ran: Ran[] = [];
    const bench = new Bench({ tasks: [noting(ran)] });
    const [back, place] = [`bulk-${String(keys++)}`, `bulk-${String(keys++)}`];
    const call = (input: number, unique: Json | undefined): Request =>
      checked(bench, { task: 'test.note', input, ...(unique === undefined ? {} : { options: { unique } }) });
    const requests = [
      call(1, { key: back }),
      call(2, { key: place, on: 'replace' }),
      call(3, undefined),
      call(4, { key: back }),
      call(5, { key: place, on: 'replace' }),
      call(6, { key: back }),
      call(3, undefined),
    ];
    const answers = await submitAll(bench.rt, requests, { owner: 'test', source: 'test' });
    await bench.background();
    const [one, two, three, four, five, six, seven] = answers.map(idOf);
    expect([four, six, five]).toEqual([one, one, two]);
    expect(new Set([one, two, three, seven]).size).toBe(4);
    expect(answers.map(isReplayed)).toEqual([false, false, false, true, false, true, false]);
    await bench.drain();
    expect(ran.map(({ input }) => input).sort()).toEqual([1, 3, 3, 5]);
  });
});

describe('where somebody is silent', () => {
  test('a guard that answers no claim means nobody knows, and the call may be repeated', async () => {
    for (const on of ['return', 'replace', 'debounce']) {
      const { bench, call } = there({ on, for: 60 });
      const { replay } = bench.rt;
      Object.assign(bench.rt, { replay: { ...replay, claim: () => Promise.reject(new Error('overloaded')) } });
      expect(await call(1)).toEqual({ kind: 'unknown' });
      expect(bench.queues.sent).toEqual([]);
      Object.assign(bench.rt, { replay });
      expect(isReplayed(await call(1))).toBe(false);
    }
  });

  test('a guard that moves no key means nobody knows, and the repeated call is the new job', async () => {
    const { bench, clock, call } = there({});
    const first = await call(1);
    await bench.drain();
    await clock.advance(1);
    const { replay } = bench.rt;
    for (const done of [false, true]) {
      const move: typeof replay.move = async (...given) => {
        if (done) await replay.move(...given);
        throw new Error('overloaded');
      };
      Object.assign(bench.rt, { replay: { ...replay, move } });
      expect(await call(2)).toEqual({ kind: 'unknown' });
    }
    Object.assign(bench.rt, { replay });
    const second = await call(2);
    expect(idOf(second)).not.toBe(idOf(first));
    expect(await rows()).toMatchObject([{ input: '1' }, { input: '2', state: 'PENDING' }]);
    expect(bench.queues.sent).toHaveLength(1);
  });

  test('a database that does not answer for the job a key names means nobody knows: nothing is sent', async () => {
    for (const on of ['return', 'replace', 'debounce']) {
      for (const when of ['before', 'after'] as const) {
        await emptyDatabase();
        const { bench, call } = there({ on, for: 600 });
        const first = await call(1, on === 'debounce' ? {} : { countdown: 600 });
        bench.db.fault = () => ({ when, error: outage() });
        expect([on, when, await call(2)]).toEqual([on, when, { kind: 'unknown' }]);
        bench.db.fault = () => undefined;
        expect(bench.queues.sent).toEqual([]);
        expect(idOf(await call(2))).toBe(idOf(first));
        expect(await rows()).toMatchObject([{ input: on === 'return' ? '1' : '2' }]);
      }
    }
  });

  test('a database that hangs is waited for 2.5 s', async () => {
    const { bench, clock, call } = there({ on: 'replace' });
    await call(1);
    bench.db.fault = () => 'hang';
    const answer = call(2);
    while (clock.wakesAt !== START + 2_500) await settled();
    await clock.advance(2_500);
    expect(await answer).toEqual({ kind: 'unknown' });
  });

  test('an input that cannot be kept means nobody knows, and the job stays what it is', async () => {
    const { bench, call } = there({ on: 'replace' });
    await call('small');
    bench.stores.inputs = 'fail';
    expect(await call('x'.repeat(LARGE))).toEqual({ kind: 'unknown' });
    expect(await rows()).toMatchObject([{ input: '"small"' }]);
  });

  test('a queue that refuses leaves the row owed its message', async () => {
    const { bench, call } = there({ on: 'replace' });
    const id = idOf(await call(1, { countdown: 50 }));
    bench.queues.fault = 'refuse';
    expect(idOf(await call(2))).toBe(id);
    expect(await bench.job(id)).toMatchObject({ input: 2, sent_at: null });
  });
});

test('a job that is unique and has its key for itself writes no more rows than any other', async () => {
  const { bench, call } = there({ on: 'replace' });
  await call(1);
  await bench.drain();
  expect(bench.rowsWritten()).toBe(4);
});
