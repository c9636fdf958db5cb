import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { defineTask } from '../../src/jobs/task.ts';
import { mulberry32 } from '../mulberry32.ts';
import { Bench, emptyDatabase } from '../worker/bench.ts';

beforeEach(emptyDatabase);

test('INV-F25 priority: of a batch in any order the highest priority starts first', async () => {
  const chance = mulberry32(25);
  const started: number[] = [];
  const ranked = defineTask({
    name: 'test.ranked',
    queue: 'bulk',
    input: z.int(),
    run: (priority) => void started.push(priority),
  });
  const bench = new Bench({ tasks: [ranked] });
  for (let round = 0; round < 5; round += 1) {
    started.length = 0;
    const priorities = Array.from({ length: 30 }, () => Math.floor(chance() * 11));
    for (const priority of priorities) {
      await bench.enqueue({ task: 'test.ranked', input: priority, options: { priority } });
    }
    const envelopes = bench.queues.take().map(({ envelope }) => envelope);
    await bench.deliver(envelopes, { queue: 'bulk' });
    expect(started).toEqual(priorities.toSorted((a, b) => b - a));
  }
});

test('INV-F16 retry ladder: jobs that fail together come back apart, over the whole of their jitter', async () => {
  const bench = new Bench();
  const waits: number[] = [];
  for (let batch = 0; batch < 10; batch += 1) {
    const failing = Array.from({ length: 100 }, () => bench.enqueue({ task: 'debug.fail' }));
    const ids = (await Promise.all(failing)).map(({ id }) => id);
    await bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
    const jobs = await Promise.all(ids.map((id) => bench.job(id)));
    waits.push(...jobs.map(({ due_at, attempts }) => due_at - (attempts[0]?.finished_at ?? 0)));
  }
  const counts = Array.from({ length: 10 }, () => 0);
  for (const wait of waits) {
    const part = Math.floor((10 * (wait - 30_000)) / 30_000);
    counts[Math.min(9, part)] = (counts[Math.min(9, part)] ?? 0) + 1;
  }
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(30_000);
  expect(Math.max(...waits)).toBeLessThanOrEqual(60_000);
  for (const count of counts) expect(Math.abs(count - 100)).toBeLessThan(45);
}, 20_000);
