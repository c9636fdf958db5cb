import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { InvalidCall } from '../../src/jobs/enqueue.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { defineTask, type Child, type Job, type Task } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, outage } from '../worker/bench.ts';

beforeEach(emptyDatabase);

const child = defineTask({
  name: 'test.child',
  queue: 'default',
  input: z.object({ n: z.number() }),
  run: ({ n }) => n,
});

function parentThat(run: (job: Job) => Promise<unknown>): Task {
  const retry = { max: 2, delays: { kind: 'delays', seconds: [1] } } as const;
  return defineTask({
    name: 'test.parent',
    queue: 'default',
    input: z.object({}),
    retry,
    run: (_input, job) => run(job),
  });
}

async function children(): Promise<readonly Record<string, unknown>[]> {
  const { results } = await env.DB.prepare(`SELECT * FROM jobs WHERE task = 'test.child' ORDER BY id`).all();
  return results;
}

describe('a job that enqueues another', () => {
  test('is its parent, and says so', async () => {
    const bench = new Bench({
      tasks: [child, parentThat(async (job) => job.enqueue(child, { n: 1 }, { priority: 9, tags: ['t'] }))],
    });
    const { id } = await bench.enqueue({ task: 'test.parent' });
    await bench.drain();
    const [made] = await children();
    expect(made).toMatchObject({
      parent_id: id,
      source: 'task:test.parent',
      state: 'SUCCESS',
      priority: 9,
      tags: '["t"]',
    });
    expect((await bench.job(id)).result).toEqual({ id: made?.['id'], created: true });
  });

  test('makes each of its children once, however often it is tried again', async () => {
    const answers: Child[] = [];
    const parent = parentThat(async (job) => {
      answers.push(await job.enqueue(child, { n: 1 }), await job.enqueue(child, { n: 2 }));
      if (job.attempt < 3) throw new Error('not yet');
    });
    const bench = new Bench({ tasks: [child, parent] });
    const { id } = await bench.enqueue({ task: 'test.parent' });
    const [message] = bench.queues.take();
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      await bench.deliver([message?.envelope], { attempts: attempt });
      await bench.clock.sleep(1_000);
    }
    expect((await bench.job(id)).state).toBe('SUCCESS');
    expect((await children()).map(({ input }) => input)).toEqual(expect.arrayContaining(['{"n":1}', '{"n":2}']));
    expect(await children()).toHaveLength(2);
    expect(new Set(answers.map((each) => each.id)).size).toBe(2);
    expect(answers.map(({ created }) => created)).toEqual([true, true, false, false, false, false]);
  });

  test('under a key makes one of all parents’ children', async () => {
    const parent = parentThat((job) => job.enqueue(child, { n: 1 }, { idempotencyKey: 'one of all' }));
    const bench = new Bench({ tasks: [child, parent] });
    for (let each = 0; each < 3; each += 1) await bench.enqueue({ task: 'test.parent' });
    await bench.drain();
    expect(await children()).toHaveLength(1);
  });

  test('is told at once where the input is wrong, and tried again where nobody can take the child', async () => {
    const seen: unknown[] = [];
    const parent = parentThat(async (job) => {
      // What a compiler would refuse still comes from elsewhere.
      await job.enqueue(child as Task, { n: 'one' }).catch((error: unknown) => seen.push(error));
      await job.enqueue(child, { n: 1 });
    });
    const bench = new Bench({ tasks: [child, parent] });
    const { id } = await bench.enqueue({ task: 'test.parent' });
    const [message] = bench.queues.take();
    bench.db.fault = (names) => (names === 'accept' ? { when: 'before', error: outage() } : undefined);
    bench.queues.fault = 'refuse';
    await bench.deliver([message?.envelope]);
    expect(await bench.job(id)).toMatchObject({
      state: 'RETRY',
      error: { message: 'test.child could not be enqueued: unknown.' },
    });
    expect(seen[0]).toBeInstanceOf(InvalidCall);
    bench.db.fault = () => undefined;
    bench.queues.fault = 'none';
    await bench.clock.sleep(1_000);
    await bench.deliver([message?.envelope], { attempts: 2 });
    await bench.drain();
    expect((await children()).map(({ state }) => state)).toEqual(['SUCCESS']);
  });

  test('of a wrong shape does not compile', () => {
    // @ts-expect-error: n is a number
    const wrong = (job: Job): Promise<Child> => job.enqueue(child, { n: 'one' });
    expect(wrong).toBeTypeOf('function');
  });
});

test('an event is for the tasks that name it, its prefix, or any', () => {
  const on = (name: string, ...patterns: string[]): Task =>
    defineTask({ name, queue: 'default', on: patterns, input: z.object({}), run: () => null });
  const registry = createRegistry([
    on('test.none'),
    on('test.exact', 'slack.message'),
    on('test.prefix', 'slack.*'),
    on('test.deep', 'openphone.call.*'),
    on('test.any', '*'),
    on('test.twice', 'slack.message', 'slack.*', '*'),
  ]);
  const named = (event: string): string[] => registry.handlersOf(event).map(({ name }) => name);
  expect(named('slack.message')).toEqual(['test.exact', 'test.prefix', 'test.any', 'test.twice']);
  expect(named('slack.message_changed')).toEqual(['test.prefix', 'test.any', 'test.twice']);
  expect(named('slackish.message')).toEqual(['test.any', 'test.twice']);
  expect(named('openphone.call.summary.completed')).toEqual(['test.deep', 'test.any', 'test.twice']);
  expect(named('openphone.call')).toEqual(['test.any', 'test.twice']);
});
