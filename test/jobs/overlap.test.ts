// Runs of one schedule that are due while another has not ended.

import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { fireSchedules } from '../../src/cron/fire.ts';
import { cancelOvertaken } from '../../src/cron/overtaken.ts';
import { tick } from '../../src/cron/tick.ts';
import type { Envelope } from '../../src/core/envelope.ts';
import type { Json } from '../../src/core/json.ts';
import type { Row } from '../../src/core/ports.ts';
import { transact } from '../../src/jobs/database.ts';
import { revoke } from '../../src/jobs/inspect.ts';
import { pause, purge, resume } from '../../src/jobs/queue-control.ts';
import { callOf, readDefinition } from '../../src/jobs/schedule.ts';
import { backfill } from '../../src/jobs/backfill.ts';
import { createSchedule, findSchedule, runNow } from '../../src/jobs/schedule-control.ts';
import { defineTask, type Job, type Task, type TaskDefinition } from '../../src/jobs/task.ts';
import { revokeWaiting } from '../../src/store/revoke.ts';
import { readJobRow, type JobRow } from '../../src/store/rows.ts';
import type { Schedule } from '../../src/store/schedules.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';
import { Life, World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;
const NAME = 'nightly';
/** Longer than any run here. */
const LONG = { time_limit: 600, soft_time_limit: 590, max_retries: 0 };
const POLICIES = ['skip', 'queue_one', 'cancel_previous'] as const;

interface Span {
  readonly id: string;
  readonly dueAt: number;
  readonly byHand: boolean;
  readonly from: number;
  to: number;
  /** Its isolate has died: nobody is there any more to end it. */
  dead: boolean;
}

const input = z.unknown();
type Limits = Pick<TaskDefinition<typeof input, unknown>, 'rateLimit' | 'concurrency' | 'retry' | 'timeLimit'>;

/** A task that writes down when its handlers ran. */
function recorded(spans: Span[], run: (job: Job) => unknown, limits: Partial<Limits> = {}): Task {
  return defineTask({
    name: 'test.run',
    queue: 'default',
    input,
    ...limits,
    async run(_, job) {
      const { dueAt = 0, cause } = job.schedule ?? {};
      const span: Span = {
        id: job.id,
        dueAt,
        byHand: cause === 'run',
        from: job.clock.now(),
        to: Infinity,
        dead: false,
      };
      spans.push(span);
      try {
        return await run(job);
      } finally {
        span.to = job.clock.now();
      }
    },
  });
}

function mostAtOnce(spans: readonly Span[]): number {
  const alive = spans.filter(({ dead }) => !dead);
  return Math.max(0, ...alive.map(({ from }) => alive.filter((each) => each.from <= from && each.to > from).length));
}

/** Minutes after the start at which runs were due, in the order they began. */
function minutesOf(spans: readonly Span[]): readonly number[] {
  return spans.map(({ dueAt }) => (dueAt - START) / MINUTE);
}

async function schedule(bench: Bench, says: Readonly<Record<string, Json>>): Promise<Schedule> {
  const definition = readDefinition(bench.rt.registry, {
    task: 'test.run',
    input: null,
    cron: '* * * * *',
    ...says,
    options: { ...LONG, ...(says['options'] as object | undefined) },
  });
  if (!definition.ok) throw new Error(JSON.stringify(definition.faults));
  const made = await createSchedule(bench.rt, NAME, definition.value, { paused: false, actor: 'test' });
  if (made === undefined) throw new Error('There is one already.');
  return made;
}

async function runByHand(bench: Bench): Promise<string> {
  const found = await findSchedule(bench.rt, NAME);
  if (found === undefined) throw new Error('There is a schedule.');
  const call = callOf(bench.rt.registry, found);
  if (!call.ok) throw new Error('Its task takes its call.');
  const enqueued = await runNow(bench.rt, found, call.value, { owner: 'test' });
  if (enqueued.kind !== 'accepted') throw new Error(enqueued.kind);
  return enqueued.id;
}

/** Delivers to several isolates at once, and ticks every minute. */
async function runFor(world: World, isolates: readonly Bench[], milliseconds: number): Promise<void> {
  const until = world.clock.now() + milliseconds;
  const ticks = async (): Promise<void> => {
    while (world.clock.now() < until) {
      for (const isolate of isolates.slice(0, 1)) await tick(isolate.rt, undefined);
      await world.clock.sleep(MINUTE);
    }
  };
  await world.run(Promise.all([...isolates.map((each) => world.keepDelivering(each, until, 1_000)), ticks()]));
}

/** Every run of the schedule, by its time. */
async function runs(): Promise<readonly JobRow[]> {
  const { results } = await env.DB.prepare(`SELECT * FROM jobs WHERE schedule = ? ORDER BY id`).bind(NAME).all();
  return results.map((row) => readJobRow(row as Row));
}

/** Of each run, the minute it was due and what came of it. */
async function outcomes(): Promise<readonly string[]> {
  return (await runs()).map(({ options, state, error }) => {
    const minute = ((options.schedule?.dueAt ?? 0) - START) / MINUTE;
    return [String(minute), state, ...(error === null ? [] : [error.code])].join(' ');
  });
}

/** A world with a schedule whose runs take so many seconds. */
async function scene(
  says: Readonly<Record<string, Json>>,
  run: (job: Job) => unknown,
  limits: Partial<Limits> = {},
  isolates = 2,
): Promise<{ world: World; isolates: readonly Bench[]; first: Bench; spans: Span[] }> {
  const spans: Span[] = [];
  const task = recorded(spans, run, limits);
  const world = new World();
  const made = Array.from({ length: isolates }, () => world.isolate({ tasks: [task] }));
  const [first] = made;
  if (first === undefined) throw new Error('There is an isolate.');
  await world.run(schedule(first, says));
  return { world, isolates: made, first, spans };
}

const sleep =
  (seconds: number) =>
  (job: Job): Promise<void> =>
    job.clock.sleep(seconds * 1_000);

describe('a run that is due while the one before it has not ended', () => {
  test('skip: is skipped, and says so', async () => {
    const { world, isolates, spans } = await scene({ overlap: 'skip' }, sleep(90));
    await runFor(world, isolates, 6.5 * MINUTE);
    expect(minutesOf(spans)).toEqual([1, 3, 5]);
    expect(mostAtOnce(spans)).toBe(1);
    expect((await outcomes()).slice(0, 5)).toEqual([
      '1 SUCCESS',
      '2 REVOKED overlap',
      '3 SUCCESS',
      '4 REVOKED overlap',
      '5 SUCCESS',
    ]);
    expect((await runs())[1]).toMatchObject({
      attempt: 0,
      error: { message: 'Skipped: the run before it had not ended.' },
    });
  });

  test('queue_one: waits for its end and runs at once; further ones are skipped', async () => {
    const { world, isolates, spans } = await scene({ overlap: 'queue_one' }, sleep(150));
    await runFor(world, isolates, 8.8 * MINUTE);
    expect(mostAtOnce(spans)).toBe(1);
    // The one of minute 6 was due as the second ended: another waited then.
    expect(minutesOf(spans)).toEqual([1, 2, 4, 7]);
    expect((await outcomes()).slice(0, 5)).toEqual([
      '1 SUCCESS',
      '2 SUCCESS',
      '3 REVOKED overlap',
      '4 SUCCESS',
      '5 REVOKED overlap',
    ]);
    // The end of the one before it sends its message: nothing waits for a tick.
    expect((spans[1]?.from ?? 0) - (spans[0]?.to ?? 0)).toBeLessThan(3_000);
  });

  test('allow: runs beside it', async () => {
    const { world, isolates, spans } = await scene({ overlap: 'allow' }, sleep(150));
    await runFor(world, isolates, 6 * MINUTE);
    expect(mostAtOnce(spans)).toBe(3);
    expect(minutesOf(spans).slice(0, 4)).toEqual([1, 2, 3, 4]);
    expect((await outcomes()).slice(0, 3)).toEqual(['1 SUCCESS', '2 SUCCESS', '3 SUCCESS']);
  });

  test('cancel_previous: asks it to stop, and runs once it has', async () => {
    const { world, isolates, spans } = await scene({ overlap: 'cancel_previous', ends_at: at(3) }, async (job) => {
      await job.clock.sleep(150_000, job.signal);
      job.signal.throwIfAborted();
    });
    await runFor(world, isolates, 8 * MINUTE);
    expect(mostAtOnce(spans)).toBe(1);
    expect(minutesOf(spans)).toEqual([1, 2, 3]);
    expect(await outcomes()).toEqual(['1 REVOKED revoked', '2 REVOKED revoked', '3 SUCCESS']);
    expect((spans[1]?.from ?? 0) - START).toBeLessThan(2 * MINUTE + 25_000);
  });

  test('cancel_previous: waits for the hard limit of one that does not obey', async () => {
    const says = { overlap: 'cancel_previous', ends_at: at(2), options: { time_limit: 100, soft_time_limit: 90 } };
    const { world, isolates, spans } = await scene(says, sleep(600));
    await runFor(world, isolates, 3 * MINUTE);
    expect((await outcomes())[0]).toBe('1 REVOKED revoked');
    expect(minutesOf(spans)).toEqual([1, 2]);
    expect((spans[1]?.from ?? 0) - START).toBeGreaterThanOrEqual(MINUTE + 100_000);
    expect((spans[1]?.from ?? 0) - START).toBeLessThan(MINUTE + 110_000);
  });

  test('cancel_previous: takes the place of one that waits', async () => {
    const says = { overlap: 'cancel_previous', ends_at: at(4), options: { time_limit: 200, soft_time_limit: 190 } };
    const { world, isolates, spans } = await scene(says, sleep(190));
    await runFor(world, isolates, 9 * MINUTE);
    expect(minutesOf(spans)).toEqual([1, 4]);
    expect(await outcomes()).toEqual(['1 SUCCESS', '2 REVOKED overtaken', '3 REVOKED overtaken', '4 SUCCESS']);
  });
});

test('a hundred runs that make good what was missed take turns, and cost no regular run its own', async () => {
  const { world, isolates, first, spans } = await scene({ overlap: 'skip' }, sleep(5));
  const found = await world.run(findSchedule(first.rt, NAME));
  if (found === undefined) throw new Error('There is a schedule.');
  const wanted = { from: START - 100 * MINUTE + 1, to: START, limit: 1_000, dryRun: false, actor: 'test' };
  const done = await world.run(backfill(first.rt, found, wanted));
  expect(done?.fired).toHaveLength(100);
  await runFor(world, isolates, 14 * MINUTE);
  expect(mostAtOnce(spans)).toBe(1);
  const made = minutesOf(spans).filter((minute) => minute <= 0);
  expect(made).toEqual(Array.from({ length: 100 }, (_, turn) => turn - 99));
  const regular = spans.filter(({ dueAt }) => dueAt > START);
  expect(minutesOf(regular).slice(0, 13)).toEqual(Array.from({ length: 13 }, (_, minute) => minute + 1));
  for (const { dueAt, from } of regular) expect(from - dueAt).toBeLessThan(10_000);
  expect(new Set((await outcomes()).slice(0, 113).map((line) => line.split(' ')[1]))).toEqual(new Set(['SUCCESS']));
}, 60_000);

// It brings no message before the run in its way has ended: what came too early must be known without one.
describe('in a queue that takes one job at a time', () => {
  /** Due every 20 s, at most three times; the first runs, and nobody has taken the message of another. */
  async function firstOfThree(
    overlap: string,
    options: Json = {},
  ): Promise<{ bench: Bench; end: () => Promise<void>; later: readonly Envelope[]; clock: FastClock }> {
    let end: () => void = () => undefined;
    const spans: Span[] = [];
    const clock = new FastClock(START);
    const bench = new Bench({ clock, tasks: [recorded(spans, () => new Promise<void>((done) => (end = done)))] });
    await schedule(bench, { overlap, every: '20s', cron: null, ends_at: at(1), options });
    await tick(bench.rt, undefined);
    const [one, ...later] = bench.queues.take().map(({ envelope }) => envelope);
    clock.set(START + 21_000);
    const running = bench.deliver([one]);
    while (spans.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    clock.set(START + MINUTE + 1_000);
    const ended = async (): Promise<void> => {
      end();
      await running;
      await bench.background();
    };
    return { bench, end: ended, later, clock };
  }

  test('skip: the end of a run skips all that were due before it', async () => {
    const { bench, end, later } = await firstOfThree('skip');
    await end();
    const was = await runs();
    expect(was.map(({ state, error }) => [state, error?.code])).toEqual([
      ['SUCCESS', undefined],
      ['REVOKED', 'overlap'],
      ['REVOKED', 'overlap'],
    ]);
    expect((await bench.deliver(later)).map(({ answer }) => answer)).toEqual(['ack', 'ack']);
  });

  test('queue_one: it leaves the first of them, and skips the others', async () => {
    const { end } = await firstOfThree('queue_one');
    await end();
    expect((await runs()).map(({ state, error }) => [state, error?.code])).toEqual([
      ['SUCCESS', undefined],
      ['SCHEDULED', undefined],
      ['REVOKED', 'overlap'],
    ]);
  });

  test('cancel_previous: it leaves the last of them; the tick has asked the run to stop before', async () => {
    const { bench, end } = await firstOfThree('cancel_previous');
    await tick(bench.rt, undefined);
    expect((await runs()).map(({ state, error, revoke_requested: asked }) => [state, error?.code, asked])).toEqual([
      ['STARTED', undefined, 2],
      ['REVOKED', 'overtaken', 0],
      ['SCHEDULED', undefined, 0],
    ]);
    await end();
    expect((await runs()).map(({ state, error }) => [state, error?.code])).toEqual([
      ['SUCCESS', undefined],
      ['REVOKED', 'overtaken'],
      ['SCHEDULED', undefined],
    ]);
  });

  test('cancel_previous without a tick in between: what is due last is left all the same', async () => {
    const { end } = await firstOfThree('cancel_previous');
    await end();
    expect((await runs()).map(({ error }) => error?.code)).toEqual([undefined, 'overtaken', undefined]);
  });

  test('cancel_previous: those that are cancelled themselves at that moment stop nobody', async () => {
    const { bench, end, later, clock } = await firstOfThree('cancel_previous');
    const slow = new Bench({
      clock,
      ports: ({ db }) => ({
        db: {
          run: (statement) => db.run(statement),
          batch: async (statements) => {
            for (const { id } of later) await revoke(bench.rt, id, false);
            return db.batch(statements);
          },
        },
      }),
    });
    await cancelOvertaken(slow.rt);
    expect((await runs())[0]).toMatchObject({ state: 'STARTED', revoke_requested: 0 });
    await end();
  });

  test('cancel_previous: while their queue is paused, none can take the place of the one that runs', async () => {
    const { bench, end } = await firstOfThree('cancel_previous');
    await pause(bench.rt, 'default', null, 'test');
    await cancelOvertaken(bench.rt);
    expect((await runs())[0]).toMatchObject({ state: 'STARTED', revoke_requested: 0 });
    await resume(bench.rt, 'default', 'test');
    await cancelOvertaken(bench.rt);
    expect((await runs())[0]).toMatchObject({ state: 'STARTED', revoke_requested: 2 });
    await end();
  });

  test('allow: none of them is touched', async () => {
    const { end } = await firstOfThree('allow');
    await end();
    expect((await runs()).map(({ state }) => state)).toEqual(['SUCCESS', 'SCHEDULED', 'SCHEDULED']);
  });

  test("one that has expired meanwhile is left to its expiry, and takes nobody's place", async () => {
    const { bench, end } = await firstOfThree('queue_one', { expires: 15 });
    // The second expired at 55 s, the third is good until 75.
    await end();
    expect((await runs()).map(({ state, error }) => [state, error?.code])).toEqual([
      ['SUCCESS', undefined],
      ['SCHEDULED', undefined],
      ['SCHEDULED', undefined],
    ]);
    await tick(bench.rt, undefined);
    expect((await runs()).map(({ error }) => error?.code)).toEqual([undefined, 'expired', undefined]);
  });

  test('what makes good what was missed ends without costing a regular run its own', async () => {
    const { end } = await firstOfThree('skip');
    await env.DB.prepare(`UPDATE jobs SET turn = 2 WHERE state = 'STARTED'`).run();
    await end();
    expect((await runs()).map(({ state }) => state)).toEqual(['SUCCESS', 'SCHEDULED', 'SCHEDULED']);
  });

  test('one that is cancelled before it begins costs no other its run', async () => {
    const clock = new FastClock(START);
    const bench = new Bench({ clock, tasks: [recorded([], () => undefined)] });
    await schedule(bench, { overlap: 'skip', every: '20s', cron: null, ends_at: at(1) });
    await tick(bench.rt, undefined);
    clock.set(START + MINUTE);
    await revoke(bench.rt, (await runs())[0]?.id ?? '', false);
    expect((await runs()).map(({ state }) => state)).toEqual(['REVOKED', 'SCHEDULED', 'SCHEDULED']);
  });

  test('cancel_previous: what makes good what was missed asks no regular run to stop', async () => {
    const { bench } = await firstOfThree('cancel_previous');
    await env.DB.prepare(`UPDATE jobs SET turn = 2 WHERE state = 'SCHEDULED'`).run();
    await tick(bench.rt, undefined);
    expect((await runs()).map(({ state, revoke_requested: asked }) => [state, asked])).toEqual([
      ['STARTED', 0],
      ['SCHEDULED', 0],
      ['SCHEDULED', 0],
    ]);
  });

  // One statement ends them all: the end of one must not end another that the statement has yet to come to.
  describe('a run that waits for its next attempt is ended together with those behind it:', () => {
    async function behindRetry(overlap: string): Promise<Bench> {
      const clock = new FastClock(START);
      const task = recorded([], () => {
        throw new Error('It fails.');
      });
      const bench = new Bench({ clock, tasks: [task] });
      const options = { max_retries: 1, retry_delays: [600] };
      await schedule(bench, { overlap, every: '15s', cron: null, ends_at: at(1), options });
      await tick(bench.rt, undefined);
      clock.set(START + 15_000);
      await bench.deliver([bench.queues.take()[0]?.envelope]);
      // A retry by hand, a run that was lost: due before those behind it.
      await env.DB.prepare(`UPDATE jobs SET due_at = ? WHERE state = 'RETRY'`).bind(clock.now()).run();
      clock.set(START + MINUTE + 1_000);
      return bench;
    }

    test('overtaken by the last of them', async () => {
      const bench = await behindRetry('cancel_previous');
      await cancelOvertaken(bench.rt);
      expect((await runs()).map(({ state, error }) => [state, error?.code])).toEqual([
        ['REVOKED', 'overtaken'],
        ['REVOKED', 'overtaken'],
        ['REVOKED', 'overtaken'],
        ['SCHEDULED', undefined],
      ]);
    });

    for (const overlap of POLICIES) {
      test(`${overlap}: purged`, async () => {
        const bench = await behindRetry(overlap);
        await purge(bench.rt, 'default', 'test');
        expect((await runs()).map(({ error }) => error?.code)).toEqual(Array.from({ length: 4 }, () => 'purged'));
      });

      test(`${overlap}: revoked in bulk`, async () => {
        const bench = await behindRetry(overlap);
        const ids = (await runs()).map(({ id }) => id);
        await transact(bench.rt, [revokeWaiting(ids, bench.clock.now())]);
        expect((await runs()).map(({ error }) => error?.code)).toEqual(Array.from({ length: 4 }, () => 'revoked'));
      });
    }
  });

  test('what is due after the end is left to its time', async () => {
    const { clock, end } = await firstOfThree('skip');
    clock.set(START + 45_000);
    await end();
    expect((await runs()).map(({ error }) => error?.code)).toEqual([undefined, 'overlap', undefined]);
  });
});

/** Two runs of one schedule that are both due, and nobody has taken yet. */
async function twoDue(overlap: string, run: (job: Job) => unknown): ReturnType<typeof scene> {
  const made = await scene({ overlap, every: '30s', cron: null, ends_at: at(1) }, run);
  await made.world.run(tick(made.first.rt, undefined));
  await made.world.pass(MINUTE + 1_000);
  return made;
}

describe('two runs of one schedule, both due and neither begun', () => {
  for (const overlap of POLICIES) {
    for (const order of ['in their order', 'the other way round'] as const) {
      test(`${overlap}: in one batch, ${order}, one runs at a time`, async () => {
        const { world, isolates, first, spans } = await twoDue(overlap, sleep(10));
        const messages = order === 'in their order' ? world.broker.takeAll() : world.broker.takeAll().toReversed();
        expect(messages).toHaveLength(2);
        await world.run(first.deliver(messages));
        await runFor(world, isolates, 3 * MINUTE);
        expect(mostAtOnce(spans)).toBe(1);
        expect(await outcomes()).toEqual(afterBoth[overlap]);
      });

      test(`${overlap}: in two isolates, ${order}, one runs at a time`, async () => {
        const { world, isolates, spans } = await twoDue(overlap, sleep(10));
        const messages = order === 'in their order' ? world.broker.takeAll() : world.broker.takeAll().toReversed();
        await world.run(Promise.all(isolates.map((isolate, at) => isolate.deliver(messages.slice(at, at + 1)))));
        await runFor(world, isolates, 3 * MINUTE);
        expect(mostAtOnce(spans)).toBe(1);
        expect((await runs()).every(({ finished_at: end }) => end !== null)).toBe(true);
        expect(spans.length).toBeGreaterThanOrEqual(1);
      });
    }
  }
});

const afterBoth = {
  skip: ['0.5 SUCCESS', '1 REVOKED overlap'],
  queue_one: ['0.5 SUCCESS', '1 SUCCESS'],
  cancel_previous: ['0.5 SUCCESS', '1 SUCCESS'],
};

/** A isolate that has A running and B's message in its hands; `between` happens just before the statement of that name. */
async function runningAndNext(
  statement: string,
  between: (endFirst: () => Promise<void>) => Promise<void>,
): Promise<{ a: Bench; b: Bench; message: Envelope; spans: Span[]; settle: () => Promise<void> }> {
  const spans: Span[] = [];
  let end: () => void = () => undefined;
  const task = recorded(spans, () => new Promise<void>((resolve) => (end = resolve)));
  const clock = new FastClock(START);
  const a = new Bench({ tasks: [task], clock });
  let running: Promise<unknown> = Promise.resolve();
  const endFirst = async (): Promise<void> => {
    end();
    await running;
    await a.background();
  };
  let once = true;
  const b = new Bench({
    tasks: [task],
    clock,
    ports: ({ db }) => ({
      db: {
        batch: (statements) => db.batch(statements),
        run: async (each) => {
          if (each.name === statement && once) {
            once = false;
            await between(endFirst);
          }
          return db.run(each);
        },
      },
    }),
  });
  await schedule(a, { overlap: 'queue_one', every: '30s', cron: null, ends_at: at(1) });
  await fireSchedules(a.rt);
  clock.set(START + MINUTE + 1_000);
  await tick(a.rt, undefined);
  const [one, two] = a.queues.take().map(({ envelope }) => envelope);
  if (one === undefined || two === undefined) throw new Error('Two are due.');
  running = a.deliver([one]);
  while (spans.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  return { a, b, message: two, spans, settle: endFirst };
}

test('a run that is parked at the moment the one before it ends is not parked, and asks again', async () => {
  const { b, message, spans, a } = await runningAndNext('park', (endFirst) => endFirst());
  expect(await b.deliver([message])).toEqual([{ id: message.id, answer: { delaySeconds: 1 } }]);
  expect(await b.job(message.id)).toMatchObject({ state: 'SCHEDULED', parked_for: null });
  expect(a.queues.take()).toEqual([]);
  void b.deliver([message]);
  while (spans.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
});

test('a run that ends when the next is parked already sends it its message', async () => {
  const { a, b, message, settle } = await runningAndNext('', () => Promise.resolve());
  expect(await b.deliver([message])).toEqual([{ id: message.id, answer: 'ack' }]);
  expect(await b.job(message.id)).toMatchObject({
    parked_for: 'overlap',
    waiting_for: `the run before it of the schedule ${NAME}`,
  });
  await settle();
  expect(a.queues.take().map(({ envelope }) => envelope.id)).toEqual([message.id]);
  expect(await b.job(message.id)).toMatchObject({ parked_for: null });
});

test('a woken run that finds a run by hand waits for that as well', async () => {
  const { a, b, message, spans, settle } = await runningAndNext('', () => Promise.resolve());
  await b.deliver([message]);
  await settle();
  const [woken] = a.queues.take().map(({ envelope }) => envelope);
  const byHand = await runByHand(a);
  const running = a.deliver(a.queues.take().map(({ envelope }) => envelope));
  while (spans.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(await b.deliver([woken])).toEqual([{ id: message.id, answer: 'ack' }]);
  expect(await b.job(message.id)).toMatchObject({ parked_for: 'overlap' });
  await settle();
  await running;
  await a.background();
  expect((await a.job(byHand)).state).toBe('SUCCESS');
  expect(a.queues.take().map(({ envelope }) => envelope.id)).toEqual([message.id]);
});

test('a skip that comes too late has been said by the end of the run before', async () => {
  const { b, message, spans } = await runningAndNext('skip', async (endFirst) => {
    await env.DB.prepare(`UPDATE jobs SET options = replace(options, 'queue_one', 'skip')`).run();
    await endFirst();
  });
  const skips = asSkip(message);
  expect(await b.deliver([skips])).toEqual([{ id: message.id, answer: { delaySeconds: 1 } }]);
  expect(await b.deliver([skips])).toEqual([{ id: message.id, answer: 'ack' }]);
  expect(spans).toHaveLength(1);
  expect(await outcomes()).toEqual(['0.5 SUCCESS', '1 REVOKED overlap']);
});

test('a run by hand waits for nobody, and others wait for it', async () => {
  const { world, isolates, first, spans } = await scene({ overlap: 'skip', ends_at: at(3) }, sleep(80));
  await world.run(runByHand(first));
  await runFor(world, isolates, 5 * MINUTE);
  // Begun at once, it had not ended when the first was due.
  expect(spans.map(({ byHand }) => byHand)).toEqual([true, false]);
  expect(await outcomes()).toEqual(expect.arrayContaining(['1 REVOKED overlap', '2 SUCCESS', '3 REVOKED overlap']));
});

test('jitter may let a later run begin before an earlier one: never two at once, none early', async () => {
  const says = { every: '10s', cron: null, jitter: 60, overlap: 'queue_one', ends_at: at(5) };
  const { world, isolates, spans } = await scene(says, sleep(4));
  await runFor(world, isolates, 8 * MINUTE);
  expect(mostAtOnce(spans)).toBe(1);
  const minutes = minutesOf(spans);
  expect(minutes).not.toEqual(minutes.toSorted((a, b) => a - b));
  for (const { from, dueAt } of spans) expect(from).toBeGreaterThanOrEqual(dueAt);
  expect((await runs()).every(({ finished_at: end }) => end !== null)).toBe(true);
});

describe('never two at once, whatever the earlier run is at:', () => {
  for (const overlap of POLICIES) {
    test(`${overlap}: its isolate has died`, async () => {
      const spans: Span[] = [];
      const task = recorded(spans, sleep(20));
      const world = new World();
      const life = new Life(Infinity, 'before');
      const [dying, other] = [world.isolate({ tasks: [task], life }), world.isolate({ tasks: [task] })];
      await world.run(schedule(other, { overlap, ends_at: at(6) }));
      void world.keepDelivering(dying, START + 65_000, 1_000);
      await world.run(tick(other.rt, undefined));
      await world.pass(66_000);
      life.dead = true;
      for (const span of spans) span.dead = true;
      expect(spans).toHaveLength(1);
      await runFor(world, [other], 12 * MINUTE);
      expect(mostAtOnce(spans)).toBe(1);
      const [lost, ...later] = await runs();
      expect(lost?.lost).toBe(1);
      expect(lost?.state).toBe(overlap === 'cancel_previous' ? 'REVOKED' : 'SUCCESS');
      expect(later.every(({ finished_at: end }) => end !== null)).toBe(true);
      expect(later.at(-1)?.state).toBe('SUCCESS');
    });

    test(`${overlap}: it is to be tried again`, async () => {
      let failed = false;
      const run = async (job: Job): Promise<void> => {
        await job.clock.sleep(5_000);
        if (failed) return;
        failed = true;
        throw new Error('The first attempt of all fails.');
      };
      const options = { max_retries: 1, retry_delays: [90] };
      const { world, isolates, spans } = await scene({ overlap, ends_at: at(3), options }, run);
      await runFor(world, isolates, 6 * MINUTE);
      expect(mostAtOnce(spans)).toBe(1);
      expect(await outcomes()).toEqual(afterRetry[overlap]);
    });

    test(`${overlap}: its queue is paused`, async () => {
      const { world, isolates, first, spans } = await scene({ overlap, ends_at: at(4) }, sleep(5));
      await world.run(pause(first.rt, 'default', null, 'test'));
      await runFor(world, isolates, 5 * MINUTE);
      expect(spans).toEqual([]);
      await world.run(resume(first.rt, 'default', 'test'));
      await runFor(world, isolates, 3 * MINUTE);
      expect(mostAtOnce(spans)).toBe(1);
      expect((await runs()).every(({ finished_at: end }) => end !== null)).toBe(true);
      expect(spans.length).toBeGreaterThanOrEqual(1);
    });

    test(`${overlap}: a rate limit holds it`, async () => {
      const limits = { rateLimit: '1/2m' } as const;
      const { world, isolates, spans } = await scene({ overlap, ends_at: at(6) }, sleep(90), limits);
      await runFor(world, isolates, 20 * MINUTE);
      expect(mostAtOnce(spans)).toBe(1);
      expect((await runs()).every(({ finished_at: end }) => end !== null)).toBe(true);
      expect(spans.length).toBeGreaterThanOrEqual(2);
    });

    test(`${overlap}: it waits for a lock`, async () => {
      const limits = { concurrency: { limit: 1 } };
      const { world, isolates, first, spans } = await scene({ overlap, ends_at: at(4) }, sleep(20), limits);
      // A call that is no run of the schedule has the lock for two and a half minutes.
      const task = { task: 'test.run', input: null };
      await world.run(first.enqueue(task));
      await world.run(first.enqueue(task));
      for (let more = 0; more < 6; more += 1) await world.run(first.enqueue(task));
      await runFor(world, isolates, 10 * MINUTE);
      expect(mostAtOnce(spans)).toBe(1);
      const all = await runs();
      expect(all.every(({ finished_at: end }) => end !== null)).toBe(true);
      expect(all.some(({ state }) => state === 'SUCCESS')).toBe(true);
    });
  }
});

const afterRetry = {
  skip: ['1 SUCCESS', '2 REVOKED overlap', '3 SUCCESS'],
  queue_one: ['1 SUCCESS', '2 SUCCESS', '3 SUCCESS'],
  cancel_previous: ['1 REVOKED overtaken', '2 SUCCESS', '3 SUCCESS'],
};

describe('an earlier run that ends without having run lets the next one go:', () => {
  /** The first is due and its message held back; the second waits behind it. */
  async function held(
    options: Json = {},
  ): Promise<Awaited<ReturnType<typeof scene>> & { one: Envelope; two: Envelope }> {
    const made = await scene({ overlap: 'queue_one', every: '30s', cron: null, ends_at: at(1), options }, sleep(5));
    await made.world.run(tick(made.first.rt, undefined));
    await made.world.pass(MINUTE + 1_000);
    const [one, two] = made.world.broker.takeAll();
    if (one === undefined || two === undefined) throw new Error('Two are due.');
    return { ...made, one, two };
  }

  test('revoked', async () => {
    const { world, first, isolates, one, two } = await held();
    await world.run(first.deliver([two]));
    expect(await first.job(two.id)).toMatchObject({ parked_for: 'overlap' });
    await world.run(revoke(first.rt, one.id, false));
    expect(await first.job(two.id)).toMatchObject({ parked_for: null, sent_at: null });
    await runFor(world, isolates, MINUTE);
    expect(await outcomes()).toEqual(['0.5 REVOKED revoked', '1 SUCCESS']);
  });

  test('purged with its queue, it lets nobody else wait for ever', async () => {
    const { world, first, isolates, spans, two } = await held();
    await world.run(first.deliver([two]));
    await world.run(purge(first.rt, 'default', 'test'));
    await runFor(world, isolates, MINUTE);
    expect(spans).toEqual([]);
    expect(await outcomes()).toEqual(['0.5 REVOKED purged', '1 REVOKED purged']);
  });

  test('expired: nobody is skipped for it, and nobody waits for it', async () => {
    const { world, first, spans, one, two } = await held({ expires: 20 });
    await env.DB.prepare(`UPDATE jobs SET options = replace(options, 'queue_one', 'skip')`).run();
    await world.run(first.deliver([asSkip(two)]));
    expect(spans.map(({ id }) => id)).toEqual([two.id]);
    expect((await first.job(one.id)).state).toBe('SCHEDULED');
  });
});

describe('a database that falls silent', () => {
  const SEEN = [
    ['claim', 'skip'],
    ['skip', 'skip'],
    ['unwon', 'queue_one'],
    ['park', 'queue_one'],
    ['next_runs', 'queue_one'],
    ['finish', 'queue_one'],
    ['overtake+overtake', 'cancel_previous'],
    ['fire+accept+advance', 'queue_one'],
  ] as const;
  for (const [statement, overlap] of SEEN) {
    for (const kind of ['before', 'after'] as const) {
      test(`${kind} ${statement} has taken effect: never two at once, and all end`, async () => {
        const { world, isolates, spans } = await scene({ overlap, catch_up: 'all', ends_at: at(3) }, sleep(70));
        let times = 0;
        for (const { db } of isolates) {
          db.fault = (names) => {
            if (names !== statement || times >= 2) return undefined;
            times += 1;
            return { when: kind, error: outage() };
          };
        }
        await runFor(world, isolates, 14 * MINUTE);
        expect(times).toBeGreaterThanOrEqual(1);
        expect(mostAtOnce(spans)).toBe(1);
        const all = await runs();
        expect(all).toHaveLength(3);
        expect(all.filter(({ finished_at: end }) => end === null)).toEqual([]);
      }, 30_000);
    }
  }
});

test('plain jobs pay nothing for schedules: 100 of a batch are two statements, and four rows each', async () => {
  const bench = new Bench();
  for (let job = 0; job < 100; job += 1) await bench.enqueue({ task: 'debug_task', input: { job } });
  const envelopes = bench.queues.take().map(({ envelope }) => envelope);
  expect(bench.rowsWritten()).toBe(200);
  bench.counts.clear();
  await bench.deliver(envelopes);
  await bench.background();
  expect([...bench.counts].map(([name, { statements }]) => [name, statements])).toEqual([
    ['claim', 1],
    ['finish', 1],
  ]);
  expect(bench.rowsWritten()).toBe(200);
});

/** So many minutes after the start, as a schedule says it. */
function at(minutes: number): string {
  return new Date(START + minutes * MINUTE).toISOString();
}

/** The same run of a schedule that says `skip`. */
function asSkip(envelope: Envelope): Envelope {
  return JSON.parse(JSON.stringify(envelope).replaceAll('queue_one', 'skip')) as Envelope;
}
