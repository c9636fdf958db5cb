import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { enqueue, readJob, side, startProduct, until, type Product } from './product.ts';

let product: Product;
beforeAll(async () => {
  product = await startProduct();
});
afterAll(async () => {
  await product.kill();
});

const spanShape = z.object({ key: z.string(), started_at: z.number(), ended_at: z.number() });
type Span = z.infer<typeof spanShape>;

const lookShape = z.looseObject({ waiting_for: z.string().nullable() });

interface Call {
  readonly task: string;
  readonly input: unknown;
  readonly options?: Record<string, unknown>;
}

/** Enqueues many at once; answers their ids in order. */
async function enqueueAll(calls: readonly Call[]): Promise<readonly string[]> {
  const ids: string[] = [];
  for (let from = 0; from < calls.length; from += 1_000) {
    const { status, body } = await product.post('/api/v1/jobs/batch', { jobs: calls.slice(from, from + 1_000) });
    expect(status).toBe(202);
    const { jobs } = z.object({ jobs: z.array(z.looseObject({ id: z.string() })) }).parse(body);
    ids.push(...jobs.map(({ id }) => id));
  }
  return ids;
}

/** The jobs when all have ended: each succeeded, with one attempt. */
async function endsOf(ids: readonly string[], withinMs: number): Promise<readonly Record<string, unknown>[]> {
  const ends = new Map<string, Record<string, unknown>>();
  await until(`all ${String(ids.length)} have ended`, withinMs, async () => {
    await side(
      ids.filter((id) => !ends.has(id)),
      8,
      async (id) => {
        const job = await readJob(product, id);
        if (job.ready) ends.set(id, job);
      },
    );
    return ends.size === ids.length ? true : undefined;
  });
  expect(new Set([...ends.values()].map(({ state, attempt }) => `${String(state)} ${String(attempt)}`))).toEqual(
    new Set(['SUCCESS 1']),
  );
  return [...ends.values()];
}

function mostInWindow(starts: readonly number[], periodMs: number): number {
  return Math.max(...starts.map((from) => starts.filter((at) => at >= from && at < from + periodMs).length));
}

test('INV-F11 at most ten of debug.limited start in any second, on three queues at once, and one of a key at a time', async () => {
  const calls = Array.from({ length: 60 }, (_, at) => ({
    task: 'debug.limited',
    input: { key: at % 3 === 0 ? 'shared' : `own-${String(at)}` },
    options: { queue: ['default', 'critical', 'email'][at % 3] },
  }));
  const ends = await endsOf(await enqueueAll(calls), 60_000);
  const spans = ends.map(({ result }) => spanShape.parse(result));
  expect(
    mostInWindow(
      spans.map(({ started_at }) => started_at),
      1_000,
    ),
  ).toBeLessThanOrEqual(10);
  const shared = spans.filter(({ key }) => key === 'shared').sort((a, b) => a.started_at - b.started_at);
  expect(shared).toHaveLength(20);
  const overlapping = shared.filter((span: Span, at) => at > 0 && span.started_at < (shared[at - 1]?.ended_at ?? 0));
  expect(overlapping).toEqual([]);
});

test('a noisy key with many parked jobs does not delay the one job of another by more than a few seconds', async () => {
  const noise = Number(process.env['NOISE'] ?? 1_000);
  const ids = await enqueueAll(
    Array.from({ length: noise }, () => ({ task: 'debug.limited', input: { key: 'noisy' } })),
  );
  // The last of them is parked: whoever waits for the lock says so.
  await until('all of them wait for the lock', 120_000, async () => {
    const { waiting_for: reason } = lookShape.parse(await readJob(product, ids.at(-1) ?? ''));
    return reason?.startsWith('the lock of debug.limited') === true ? true : undefined;
  });
  const id = await enqueue(product, 'debug.limited', { key: 'quiet' });
  const { created_at, result } = z
    .looseObject({ created_at: z.string(), result: spanShape })
    .parse(await readJob(product, id, 20));
  const delayMs = result.started_at - Date.parse(created_at);
  console.log(`${String(noise)} jobs of one key wait; the one of another started after ${String(delayMs)} ms`);
  expect(delayMs).toBeLessThan(5_000);
}, 240_000);

// Two minutes and a half by the clock: `npm run test:limits`. In virtual time: test/jobs/limits.test.ts.
test.runIf(process.env['FULL'] === '1')(
  '300 jobs of a queue of 100 a minute: never more than 100 start in any 60 s, and all are done within three minutes',
  async () => {
    const from = Date.now();
    const ids = await enqueueAll(
      Array.from({ length: 300 }, (_, at) => ({ task: 'debug_task', input: { at }, options: { queue: 'agents' } })),
    );
    const ends = await endsOf(ids, 180_000);
    const starts = ends.map(({ started_at }) => Date.parse(String(started_at)));
    console.log(
      `300 jobs done ${String(Date.now() - from)} ms after the first call; at most ${String(mostInWindow(starts, 60_000))} starts in 60 s`,
    );
    expect(mostInWindow(starts, 60_000)).toBeLessThanOrEqual(100);
  },
  200_000,
);

test.runIf(process.env['FULL'] === '1')(
  'killed while one of a key runs and four are parked: after the restart all five run, one at a time',
  async () => {
    const before = await startProduct();
    const ids: string[] = [];
    for (let job = 0; job < 5; job += 1) {
      ids.push(await enqueue(before, 'debug.limited', { key: 'one', seconds: 3 }));
    }
    await until('the last of them waits for the lock', 20_000, async () => {
      const { waiting_for: reason } = lookShape.parse(await readJob(before, ids.at(-1) ?? ''));
      return reason?.startsWith('the lock of debug.limited') === true ? true : undefined;
    });
    await before.kill();
    const after = await startProduct({ persistTo: before.persistTo });
    try {
      const restartedAt = Date.now();
      const spans: { from: number; to: number }[] = [];
      for (const id of ids) {
        const job = await until(`the end of ${id}`, 200_000, async () => {
          const seen = await readJob(after, id, 20);
          return seen.ready ? seen : undefined;
        });
        expect(job.state).toBe('SUCCESS');
        spans.push({ from: Date.parse(String(job['started_at'])), to: Date.parse(String(job['finished_at'])) });
      }
      console.log(`all five had ended ${String(Date.now() - restartedAt)} ms after the restart`);
      spans.sort((a, b) => a.from - b.from);
      expect(spans.filter(({ from }, at) => at > 0 && from < (spans[at - 1]?.to ?? 0))).toEqual([]);
    } finally {
      await after.kill();
    }
  },
  300_000,
);
