import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { callbackOf } from '../../src/jobs/callbacks.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { emptyDatabase, type Bench } from '../worker/bench.ts';
import { DEATHS, Life, World } from '../worker/world.ts';

const MINUTE = 60_000;

// No secret is set here: a callback that ran has failed for that, and calls nobody.
const TOLD = { state: 'FAILURE', attempt: 1, error: expect.stringContaining('not_configured') as string };

const failing = defineTask({
  name: 'test.failing',
  queue: 'default',
  input: z.unknown(),
  retry: { max: 0 },
  run: () => {
    throw new Error('never');
  },
});

/** Ticks and deliveries by an isolate that lives, until all is done. */
async function goOn(world: World, bench: Bench): Promise<void> {
  for (let minute = 0; minute < 20; minute += 1) {
    await world.pass(MINUTE);
    await world.run(tick(bench.rt, undefined));
    await world.deliver(bench);
    const open = await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE finished_at IS NULL`).first('n');
    if (world.broker.size === 0 && open === 0) return;
  }
}

test(
  'an isolate that dies at any of its calls leaves a job and its one callback, and both end',
  { timeout: 60_000 },
  async () => {
    const calls = [];
    for (const death of DEATHS) {
      for (let call = 1, life = new Life(call, death); ; call += 1, life = new Life(call, death)) {
        await emptyDatabase();
        const world = new World();
        const healthy = world.isolate({ tasks: [failing] });
        const options = { callback_url: 'https://example.invalid/' };
        const jobs = ['debug_task', 'test.failing'].map((task) => healthy.enqueue({ task, options }));
        const accepted = await world.run(Promise.all(jobs));

        const mortal = world.isolate({ tasks: [failing], life });
        await world.deliver(mortal, life);
        if (!life.dead) await world.run(mortal.background(), life);
        await goOn(world, healthy);

        const at = `${death} call ${String(call)}`;
        const { results } = await env.DB.prepare(`SELECT * FROM jobs ORDER BY task`).all();
        expect(results, at).toHaveLength(4);
        for (const { id } of accepted) {
          const callback = results.find((row) => row['id'] === callbackOf(id, '').id);
          expect(callback, at).toMatchObject({ parent_id: id, ...TOLD });
        }
        if (life.dead) continue;
        calls.push(life.calls);
        break;
      }
    }
    // Claims and finishes of both queues, and the messages of the callbacks.
    expect(Math.min(...calls)).toBeGreaterThanOrEqual(5);
  },
);
