import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { tick } from '../../src/cron/tick.ts';
import { wakeResumed } from '../../src/cron/resumed.ts';
import { pause, purge, resume } from '../../src/jobs/queue-control.ts';
import { revokeMany } from '../../src/jobs/revoke-many.ts';
import { emptyDatabase, outage, type Bench } from '../worker/bench.ts';
import { dieEverywhere, World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;

function effect(key: string, options: Record<string, number | string> = {}): Parameters<Bench['enqueue']>[0] {
  return { task: 'debug.effect', input: { key }, options };
}

async function states(): Promise<Record<string, unknown>> {
  const { results } = await env.DB.prepare(
    `SELECT input ->> 'key' AS key, coalesce(error ->> 'code', state) AS state FROM jobs`,
  ).all<{ key: string; state: string }>();
  return Object.fromEntries(results.map(({ key, state }) => [key, state]));
}

/** How often each key ran. */
async function effects(): Promise<Record<string, unknown>> {
  const { results } = await env.DB.prepare(
    `SELECT key, count(*) AS n FROM debug_effects GROUP BY key ORDER BY key`,
  ).all<{ key: string; n: number }>();
  return Object.fromEntries(results.map(({ key, n }) => [key, n]));
}

async function deeds(action: string): Promise<unknown> {
  return env.DB.prepare(`SELECT count(*) AS n FROM audit_log WHERE action = ?`).bind(action).first('n');
}

/** Ticks and deliveries, minute by minute, by an isolate that lives: until all is done, and once more. */
async function goOn(world: World, bench: Bench, minutes: number): Promise<void> {
  let done = false;
  for (let minute = 0; minute < minutes && !done; minute += 1) {
    const open = await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE finished_at IS NULL`).first('n');
    done = world.broker.size === 0 && open === 0;
    await world.pass(MINUTE);
    await world.run(tick(bench.rt, undefined));
    await world.deliver(bench);
  }
}

test('an isolate that dies at any call of a pause, a delivery in it or a resumption loses no job', async () => {
  await dieEverywhere(8, async (life, at) => {
    const world = new World();
    const living = world.isolate();
    const mortal = world.isolate({ life });
    for (const key of ['one', 'two']) await world.run(living.enqueue(effect(key)));
    await world.run(living.enqueue(effect('elsewhere', { queue: 'bulk' })));
    const steps = async (): Promise<void> => {
      if ((await world.run(pause(mortal.rt, 'default', null, 'test'), life)) === 'died') return;
      if ((await world.deliver(mortal, life)) === 'died') return;
      expect((await effects())['one']).toBeUndefined();
      if ((await world.run(resume(mortal.rt, 'default', 'test'), life)) === 'died') return;
      if ((await world.run(wakeResumed(mortal.rt, ['default']), life)) === 'died') return;
      await world.deliver(mortal, life);
    };
    await steps();
    // Whoever was not answered says it again.
    await world.run(resume(living.rt, 'default', 'test'));
    await goOn(world, living, 8);
    expect([at, await states()]).toEqual([at, { one: 'SUCCESS', two: 'SUCCESS', elsewhere: 'SUCCESS' }]);
    for (const [key, ran] of Object.entries(await effects())) {
      // Twice only where it had run when its isolate died, which nobody can know.
      expect([at, key, ran]).toEqual([at, key, expect.toBeOneOf(life.dead ? [1, 2] : [1])]);
    }
    expect([at, world.broker.size]).toEqual([at, 0]);
  });
}, 120_000);

test('an isolate that dies at any call of a resumption leaves what was parked to the tick: each job runs once', async () => {
  await dieEverywhere(4, async (life, at) => {
    const world = new World();
    const living = world.isolate();
    const mortal = world.isolate({ life });
    await world.run(pause(living.rt, 'default', null, 'test'));
    const keys = Array.from({ length: 5 }, (_, key) => `key ${String(key)}`);
    for (const key of keys) await world.run(living.enqueue(effect(key)));
    await world.run(living.enqueue(effect('later', { countdown: 90 })));
    await world.deliver(living);
    await world.pass(2 * MINUTE);
    await world.run(tick(living.rt, undefined));
    expect(await effects()).toEqual({});
    const died = (await world.run(resume(mortal.rt, 'default', 'test'), life)) === 'died';
    if (!died) await world.run(wakeResumed(mortal.rt, ['default']), life);
    const paused = await env.DB.prepare(`SELECT paused_at FROM queue_controls`).first('paused_at');
    // Done with its audit row, or not done at all.
    expect([at, await deeds('queue.resumed')]).toEqual([at, paused === null ? 1 : 0]);
    if (paused !== null) await world.run(resume(living.rt, 'default', 'test'));
    await goOn(world, living, 6);
    expect([at, await effects()]).toEqual([at, Object.fromEntries([...keys, 'later'].map((key) => [key, 1]))]);
    expect([at, world.broker.size]).toEqual([at, 0]);
  });
}, 120_000);

test('an isolate that dies at any call of a purge leaves nothing half said: asked again it ends the rest, and nothing purged runs', async () => {
  await dieEverywhere(2, async (life, at) => {
    const world = new World();
    const living = world.isolate();
    const silent = world.isolate({ fault: (port) => (port === 'database' ? 'refused' : 'answered') });
    await world.run(living.enqueue(effect('waiting')));
    await world.run(living.enqueue(effect('later', { countdown: 90 })));
    await world.run(silent.enqueue(effect('message only')));
    await world.run(living.enqueue(effect('elsewhere', { queue: 'bulk' })));
    await world.pass(1);
    await world.run(purge(world.isolate({ life }).rt, 'default', 'test'), life);
    const purgedAt = await env.DB.prepare(`SELECT purged_at FROM queue_controls`).first('purged_at');
    expect([at, await deeds('queue.purged')]).toEqual([at, purgedAt === null ? 0 : 1]);
    const again = await world.run(purge(living.rt, 'default', 'test'));
    expect([at, again]).toEqual([at, { purged: purgedAt === null ? 2 : 0, running: 0, remaining: false }]);
    await world.deliver(living);
    await goOn(world, living, 4);
    expect([at, await states()]).toEqual([
      at,
      { waiting: 'purged', later: 'purged', 'message only': 'purged', elsewhere: 'SUCCESS' },
    ]);
    expect([at, await effects()]).toEqual([at, { elsewhere: 1 }]);
    expect([at, world.broker.size]).toEqual([at, 0]);
  });
}, 120_000);

test('a bulk revoke that dies or is not answered has done all of a page with its audit row, or nothing', async () => {
  await dieEverywhere(2, async (life, at) => {
    const world = new World();
    const living = world.isolate();
    for (const key of ['one', 'two', 'three']) await world.run(living.enqueue(effect(key)));
    const revocation = {
      filter: { task: 'debug.effect' },
      asked: { task: 'debug.effect' },
      terminate: false,
      limit: 10,
      dryRun: false,
      actor: 'test',
    };
    await world.run(revokeMany(world.isolate({ life }).rt, revocation), life);
    const revoked = Object.values(await states()).filter((state) => state === 'revoked').length;
    expect([at, revoked, await deeds('jobs.revoked')]).toEqual([at, revoked === 0 ? 0 : 3, revoked === 0 ? 0 : 1]);
    const again = await world.run(revokeMany(living.rt, revocation));
    expect([at, again.jobs.length]).toEqual([at, 3 - revoked]);
    await world.deliver(living);
    expect([at, await effects()]).toEqual([at, {}]);
  });
});

test('a park whose answer is lost is made once more by the next delivery, and strands nobody', async () => {
  const world = new World();
  const bench = world.isolate();
  await world.run(pause(bench.rt, 'default', null, 'test'));
  await world.run(bench.enqueue(effect('lost answer')));
  bench.db.fault = (names) => (names === 'park' ? { when: 'after', error: outage() } : undefined);
  await world.deliver(bench);
  expect(world.broker.size).toBe(1);
  bench.db.fault = () => undefined;
  await world.pass(10_000);
  await world.deliver(bench);
  expect(world.broker.size).toBe(0);
  await world.run(resume(bench.rt, 'default', 'test'));
  await goOn(world, bench, 2);
  expect(await effects()).toEqual({ 'lost answer': 1 });
});
