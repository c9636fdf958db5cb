import { expect, test } from 'vitest';
import { enqueue, readJob, startProduct, until, type Product } from './product.ts';

const MB = 1_000_000;

/** JSON of about `bytes` in which every kind of character has its place. */
function largeInput(bytes: number): { text: string; list: unknown[] } {
  const piece = 'plain "quoted" \\ \n\t\u0000 é € 😀 \u2028 ';
  return { text: piece.repeat(Math.ceil(bytes / 46)), list: [null, 1e-7, [], {}] };
}

async function roundTrip(product: Product, id: string, input: { text: string }): Promise<void> {
  const job = await readJob(product, id, 30);
  expect(job.state).toBe('SUCCESS');
  expect(JSON.stringify(job.input)).toBe(JSON.stringify(input));
  expect(JSON.stringify((job.result as { input: unknown }).input)).toBe(JSON.stringify(input));
}

test('inputs and results of 6 MB come back byte for byte, side by side, and over a machine that dies', async () => {
  const product = await startProduct();
  let after: Product | undefined;
  try {
    const input = largeInput(6 * MB);
    expect(new TextEncoder().encode(JSON.stringify(input)).length).toBeGreaterThan(6 * MB);
    const ids = await Promise.all([1, 2, 3].map(() => enqueue(product, 'debug_task', input)));
    for (const id of ids) await roundTrip(product, id, input);

    const later = await enqueue(product, 'debug_task', input, { countdown: 3 });
    await product.kill();
    after = await startProduct({ persistTo: product.persistTo, env: { ADMIN_API_KEY: product.key } });
    await roundTrip(after, ids[0] ?? '', input);
    const restarted = after;
    await until('the one that was waiting is done', 60_000, async () =>
      (await readJob(restarted, later)).state === 'SUCCESS' ? true : undefined,
    );
    await roundTrip(after, later, input);
  } finally {
    await product.kill();
    await after?.kill();
  }
});

test('after its TTL a large result is not shown any more, and its job says so', async () => {
  const product = await startProduct();
  try {
    const input = largeInput(0.2 * MB);
    const id = await enqueue(product, 'debug_task', input, { result_ttl: 2 });
    await roundTrip(product, id, input);
    const expired = await until('its result is expired', 10_000, async () => {
      const job = await readJob(product, id);
      return job['result_expired'] === true ? job : undefined;
    });
    expect(expired).toMatchObject({ state: 'SUCCESS', result: null });
    expect(JSON.stringify(expired.input)).toBe(JSON.stringify(input));
  } finally {
    await product.kill();
  }
});
