import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import { emptyDatabase, START, type Bench, type Settled } from '../worker/bench.ts';
import { World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const GOOD = 90;

const cycle: { self?: unknown } = {};
cycle.self = cycle;

/** What handlers do, and the error their jobs end with. */
const HANDLERS: Readonly<Record<string, { readonly run: () => unknown; readonly code: string }>> = {
  hangs: { run: () => new Promise<never>(() => undefined), code: 'time_limit' },
  throws_nothing: { run: () => raise(undefined), code: 'exception' },
  throws_text: { run: () => raise('only text'), code: 'exception' },
  rejects_with_null: { run: () => Promise.resolve().then(() => raise(null)), code: 'exception' },
  returns_bigint: { run: () => 10n ** 40n, code: 'invalid_result' },
  returns_cycle: { run: () => cycle, code: 'invalid_result' },
};

function raise(thrown: unknown): never {
  throw thrown;
}

/** Bodies that are no job of ours, and what becomes of their messages. */
const BODIES: readonly (readonly [unknown, Settled['answer']])[] = [
  [null, 'ack'],
  ['{"v":1}', 'ack'],
  [{ nonsense: true }, 'ack'],
  [{ v: 99, id: '01890000-0000-7000-8000-000000000000', more: 'than we know' }, { delaySeconds: 60 }],
];

const tasks: readonly Task[] = Object.entries(HANDLERS).map(([name, { run }]) =>
  defineTask({ name: `test.${name}`, queue: 'default', input: z.unknown(), retry: { max: 0 }, run }),
);

async function envelopesOf(world: World, bench: Bench): Promise<{ good: unknown[]; bad: unknown[] }> {
  const calls = Array.from({ length: GOOD }, (_, at) => ({ task: 'debug.effect', input: { key: String(at) } }));
  await world.run(
    Promise.all([...calls, ...tasks.map(({ name }) => ({ task: name }))].map((each) => bench.enqueue(each))),
  );
  const sent = world.broker.takeAll();
  const poisoned = (task: string): boolean => task.startsWith('test.');
  return { good: sent.filter(({ task }) => !poisoned(task)), bad: sent.filter(({ task }) => poisoned(task)) };
}

const PLACES: readonly (readonly [string, (at: number, of: number) => number])[] = [
  ['before them', () => 0],
  ['after them', () => GOOD],
  ['among them', (at, of) => Math.floor((at * GOOD) / of)],
  ['among them, the other way round', (at, of) => Math.floor(((of - 1 - at) * GOOD) / of) + 5],
];

test.each(PLACES)(
  'beside 90 good messages, with poison %s: each good one runs once, and each message is answered once',
  async (_, placeOf) => {
    const world = new World();
    const bench = world.isolate({ tasks });
    const { good, bad } = await envelopesOf(world, bench);
    const poison = [...bad, ...BODIES.map(([body]) => body)];
    const batch = [...good];
    for (const [at, each] of poison.entries()) batch.splice(placeOf(at, poison.length), 0, each);
    expect(batch).toHaveLength(100);

    // A message that is answered twice, or not in JSON, makes this throw.
    const answers = await world.run(bench.deliver(batch));
    const answerOf = (body: unknown): Settled['answer'] | undefined => answers[batch.indexOf(body)]?.answer;
    for (const body of [...good, ...bad]) expect(answerOf(body)).toBe('ack');
    for (const [body, expected] of BODIES) expect(answerOf(body)).toEqual(expected);

    const { results: ends } = await env.DB.prepare(
      `SELECT task, state, error ->> 'code' AS code, count(*) AS n FROM jobs GROUP BY 1, 2, 3 ORDER BY task`,
    ).all();
    expect(ends).toEqual([
      { task: 'debug.effect', state: 'SUCCESS', code: null, n: GOOD },
      ...Object.entries(HANDLERS)
        .map(([name, { code }]) => ({ task: `test.${name}`, state: 'FAILURE', code, n: 1 }))
        .sort((one, other) => (one.task < other.task ? -1 : 1)),
    ]);
    // The good ones did not wait for the one that hangs.
    const effects = await env.DB.prepare(
      `SELECT count(*) AS runs, count(DISTINCT key) AS keys, max(finished_at) - ?1 AS last
FROM debug_effects JOIN jobs ON jobs.id = job_id`,
    )
      .bind(START)
      .first();
    expect(effects).toEqual({ runs: GOOD, keys: GOOD, last: expect.toSatisfy((ms: number) => ms < 1_000) as unknown });
    const letters = await env.DB.prepare(`SELECT count(*) AS n, count(job_id) AS jobs FROM dead_letters`).first();
    expect(letters).toEqual({ n: tasks.length + 3, jobs: tasks.length });
  },
);

test('a batch of a queue nobody knows is put back whole, and nothing of it runs', async () => {
  const world = new World();
  const bench = world.isolate({ tasks });
  const { good } = await envelopesOf(world, bench);
  const answers = await world.run(bench.deliver([...good, { nonsense: true }], { queue: 'nowhere' }));
  expect(answers.map(({ answer }) => answer)).toEqual(answers.map(() => ({ delaySeconds: 60 })));
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first()).toEqual({ n: 0 });
});
