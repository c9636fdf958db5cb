import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { beforeEach, expect, test, vi, type MockInstance } from 'vitest';
import { beatAndTick, takeOver } from '../../src/cron/watchdog.ts';
import { WatchdogObject } from '../../src/durable/watchdog.ts';
import type { Env } from '../../src/env.ts';
import { readAlert, type AlertRow } from '../../src/store/alerts.ts';
import { Bench, emptyDatabase, HeldClock, nameInLife, outage, START } from '../worker/bench.ts';
import { World, type Fate, type Port } from '../worker/world.ts';

let logged: MockInstance<typeof console.error>;
beforeEach(async () => {
  await emptyDatabase();
  logged = vi.spyOn(console, 'error').mockReset();
});

const DEADLINE_MS = 10_000;

/** Alerts, oldest first. */
async function alerts(): Promise<readonly AlertRow[]> {
  return (await env.DB.prepare(`SELECT * FROM alerts ORDER BY id`).all()).results.map(readAlert);
}

/**
 * A trigger that ticks where the test says so, and the watchdog of this life, on its real storage, whose alarm fires when
 * it is due. What it takes over runs in an isolate of the world.
 */
class Scene {
  readonly world = new World();
  fate: (port: Port) => Fate = () => 'answered';
  readonly bench = this.world.isolate({ fault: (port) => this.fate(port) });
  readonly #stub = (env as unknown as Env).WATCHDOG.getByName(nameInLife('watchdog'));

  /** The trigger ticks. Returns how long that took. */
  async tick(): Promise<number> {
    const from = this.world.clock.now();
    await this.world.run(beatAndTick(this.bench.rt, undefined));
    return this.world.clock.now() - from;
  }

  /** The trigger does not tick for so long. */
  async silence(seconds: number): Promise<void> {
    const { clock } = this.world;
    const until = clock.now() + seconds * 1_000;
    for (;;) {
      const at = await runInDurableObject(this.#stub, (_object: WatchdogObject, state) => state.storage.getAlarm());
      if (at === null || at > until) break;
      await this.world.pass(Math.max(0, at - clock.now()));
      await this.#ring();
    }
    await this.world.pass(Math.max(0, until - clock.now()));
  }

  async #ring(): Promise<void> {
    const due: { silentSince: number }[] = [];
    await runInDurableObject(this.#stub, async (_object: WatchdogObject, state) => {
      const object = new WatchdogObject(state, env, (silence) => {
        due.push(silence);
        return Promise.resolve();
      });
      object.clock = this.world.clock;
      await state.storage.deleteAlarm();
      await object.alarm();
    });
    // Outside of the object, because the isolate belongs to the test.
    for (const silence of due) await this.world.run(takeOver(this.bench.rt, undefined, silence));
  }

  /** Ids of the jobs whose messages were sent since it was asked last. */
  sent(): readonly string[] {
    return this.world.broker.taken.splice(0);
  }
}

test('a trigger that stops is one alert within three minutes, and the watchdog sends what is owed', async () => {
  const scene = new Scene();
  await scene.tick();
  const owed = await scene.world.run(scene.bench.enqueue({ task: 'debug_task', options: { countdown: 100 } }));
  const later = await scene.world.run(scene.bench.enqueue({ task: 'debug_task', options: { countdown: 400 } }));
  await scene.silence(180);
  expect(scene.sent()).toEqual([owed.id]);
  const found = await alerts();
  expect(found).toEqual([
    {
      v: 1,
      id: expect.any(String) as unknown,
      kind: 'cron_stopped',
      target: '* * * * *',
      severity: 'critical',
      message: expect.stringContaining('has not ticked since 2040-01-02T12:00:00.000Z') as unknown,
      detail: { silent_since: '2040-01-02T12:00:00.000Z' },
      opened_at: START + 150_000,
      seen_at: START + 150_000,
      times: 1,
      resolved_at: null,
    },
  ]);
  await scene.silence(300);
  expect(scene.sent()).toEqual([later.id]);
  expect(await alerts()).toEqual([{ ...found[0], seen_at: START + 450_000, times: 6 }]);
});

test('the tick with which the trigger comes back resolves the alert; the next silence is another', async () => {
  const scene = new Scene();
  await scene.tick();
  await scene.silence(200);
  await scene.tick();
  const [first, ...others] = await alerts();
  expect([first?.resolved_at, others]).toEqual([START + 200_000, []]);
  for (let minute = 0; minute < 3; minute += 1) {
    await scene.silence(60);
    await scene.tick();
  }
  expect(await alerts()).toEqual([first]);
  await scene.silence(200);
  expect(await alerts()).toMatchObject([{ id: first?.id }, { resolved_at: null, times: 1 }]);
});

test('a trigger that ticks once a minute, now and then twice or a minute late, is no alert', async () => {
  const scene = new Scene();
  for (const seconds of [60, 0, 60, 120, 1, 119, 60]) {
    await scene.silence(seconds);
    await scene.tick();
  }
  expect(await alerts()).toEqual([]);
});

test('while the alert cannot be written the work goes on, and it is written as soon as it can be', async () => {
  const scene = new Scene();
  await scene.tick();
  const owed = await scene.world.run(scene.bench.enqueue({ task: 'debug_task', options: { countdown: 100 } }));
  scene.bench.db.fault = (names) => (names === 'alert' ? { when: 'before', error: outage() } : undefined);
  await scene.silence(160);
  expect([await alerts(), scene.sent()]).toEqual([[], [owed.id]]);
  expect(logged.mock.calls.flat().join()).toMatch(/"event":"watchdog.failed".*"part":"raise"/);
  scene.bench.db.fault = () => undefined;
  await scene.silence(60);
  expect(await alerts()).toMatchObject([
    { opened_at: START + 210_000, detail: { silent_since: '2040-01-02T12:00:00.000Z' } },
  ]);
});

test.each(['refused', 'silent'] as const)(
  'a database that is %s for minutes ends no take-over, and is told of the silence when it answers',
  async (fate) => {
    const scene = new Scene();
    await scene.tick();
    scene.fate = (port) => (port === 'database' ? fate : 'answered');
    await scene.silence(400);
    expect(await alerts()).toEqual([]);
    scene.fate = () => 'answered';
    await scene.silence(200);
    expect(await alerts()).toMatchObject([{ resolved_at: null, detail: { silent_since: '2040-01-02T12:00:00.000Z' } }]);
  },
);

test('an alert that could not be resolved when the trigger came back is resolved by the next tick', async () => {
  const scene = new Scene();
  await scene.tick();
  await scene.silence(160);
  scene.bench.db.fault = (names) => (names === 'alert' ? { when: 'before', error: outage() } : undefined);
  await scene.tick();
  expect(await alerts()).toMatchObject([{ resolved_at: null }]);
  scene.bench.db.fault = () => undefined;
  await scene.silence(60);
  await scene.tick();
  expect(await alerts()).toMatchObject([{ resolved_at: START + 220_000 }]);
});

test.each(['refused', 'silent', 'done, silent'] as const)(
  'a watchdog that is %s keeps the tick from nothing: what is owed is sent, the alert resolved',
  async (fate) => {
    const scene = new Scene();
    await scene.tick();
    await scene.silence(160);
    const owed = await scene.world.run(scene.bench.enqueue({ task: 'debug_task', options: { countdown: 61 } }));
    await scene.world.pass(61_000);
    scene.fate = (port) => (port === 'watchdog' ? fate : 'answered');
    expect(await scene.tick()).toBe(fate === 'refused' ? 0 : DEADLINE_MS);
    expect(scene.sent()).toEqual([owed.id]);
    // Nobody waited for the watchdog.
    expect(await alerts()).toMatchObject([{ resolved_at: START + 221_000 }]);
    expect(logged.mock.calls.flat().join()).toMatch(/"event":"watchdog.failed".*"part":"beat"/);
  },
);

test('what the watchdog does in the place of a tick is no tick of the trigger', async () => {
  const scene = new Scene();
  await scene.tick();
  await scene.silence(400);
  expect(await scene.bench.rt.watchdog.lastBeatAt()).toBe(START);
});

test("the Worker's own watchdog does the work when its alarm fires", async () => {
  const stub = (env as unknown as Env).WATCHDOG.getByName(nameInLife('real'));
  // What it takes over goes by the clock of the machine.
  const now = Date.now();
  const clock = new HeldClock(now);
  await runInDurableObject(stub, (object: WatchdogObject) => {
    object.clock = clock;
  });
  await stub.beat();
  const bench = new Bench({ clock: new HeldClock(now) });
  bench.queues.fault = 'refuse';
  const { id } = await bench.enqueue({ task: 'debug_task' });
  await bench.background();
  // Sent, it may have run to its end already.
  const owed = `SELECT count(*) AS n FROM jobs WHERE id = ? AND sent_at IS NULL AND finished_at IS NULL`;
  const isOwed = async (): Promise<unknown> => env.DB.prepare(owed).bind(id).first('n');
  expect(await isOwed()).toBe(1);
  await clock.advance(150_000);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  // Its next alarm is one of real time.
  await runInDurableObject(stub, (_object: WatchdogObject, state) => state.storage.deleteAll());
  expect(await isOwed()).toBe(0);
  expect(await alerts()).toMatchObject([{ kind: 'cron_stopped', times: 1, resolved_at: null }]);
});
