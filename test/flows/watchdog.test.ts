import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { enqueue, readJob, startProduct, until, type Product } from './product.ts';

// Four minutes of waiting: npm run test:watchdog. Everywhere else test/cron and test/durable stand for it.
const isWanted = process.env['FULL'] === '1';

let product: Product;
beforeAll(async () => {
  if (isWanted) product = await startProduct();
});
afterAll(async () => {
  if (isWanted) await product.kill();
});

const pageShape = z.object({
  items: z.array(
    z.looseObject({
      kind: z.string(),
      state: z.string(),
      detail: z.object({ silent_since: z.iso.datetime() }),
      opened_at: z.iso.datetime(),
    }),
  ),
});
type Alert = z.infer<typeof pageShape>['items'][number];

async function alerts(state: 'open' | 'resolved'): Promise<readonly Alert[]> {
  const { body } = await product.get(`/api/v1/alerts?kind=cron_stopped&state=${state}`);
  return pageShape.parse(body).items;
}

test.runIf(isWanted)(
  'INV-G11 when whoever ticks stops, there is an alert within three minutes and jobs go on; when he is back, it is resolved',
  { timeout: 400_000 },
  async () => {
    // Stops the process that ticks; the Worker is another, and goes on.
    product.group.signal('SIGSTOP');
    const stoppedAt = Date.now();
    // Lives in its row alone until a tick hands it out.
    const id = await enqueue(product, 'debug_task', { hello: 'again' }, { countdown: 100 });
    const alert = await until('an alert', 200_000, async () => (await alerts('open'))[0]);
    const sinceMs = Date.parse(alert.detail.silent_since);
    expect(sinceMs).toBeLessThanOrEqual(stoppedAt + 1_000);
    expect(Date.parse(alert.opened_at) - sinceMs).toBeLessThanOrEqual(180_000);
    const job = await readJob(product, id, 30);
    expect(job.state).toBe('SUCCESS');
    const ranAt = Date.parse(z.looseObject({ started_at: z.string() }).parse(job).started_at);
    const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
    product.group.signal('SIGCONT');
    const backAt = Date.now();
    await until('the end of the alert', 20_000, async () => (await alerts('resolved'))[0]);
    console.log(
      `alert ${seconds(Date.parse(alert.opened_at) - sinceMs)} after the last tick, job ${seconds(ranAt - stoppedAt)} after ` +
        `the stop (due after 100 s), resolved ${seconds(Date.now() - backAt)} after it went on`,
    );
    expect(await alerts('open')).toEqual([]);
  },
);
