import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { tick } from '../../src/cron/tick.ts';
import type { Bench } from '../worker/bench.ts';
import { emptyDatabase, START } from '../worker/bench.ts';
import { World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const JOBS = 5_000;
const MINUTE = 60_000;

async function enqueueAll(world: World, bench: Bench, options = {}): Promise<readonly string[]> {
  const accepting = Array.from({ length: JOBS }, (_, at) => bench.enqueue({ task: 'debug_task', input: at, options }));
  const accepted = await world.run(Promise.all(accepting));
  await world.run(bench.background());
  return accepted.map(({ id }) => id);
}

/** Ten minutes in which ticks come and nobody takes a message. */
async function waitTenMinutes(world: World, bench: Bench): Promise<void> {
  for (let minute = 0; minute < 10; minute += 1) {
    await world.pass(MINUTE);
    await world.run(tick(bench.rt, undefined));
  }
}

async function expectSentOnceAndRun(world: World, bench: Bench, ids: readonly string[]): Promise<void> {
  expect(world.broker.taken).toHaveLength(JOBS);
  expect(new Set(world.broker.taken)).toEqual(new Set(ids));
  expect(await env.DB.prepare(`SELECT sum(resends) AS n FROM jobs`).first()).toEqual({ n: 0 });
  expect(await world.deliver(bench)).toBe(JOBS);
  const { results } = await env.DB.prepare(`SELECT state, attempt, count(*) AS n FROM jobs GROUP BY 1, 2`).all();
  expect(results).toEqual([{ state: 'SUCCESS', attempt: 1, n: JOBS }]);
  expect(world.broker.size).toBe(0);
}

test('a backlog of 5,000 jobs that nobody takes for ten minutes is not sent twice, not one message of it', async () => {
  const world = new World();
  const bench = world.isolate();
  const ids = await enqueueAll(world, bench);
  expect(await bench.rt.queues.backlog('default')).toEqual({ count: JOBS, oldestSentAt: START });
  await waitTenMinutes(world, bench);
  expect(await bench.rt.queues.backlog('default')).toEqual({ count: JOBS, oldestSentAt: START });
  await expectSentOnceAndRun(world, bench, ids);
}, 120_000);

test('5,000 jobs owed a message at the same moment are each sent once, however many ticks come by', async () => {
  const world = new World();
  const bench = world.isolate();
  const ids = await enqueueAll(world, bench, { countdown: 61 });
  expect(world.broker.taken).toEqual([]);
  await waitTenMinutes(world, bench);
  await expectSentOnceAndRun(world, bench, ids);
}, 120_000);

test('two ticks of every minute, in two isolates, send 5,000 owed messages once', async () => {
  const world = new World();
  const [one, two] = [world.isolate(), world.isolate()];
  const ids = await enqueueAll(world, one, { countdown: 61 });
  for (let minute = 0; minute < 3; minute += 1) {
    await world.pass(MINUTE);
    await world.run(Promise.all([tick(one.rt, undefined), tick(two.rt, undefined)]));
  }
  await expectSentOnceAndRun(world, one, ids);
}, 120_000);
