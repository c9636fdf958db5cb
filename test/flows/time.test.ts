import { afterEach, expect, test } from 'vitest';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { enqueue, listJobs, readJob, startProduct, until, type Product } from './product.ts';

const started: Product[] = [];

afterEach(async () => {
  await Promise.all(started.splice(0).map((each) => each.kill()));
});

async function start(persistTo?: string): Promise<Product> {
  const product = await startProduct(persistTo === undefined ? {} : { persistTo });
  started.push(product);
  return product;
}

const revokedShape = z.object({ state: z.string(), previous_state: z.string(), terminating: z.boolean() });

async function revoke(
  product: Product,
  id: string,
  terminate: boolean,
): Promise<{ status: number; said: z.infer<typeof revokedShape> | undefined }> {
  const { status, body } = await product.post(`/api/v1/jobs/${id}/revoke`, { terminate });
  return { status, said: revokedShape.safeParse(body).data };
}

/** From a heartbeat to the next, and what a busy machine may add. */
const HEARTBEAT_MS = 20_000;
const SLACK_MS = 5_000;

test('INV-F20 terminate: a job of two minutes stops within a heartbeat, says so until it has, and stays stopped', async () => {
  const product = await start();
  const id = await enqueue(product, 'debug.sleep', { seconds: 120, steps: 120 });
  await until('it runs', 20_000, async () => ((await readJob(product, id)).state === 'STARTED' ? true : undefined));
  await sleep(1_000);
  const askedAt = performance.now();
  const terminating = { status: 200, said: { state: 'STARTED', previous_state: 'STARTED', terminating: true } };
  expect(await revoke(product, id, true)).toEqual(terminating);
  await until('it is final', HEARTBEAT_MS + SLACK_MS, async () => {
    const answer = await revoke(product, id, false);
    if (answer.said?.previous_state === 'REVOKED') return true;
    expect(answer).toEqual(terminating);
    return undefined;
  });
  console.log(`stopped ${((performance.now() - askedAt) / 1_000).toFixed(1)} s after it was asked to`);
  const ended = await readJob(product, id);
  expect(ended).toMatchObject({ state: 'REVOKED', attempt: 1, result: null, error: { code: 'revoked' } });
  expect(ended['progress']).toBeLessThan(50);
  await sleep(3_000);
  expect(await readJob(product, id)).toEqual(ended);

  const done = await enqueue(product, 'debug_task', {});
  expect((await readJob(product, done, 20)).state).toBe('SUCCESS');
  expect((await revoke(product, done, true)).status).toBe(409);
});

test('INV-F26 eta: jobs due later outlive the machine: listed, cancellable, and started at their time', async () => {
  const before = await start();
  const inThreeDays = new Date(Date.now() + 3 * 86_400_000).toISOString();
  const far = await enqueue(before, 'debug_task', {}, { eta: inThreeDays });
  const near = await enqueue(before, 'debug_task', {}, { countdown: 40 });
  const owed = await enqueue(before, 'debug_task', {}, { countdown: 62.5 });
  expect((await listJobs(before, 'state=SCHEDULED')).map(({ id }) => id)).toEqual([owed, near, far]);
  await before.kill();

  const after = await start(before.persistTo);
  expect((await listJobs(after, 'state=SCHEDULED')).map(({ id }) => id)).toContain(far);
  expect(await readJob(after, far)).toMatchObject({ state: 'SCHEDULED', due_at: inThreeDays });
  const revoked = { state: 'REVOKED', previous_state: 'SCHEDULED', terminating: false };
  expect(await revoke(after, far, false)).toEqual({ status: 200, said: revoked });
  for (const id of [near, owed]) {
    const job = await until('it has run', 90_000, async () => {
      const read = await readJob(after, id, 30);
      return read.ready ? read : undefined;
    });
    expect(job).toMatchObject({ state: 'SUCCESS', attempt: 1 });
    const lateMs = Date.parse(String(job['started_at'])) - Date.parse(String(job['due_at']));
    expect(lateMs).toBeGreaterThanOrEqual(0);
    expect(lateMs).toBeLessThan(15_000);
    console.log(`started ${String(lateMs)} ms after its time`);
  }
  expect((await readJob(after, far)).state).toBe('REVOKED');
}, 240_000);
