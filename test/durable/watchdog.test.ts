import { evictDurableObject, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test, vi } from 'vitest';
import { WatchdogObject, type TakeOver } from '../../src/durable/watchdog.ts';
import type { Env } from '../../src/env.ts';
import { HeldClock, settled, START } from '../worker/bench.ts';

/** A watchdog on real storage, whose alarm the test lets fire as the platform does. */
class Watched {
  readonly clock = new HeldClock(START);
  /** When a take-over began, in seconds after the start, and what it was told. */
  readonly taken: (readonly [number, number])[] = [];
  /** What a take-over does. */
  work: () => Promise<void> = () => Promise.resolve();
  readonly #state: DurableObjectState;
  object: WatchdogObject;

  constructor(state: DurableObjectState) {
    this.#state = state;
    this.object = this.anew();
  }

  /** The object as it is after an eviction: what it had in memory is gone. */
  anew(): WatchdogObject {
    const takeOver: TakeOver = async ({ silentSince }) => {
      this.taken.push([this.seconds(this.clock.now()), this.seconds(silentSince)]);
      await this.work();
    };
    this.object = new WatchdogObject(this.#state, env, takeOver);
    this.object.clock = this.clock;
    return this.object;
  }

  seconds(at: number): number {
    return (at - START) / 1_000;
  }

  /** Seconds after the start; null where no alarm is set. */
  async alarmAt(): Promise<number | null> {
    const at = await this.#state.storage.getAlarm();
    return at === null ? null : this.seconds(at);
  }

  /** Lets the alarm fire: it is gone when its handler begins. */
  async ring(): Promise<void> {
    await this.#state.storage.deleteAlarm();
    await this.object.alarm();
  }

  /** Time passes, and every alarm fires when it is due, one after the other. */
  async pass(seconds: number): Promise<void> {
    const until = this.clock.now() + seconds * 1_000;
    for (;;) {
      const at = await this.#state.storage.getAlarm();
      if (at === null || at > until) break;
      await this.clock.advance(Math.max(0, at - this.clock.now()));
      let over = false;
      const end = (): void => {
        over = true;
      };
      this.ring().then(end, end);
      await settled();
      while (!(over as boolean)) {
        // Whoever waits in it waits for time.
        if (this.clock.wakesAt !== undefined) await this.clock.advance(1_000);
        await settled();
      }
    }
    await this.clock.advance(Math.max(0, until - this.clock.now()));
  }

  storage(): DurableObjectStorage {
    return this.#state.storage;
  }
}

async function watching(name: string, play: (watched: Watched) => Promise<void>): Promise<void> {
  const stub = (env as unknown as Env).WATCHDOG.getByName(name);
  await runInDurableObject(stub, async (_object: WatchdogObject, state) => {
    await play(new Watched(state));
    await state.storage.deleteAll();
  });
}

test('a trigger that ticks is never taken over from, and every tick puts the alarm off', async () => {
  await watching('ticking', async (dog) => {
    for (let minute = 0; minute < 10; minute += 1) {
      expect(await dog.object.beat()).toEqual({ silentSince: null });
      expect(await dog.alarmAt()).toBe(minute * 60 + 150);
      await dog.pass(60);
    }
    expect([dog.taken, dog.object.lastBeatAt()]).toEqual([[], START + 540_000]);
  });
});

test('a trigger that stops is taken over from within three minutes, then once a minute, until it ticks again', async () => {
  await watching('stopped', async (dog) => {
    await dog.object.beat();
    await dog.pass(149.999);
    expect(dog.taken).toEqual([]);
    await dog.pass(150);
    expect(dog.taken).toEqual([150, 210, 270].map((at) => [at, 0]));
    expect(await dog.object.beat()).toEqual({ silentSince: START });
    expect(await dog.object.beat()).toEqual({ silentSince: null });
    await dog.pass(140);
    expect(dog.taken).toHaveLength(3);
    await dog.pass(20);
    expect(dog.taken.slice(3)).toEqual([[299.999 + 150, 299.999]]);
  });
});

test('a work that throws, at once or later, ends neither the alarm nor the chain', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  await watching('throwing', async (dog) => {
    await dog.object.beat();
    dog.work = () => Promise.reject(new Error('no database'));
    await dog.pass(220);
    dog.work = () => {
      throw new Error('no runtime');
    };
    await dog.pass(60);
    expect(dog.taken.map(([at]) => at)).toEqual([150, 210, 270]);
    expect(await dog.alarmAt()).toBe(330);
  });
  expect(error.mock.calls.flat().join()).toContain('"event":"watchdog.failed","error":"Error: no database"');
  error.mockRestore();
});

test('the next alarm is set before the work begins, so that a machine that dies of the work does not end the chain', async () => {
  await watching('dying', async (dog) => {
    let during: number | null = null;
    dog.work = async () => {
      during = await dog.alarmAt();
    };
    await dog.object.beat();
    await dog.pass(150);
    expect(during).toBe(210);
  });
});

test('a work that takes minutes does not hold up the alarm, and no other is begun beside it', async () => {
  await watching('slow', async (dog) => {
    dog.work = () => dog.clock.sleep(130_000);
    await dog.object.beat();
    await dog.pass(400);
    // From 150 to 280 and from 330 to 460: whoever finds it at work lets it.
    expect(dog.taken.map(([at]) => at)).toEqual([150, 330]);
    expect(await dog.alarmAt()).toBe(450);
  });
});

test('a work that hangs is given up after the longest that a tick may take, and another is begun', async () => {
  await watching('hanging', async (dog) => {
    const hung: (() => void)[] = [];
    dog.work = () => new Promise((resolve) => void hung.push(resolve));
    await dog.object.beat();
    await dog.pass(500);
    expect(dog.taken.map(([at]) => at)).toEqual([150, 450]);
    // The first comes back to life, which says nothing of the second.
    hung[0]?.();
    await dog.pass(70);
    expect(dog.taken).toHaveLength(2);
    hung[1]?.();
    await dog.pass(60);
    expect(dog.taken).toHaveLength(3);
  });
});

test('two alarms of one moment, or one that is repeated, take over once', async () => {
  await watching('doubled', async (dog) => {
    await dog.object.beat();
    await dog.clock.advance(150_000);
    await Promise.all([dog.ring(), dog.ring()]);
    await dog.ring();
    expect(dog.taken).toHaveLength(1);
    expect(await dog.alarmAt()).toBe(210);
  });
});

test('an alarm that fires although a tick came meanwhile does nothing but set the next', async () => {
  await watching('stale', async (dog) => {
    await dog.object.beat();
    await dog.clock.advance(149_000);
    await dog.object.beat();
    await dog.clock.advance(1_000);
    await dog.ring();
    expect([dog.taken, await dog.alarmAt()]).toEqual([[], 299]);
  });
});

test('a tick sets the alarm again where it is missing, or stuck in the past', async () => {
  await watching('missing', async (dog) => {
    await dog.object.beat();
    await dog.storage().deleteAlarm();
    await dog.clock.advance(60_000);
    await dog.object.beat();
    expect(await dog.alarmAt()).toBe(210);
    // Nobody lets it fire.
    await dog.clock.advance(3_600_000);
    await dog.object.beat();
    expect(await dog.alarmAt()).toBe(3_660 + 150);
  });
});

test('two ticks of one moment are one', async () => {
  await watching('two', async (dog) => {
    await dog.object.beat();
    await dog.pass(150);
    const answers = await Promise.all([dog.object.beat(), dog.object.beat()]);
    expect(answers).toEqual([{ silentSince: START }, { silentSince: null }]);
    expect(await dog.alarmAt()).toBe(300);
  });
});

test('a tick while its work is taken over puts the alarm off, and what is at work ends in peace', async () => {
  await watching('back', async (dog) => {
    dog.work = () => dog.clock.sleep(30_000);
    await dog.object.beat();
    await dog.clock.advance(150_000);
    const ringing = dog.ring();
    await settled();
    await dog.clock.advance(10_000);
    expect(await dog.object.beat()).toEqual({ silentSince: START });
    expect(await dog.alarmAt()).toBe(310);
    await dog.clock.advance(20_000);
    await ringing;
    expect(await dog.alarmAt()).toBe(310);
    await dog.pass(130);
    expect(dog.taken).toEqual([
      [150, 0],
      [310, 160],
    ]);
  });
});

test('an alarm that is hours late, because everything slept, gives the trigger a minute before it takes over', async () => {
  await watching('slept', async (dog) => {
    await dog.object.beat();
    await dog.clock.advance(8 * 3_600_000);
    await dog.ring();
    expect([dog.taken, await dog.alarmAt()]).toEqual([[], 8 * 3_600 + 60]);
    await dog.pass(60);
    expect(dog.taken).toEqual([[8 * 3_600 + 60, 0]]);
  });
});

test('an alarm that finds nothing it understands begins anew, and is not the last', async () => {
  await watching('unknown', async (dog) => {
    dog.storage().kv.put('pulse', { v: 99 });
    await dog.ring();
    expect([dog.taken, await dog.alarmAt()]).toEqual([[], 150]);
    await dog.pass(150);
    expect(dog.taken).toEqual([[150, 0]]);
  });
});

test('a restart in the middle of a silence forgets neither it nor the alarm', async () => {
  await watching('restarted', async (dog) => {
    await dog.object.beat();
    dog.work = () => new Promise(() => undefined);
    await dog.pass(150);
    dog.anew();
    dog.work = () => Promise.resolve();
    await dog.pass(60);
    expect(dog.taken.at(-1)).toEqual([270, 0]);
    expect(await dog.anew().beat()).toEqual({ silentSince: START });
  });
});

test('an alarm that could set no other is repeated by the platform, so it says that it failed', async () => {
  await watching('unset', async (dog) => {
    await dog.object.beat();
    await dog.clock.advance(150_000);
    const set = vi.spyOn(dog.storage(), 'setAlarm').mockRejectedValueOnce(new Error('Network connection lost.'));
    await expect(dog.object.alarm()).rejects.toThrow('Network connection lost.');
    set.mockRestore();
    expect(dog.taken).toEqual([]);
  });
});

test('the Worker has one that is called by its binding, and remembers the trigger through an eviction', async () => {
  const stub = (env as unknown as Env).WATCHDOG.getByName('bound');
  await runInDurableObject(stub, (object: WatchdogObject) => {
    object.clock = new HeldClock(START);
  });
  expect(await stub.lastBeatAt()).toBeNull();
  expect(await stub.beat()).toEqual({ silentSince: null });
  await evictDurableObject(stub);
  expect(await stub.lastBeatAt()).toBe(START);
});
