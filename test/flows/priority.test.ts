import { afterAll, beforeAll, expect, test } from 'vitest';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { enqueue, listJobs, readJob, startProduct, until, type JobView, type Product } from './product.ts';

let product: Product;

beforeAll(async () => {
  product = await startProduct();
});
afterAll(() => product.stop());

const BULK = 1_000;
const URGENT = 20;

/** Half a thousand by the name of the queue, half by a priority that leads there; each holds its batch for half a second. */
async function enqueueBulk(): Promise<void> {
  const jobs = Array.from({ length: BULK }, (_, nth) => ({
    task: 'debug.sleep',
    input: { seconds: 0.5 },
    options: nth % 2 === 0 ? { queue: 'bulk' } : { priority: 1 },
  }));
  const { status, body } = await product.post('/api/v1/jobs/batch', { jobs });
  const accepted = z.object({ jobs: z.array(z.looseObject({ queue: z.literal('bulk') })) }).parse(body).jobs;
  expect([status, accepted.length]).toEqual([202, BULK]);
}

async function waitingInBulk(): Promise<number> {
  const jobs = await listJobs(product, 'queue=bulk');
  return jobs.filter(({ state }) => state === 'PENDING').length;
}

function waitedMs({ created_at, started_at }: JobView): number {
  return Date.parse(z.iso.datetime().parse(started_at)) - Date.parse(z.iso.datetime().parse(created_at));
}

test('INV-F25 priority: behind 1,000 bulk jobs an urgent one starts within a second of being accepted', async () => {
  await enqueueBulk();
  await until('the first bulk job runs', 20_000, async () => {
    const running = await listJobs(product, 'queue=bulk&state=STARTED');
    return running.length > 0 ? true : undefined;
  });
  for (const [how, options] of [
    ['by queue', { queue: 'critical' }],
    ['by priority', { priority: 9 }],
  ] as const) {
    const ids: string[] = [];
    for (let nth = 0; nth < URGENT; nth += 1) {
      ids.push(await enqueue(product, 'debug_task', { nth }, options));
      await sleep(50);
    }
    const jobs = await Promise.all(ids.map((id) => readJob(product, id, 20)));
    expect(new Set(jobs.map(({ state, queue }) => `${state} ${String(queue)}`))).toEqual(new Set(['SUCCESS critical']));
    const waits = jobs.map(waitedMs).sort((a, b) => a - b);
    const [p50, max] = [waits[URGENT / 2] ?? Infinity, waits.at(-1) ?? Infinity];
    const behind = await waitingInBulk();
    console.log(`${how}: p50 ${String(p50)} ms, max ${String(max)} ms; ${String(behind)} bulk jobs waiting`);
    expect(max).toBeLessThan(1_000);
    expect(behind).toBeGreaterThan(BULK / 2);
  }
});
