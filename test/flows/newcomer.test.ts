import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  enqueue,
  listJobs,
  readJob,
  ROOT,
  sendGithub,
  signGithub,
  startProduct,
  type Answer,
  type Product,
} from './product.ts';

let product: Product;

beforeAll(async () => {
  // Secrets may look like anything: neither the file they travel in nor a shell's habits may change them.
  product = await startProduct({ env: { GITHUB_WEBHOOK_SECRET: `it's $HOME "\\n" ${randomUUID()} #1 \${PATH}` } });
});
afterAll(() => product.stop());

const pushFixture = join(ROOT, 'test/fixtures/webhooks/github/push/1.payload.json');

async function pushBytes(): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await readFile(pushFixture));
}

function webhookAnswer({ body }: Answer): { status: string; job_id: string } {
  return z.object({ status: z.string(), job_id: z.string() }).parse(body);
}

describe('a signed GitHub push', () => {
  test('becomes one job that ends SUCCESS, however often its bytes come', async () => {
    const body = await pushBytes();
    const delivery = randomUUID();

    const first = await sendGithub(product, 'push', body, delivery);
    expect(first.status).toBe(200);
    const { status, job_id } = webhookAnswer(first);
    expect(status).toBe('accepted');
    expect(first.headers.get('x-job-id')).toBe(job_id);
    expect(await readJob(product, job_id, 10)).toMatchObject({ state: 'SUCCESS', source: 'webhook:github' });

    const again = await sendGithub(product, 'push', body, delivery);
    expect(again.status).toBe(200);
    expect(webhookAnswer(again)).toEqual({ status: 'duplicate', job_id });
    expect(again.headers.get('x-job-id')).toBe(job_id);

    const underAnotherDelivery = await sendGithub(product, 'push', body, randomUUID());
    expect(webhookAnswer(underAnotherDelivery)).toEqual({ status: 'duplicate', job_id });
    expect(await listJobs(product, 'task=process_webhook')).toHaveLength(1);
  });

  test('with one byte flipped is refused with 401, and nothing is written for it', async () => {
    const before = await listJobs(product);
    const good = await pushBytes();
    for (const at of [0, 4_000, good.length - 1]) {
      const { signature, bytes } = flipped(good, at);
      const refused = await sendGithub(product, 'push', bytes, randomUUID(), signature);
      expect(refused.status).toBe(401);
      expect(refused.headers.get('content-type')).toBe('application/problem+json');
    }
    expect(await listJobs(product)).toHaveLength(before.length);
  });
});

/** The bytes with one of them changed, under the signature of the unchanged ones. */
function flipped(good: Uint8Array, at: number): { signature: string; bytes: Uint8Array<ArrayBuffer> } {
  const bytes = new Uint8Array(good);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return { signature: signGithub(product.githubSecret, good), bytes };
}

const letterShape = z.looseObject({
  id: z.string(),
  job_id: z.string(),
  attempts: z.int(),
  requeued_as: z.string().nullable(),
});

async function lettersOf(jobId: string): Promise<readonly z.infer<typeof letterShape>[]> {
  const { status, body } = await product.get('/api/v1/dead-letters?task=debug.fail&limit=200');
  expect(status).toBe(200);
  const { items } = z.object({ items: z.array(letterShape) }).parse(body);
  return items.filter(({ job_id }) => job_id === jobId);
}

describe('a job that fails', () => {
  test('twice and then works ends SUCCESS at its third attempt', async () => {
    const id = await enqueue(product, 'debug.fail', { message: 'not yet', times: 2 }, { retry_delays: [0, 0] });
    const job = await readJob(product, id, 30);
    expect(job).toMatchObject({ state: 'SUCCESS', attempt: 3, result: { attempt: 3 }, error: null });
    expect(job.attempts.map(({ attempt, outcome }) => [attempt, outcome])).toEqual([
      [1, 'retry'],
      [2, 'retry'],
      [3, 'success'],
    ]);
    expect(await lettersOf(id)).toEqual([]);
  });

  test('for good ends FAILURE with one dead letter, and requeue runs it again, linked both ways', async () => {
    const id = await enqueue(product, 'debug.fail', { message: 'never' }, { retry_delays: [0, 0] });
    const job = await readJob(product, id, 30);
    expect(job).toMatchObject({ state: 'FAILURE', attempt: 3, error: { message: 'never' } });
    const [letter, ...more] = await lettersOf(id);
    expect(more).toEqual([]);
    expect(letter).toMatchObject({ attempts: 3, requeued_as: null, error: { message: 'never' } });

    const requeued = await product.post(`/api/v1/dead-letters/${letter?.id ?? ''}/requeue`);
    expect(requeued.status).toBe(202);
    const { id: nextId } = z.looseObject({ id: z.string() }).parse(requeued.body);
    expect(nextId).not.toBe(id);
    expect(await readJob(product, nextId, 30)).toMatchObject({ state: 'FAILURE', retry_of: id, attempt: 3 });
    expect(await lettersOf(id)).toMatchObject([{ requeued_as: nextId }]);
    expect(await lettersOf(nextId)).toMatchObject([{ requeued_as: null }]);
  });
});

test('INV-F23 result wait: a job that finishes at 2 s of 10 is answered then', async () => {
  const from = performance.now();
  const id = await enqueue(product, 'debug.sleep', { seconds: 2 });
  const job = await readJob(product, id, 10);
  const seconds = (performance.now() - from) / 1_000;
  expect(job).toMatchObject({ state: 'SUCCESS', result: { slept: 2 } });
  expect(seconds).toBeGreaterThanOrEqual(1.9);
  expect(seconds).toBeLessThan(8);
});
