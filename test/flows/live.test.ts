import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { hear, type Heard } from '../worker/events.ts';
import { countStatements, enqueue, readJob, startProduct, until, type Product } from './product.ts';

const STEPS = 8;
const PERCENTS = Array.from({ length: STEPS }, (_, at) => Math.round((100 * (at + 1)) / STEPS));
/** What `debug.sleep` says of itself in so many steps. */
const SAID = PERCENTS.flatMap((percent, at) => [
  ['progress', percent],
  ['log', `slept ${String((at + 1) / 2)} s`],
  ['chunk', `step ${String(at + 1)} of ${String(STEPS)}\n`],
]);

let product: Product;

beforeAll(async () => {
  product = await startProduct();
});
afterAll(() => product.stop());

async function watch(id: string, lastEventId?: string, signal = AbortSignal.timeout(60_000)): Promise<Response> {
  const headers = new Headers({ authorization: `Bearer ${product.key}` });
  if (lastEventId !== undefined) headers.set('last-event-id', lastEventId);
  return fetch(`${product.address}/api/v1/jobs/${id}/stream`, { headers, signal });
}

function saidOf({ event, data }: Pick<Heard, 'event' | 'data'>): unknown {
  return [event, data['percent'] ?? data['line'] ?? data['text'] ?? data['state']];
}

test('INV-F22 progress: values written by the task, monotonic, visible while running; a poll sees at least one value between 0 and 100', async () => {
  const id = await enqueue(product, 'debug.sleep', { seconds: 4, steps: STEPS });
  const seen: { state: string; progress: number; note: unknown }[] = [];
  for (let ready = false; !ready;) {
    await sleep(100);
    const job = await readJob(product, id);
    seen.push({ state: job.state, progress: z.int().parse(job['progress']), note: job['progress_note'] });
    ({ ready } = job);
  }
  const values = [...new Set(seen.map(({ progress }) => progress))];
  // Long before the first heartbeat, which writes into the row.
  expect(values.filter((value) => value > 0 && value < 100).length).toBeGreaterThanOrEqual(3);
  expect([0, ...PERCENTS]).toEqual(expect.arrayContaining(values));
  expect(seen.map(({ progress }) => progress)).toEqual(seen.map(({ progress }) => progress).sort((a, b) => a - b));
  expect(seen.find(({ progress }) => progress === 50)).toMatchObject({ state: 'STARTED', note: 'step 4 of 8' });
  expect(seen.at(-1)).toMatchObject({ state: 'SUCCESS', progress: 100 });
});

test('ten watchers at once are told everything while it happens, and are let go at the end', async () => {
  const id = await enqueue(product, 'debug.sleep', { seconds: 4, steps: STEPS });
  const responses = await Promise.all(Array.from({ length: 10 }, () => watch(id)));
  const heard = await Promise.all(responses.map((response) => hear(response)));
  for (const each of heard) {
    expect(each.filter(({ event }) => event !== 'state').map(saidOf)).toEqual(SAID);
    expect(each.at(-1)?.data).toMatchObject({ state: 'SUCCESS', ready: true });
  }
});

test('what is said is heard within a second', async () => {
  const id = await enqueue(product, 'debug.sleep', { seconds: 4, steps: STEPS });
  const late: number[] = [];
  await hear(await watch(id), Infinity, ({ data }) => {
    if (typeof data['at'] === 'string') late.push(Date.now() - Date.parse(data['at']));
  });
  expect(late).toHaveLength(SAID.length);
  expect(Math.max(...late)).toBeLessThan(1_000);
});

test('a client that hangs up after every event and comes back misses nothing and hears nothing twice', async () => {
  const id = await enqueue(product, 'debug.sleep', { seconds: 4, steps: STEPS });
  const heard: Heard[] = [];
  for (let last: Heard | undefined; last?.data['ready'] !== true;) {
    const place = heard.filter((each) => each.id !== undefined).at(-1)?.id;
    // The state it finds, and what comes after it.
    const some: readonly Heard[] = await hear(await watch(id, place), 2);
    heard.push(...some);
    last = some.at(-1);
  }
  expect(heard.filter(({ event }) => event !== 'state').map(saidOf)).toEqual(SAID);
});

test('nobody looks any more at a job whose watcher has hung up', async () => {
  const id = await enqueue(product, 'debug_task', {}, { countdown: 3_600 });
  const hangUp = new AbortController();
  const [first] = await hear(await watch(id, undefined, hangUp.signal), 1);
  expect(first?.data).toMatchObject({ state: 'SCHEDULED' });
  hangUp.abort();
  await until('the last look', 30_000, async () => {
    const before = await countStatements(product, 'standing');
    await sleep(3_000);
    return (await countStatements(product, 'standing')) === before ? true : undefined;
  });
});

test('the same is polled page by page', async () => {
  const id = await enqueue(product, 'debug.sleep', { seconds: 4, steps: STEPS });
  const pageShape = z.object({
    items: z.array(z.object({ id: z.string(), event: z.string(), data: z.record(z.string(), z.unknown()) })),
    next_cursor: z.string().nullable(),
  });
  const items: z.infer<typeof pageShape>['items'] = [];
  for (let after: string | null = '0.0'; after !== null;) {
    await sleep(50);
    const { body } = await product.get(`/api/v1/jobs/${id}/events?limit=5&after=${after}`);
    const page: z.infer<typeof pageShape> = pageShape.parse(body);
    items.push(...page.items);
    after = page.next_cursor;
  }
  expect(items.map(saidOf)).toEqual(SAID);
});
