import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { emptyDatabase, START } from '../worker/bench.ts';
import { Scene } from '../worker/scene.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 1_440 * MINUTE;
const OPENS = START + 3 * DAY + 0.5;

/** When it was run, and as which attempt. */
const runs: { at: number; attempt: number }[] = [];

beforeEach(async () => {
  await emptyDatabase();
  runs.length = 0;
});

const shop = defineTask({
  name: 'test.shop',
  queue: 'email',
  input: z.object({}),
  retry: { max: 0 },
  run(_input, job) {
    runs.push({ at: job.clock.now(), attempt: job.attempt });
    return job.clock.now() < OPENS ? job.defer({ until: OPENS, reason: 'the shop is closed' }) : 'sold';
  },
});

async function deferred(): Promise<Scene> {
  const scene = new Scene([shop]);
  await scene.begin('test.shop', {});
  return scene;
}

describe('a deferral to an instant days ahead', () => {
  test('lives in its row alone, says why, and costs no attempt', async () => {
    const scene = await deferred();
    expect(await scene.job()).toMatchObject({
      state: 'PENDING',
      attempt: 0,
      due_at: OPENS + 0.5,
      sent_at: null,
      started_at: null,
      waiting_for: 'the shop is closed',
    });
    expect([scene.world.broker.size, scene.world.broker.taken.length]).toEqual([0, 1]);
    expect((await scene.ask('GET')).body).toMatchObject({ waiting_for: 'the shop is closed', ready: false });
  });

  test('starts at its time and not before, also after a restart', async () => {
    const scene = await deferred();
    const { world, bench } = scene;
    await world.run(tick(bench.rt, 'boot-1'));
    await world.clock.advance(2 * DAY);
    await world.run(tick(bench.rt, 'boot-2'));
    await world.pass(OPENS - 30 * SECOND - world.clock.now());
    expect(world.broker.taken).toHaveLength(1);
    await world.run(tick(bench.rt, 'boot-2'));
    expect(world.broker.taken).toHaveLength(2);
    scene.consume();
    await world.pass(MINUTE);
    expect(await scene.job()).toMatchObject({ state: 'SUCCESS', result: 'sold', attempt: 1, waiting_for: null });
    expect(runs.map(({ attempt }) => attempt)).toEqual([1, 1]);
    const lateMs = (runs[1]?.at ?? 0) - OPENS;
    expect(lateMs).toBeGreaterThanOrEqual(0);
    expect(lateMs).toBeLessThanOrEqual(2 * SECOND);
  });

  test('can be cancelled, and then never runs again', async () => {
    const scene = await deferred();
    const { world, bench } = scene;
    expect((await scene.ask('DELETE')).body).toMatchObject({ state: 'REVOKED', previous_state: 'PENDING' });
    await world.clock.advance(3 * DAY);
    await world.run(tick(bench.rt, undefined));
    scene.consume();
    await world.pass(MINUTE);
    expect(await scene.job()).toMatchObject({ state: 'REVOKED', waiting_for: null });
    expect([runs.length, world.broker.size]).toEqual([1, 0]);
  });
});
