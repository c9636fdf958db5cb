import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { z } from 'zod';
import { countEffects, listJobs, startProduct, until, type Product } from './product.ts';

const started: Product[] = [];

afterEach(async () => {
  await Promise.all(started.splice(0).map((each) => each.kill()));
});

async function start(persistTo?: string): Promise<Product> {
  const product = await startProduct(persistTo === undefined ? {} : { persistTo });
  started.push(product);
  return product;
}

const EVERY_MS = 5_000;
/** From its due time to its start: never before, and no later than this. */
const START_WITHIN_MS = 2_000;

const instant = z.string().transform((text) => Date.parse(text));
const runShape = z.object({
  id: z.string(),
  state: z.string(),
  attempt: z.int(),
  started_at: instant.nullable(),
  schedule: z.object({ name: z.string(), due_at: instant, cause: z.string() }),
});
type Run = z.infer<typeof runShape>;

/** Runs of the schedule that have ended well, earliest first. */
async function runs(product: Product): Promise<readonly Run[]> {
  const jobs = await listJobs(product, 'task=debug.effect&state=SUCCESS');
  return jobs.map((job) => runShape.parse(job)).sort((one, other) => one.schedule.due_at - other.schedule.due_at);
}

const historyShape = z.object({
  items: z.array(
    z.looseObject({ due_at: instant, decided_at: instant, outcome: z.string(), job_id: z.string().nullable() }),
  ),
});

/** Due times that a tick had decided before they came. */
async function plannedDues(product: Product): Promise<ReadonlySet<number>> {
  const { body } = await product.get('/api/v1/schedules/beat/history?limit=200');
  const { items } = historyShape.parse(body);
  expect(new Set(items.map(({ due_at: due }) => due)).size).toBe(items.length);
  return new Set(items.filter(({ due_at: due, decided_at: at }) => at < due).map(({ due_at: due }) => due));
}

async function untilRuns(product: Product, count: number, since: number): Promise<readonly Run[]> {
  return until(`${String(count)} runs`, 30_000, async () => {
    const those = (await runs(product)).filter(({ schedule }) => schedule.due_at > since);
    return those.length >= count ? those : undefined;
  });
}

function expectInTime(those: readonly Run[], planned: ReadonlySet<number>): void {
  const late = those
    .filter(({ schedule }) => planned.has(schedule.due_at))
    .map(({ started_at: at, schedule }) => (at ?? Infinity) - schedule.due_at);
  console.log(`started ${late.map((ms) => `${String(ms)} ms`).join(', ')} after they were due`);
  expect(late.length).toBeGreaterThan(1);
  expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...late)).toBeLessThanOrEqual(START_WITHIN_MS);
}

test('INV-F27 schedules: npm start alone fires one at its times, goes on after SIGKILL, and not while it is paused', async () => {
  const product = await start();
  const beat = { name: 'beat', task: 'debug.effect', input: { key: 'beat' }, every: '5s' };
  expect((await product.post('/api/v1/schedules', beat)).status).toBe(201);
  expectInTime(await untilRuns(product, 3, 0), await plannedDues(product));

  // In the middle between two runs: an attempt that dies is repeated, and that is another test's matter.
  await sleep(EVERY_MS / 2);
  await product.kill();
  const again = await start(product.persistTo);
  expectInTime(await untilRuns(again, 2, Date.now()), await plannedDues(again));

  expect((await again.post('/api/v1/schedules/beat/pause')).status).toBe(200);
  // For what had started.
  await sleep(500);
  const all = await runs(again);
  await sleep(1.5 * EVERY_MS);
  expect(await runs(again)).toEqual(all);
  expect(new Set(all.map(({ schedule }) => schedule.due_at)).size).toBe(all.length);
  expect((await countEffects(again, 'beat')).get('beat')).toBe(all.length);
});
