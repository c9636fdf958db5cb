// A world in virtual time: isolates that may die at any call, ports that may fail at any moment, and a queue service
// that delivers again what was not answered. Time passes only while no port is at work, so a slow machine is no outage.

import { expect } from 'vitest';
import type { Envelope } from '../../src/core/envelope.ts';
import type { Backlog, Outgoing, Queues } from '../../src/core/ports.ts';
import { consume, type IncomingMessage } from '../../src/consumers/batch.ts';
import type { Runtime } from '../../src/jobs/runtime.ts';
import type { Task } from '../../src/jobs/task.ts';
import { roleOf, QUEUES } from '../../src/queues.ts';
import { Bench, emptyDatabase, HeldClock, outage, passing, settled, START } from './bench.ts';

/** What becomes of one call of a port: done or not, and answered, refused, or never heard of again. */
export type Fate = 'answered' | 'refused' | 'done, refused' | 'silent' | 'done, silent';

/** How a life ends at a call: its effect not done, done, or not done while others of the same breath are. */
export type Death = 'before' | 'after' | 'beside';
export const DEATHS: readonly Death[] = ['before', 'after', 'beside'];

/** An isolate that dies at its `at`-th call of a port: no answer reaches it any more, and it never wakes again. */
export class Life {
  calls = 0;
  dead = false;
  readonly #at: number;
  readonly #death: Death;
  #buried = false;

  constructor(at: number, death: Death) {
    this.#at = at;
    this.#death = death;
  }

  next(): Fate {
    if (this.#buried) return 'silent';
    if (this.dead) return 'done, silent';
    this.calls += 1;
    if (this.calls !== this.#at) return 'answered';
    this.dead = true;
    if (this.#death === 'beside') setTimeout(() => (this.#buried = true), 0);
    else this.#buried = true;
    return this.#death === 'after' ? 'done, silent' : 'silent';
  }
}

export type Port = 'database' | 'queue' | 'guard' | 'limits' | 'objects' | 'streams' | 'watchdog';

export class World {
  readonly clock: HeldClock;
  readonly broker: Broker;
  #busy = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(now = START) {
    this.clock = new HeldClock(now);
    this.broker = new Broker(this.clock);
  }

  /** A new isolate, whose clock is `aheadMs` ahead of the world's. `fault` is asked for each call of a port. */
  isolate(
    options: { tasks?: readonly Task[]; life?: Life; fault?: (port: Port) => Fate; aheadMs?: number } = {},
  ): Bench {
    const { tasks = [], life, fault = () => 'answered', aheadMs = 0 } = options;
    const through = async <T>(port: Port, call: () => Promise<T>): Promise<T> => {
      const mortal = life?.next() ?? 'answered';
      const answer = await this.#meet(port, mortal === 'answered' ? fault(port) : mortal, call);
      return life?.dead === true ? never() : answer;
    };
    const by =
      (port: Port) =>
      (call: () => Promise<unknown>): Promise<unknown> =>
        through(port, call);
    const ports = ({
      db,
      inputs,
      results,
      replay,
      rates,
      locks,
      streams,
      watchdog,
      env,
    }: Runtime): Partial<Runtime> => ({
      db: passing(db, by('database')),
      queues: passing<Queues>(this.broker, by('queue')),
      inputs: passing(inputs, by('objects')),
      results: passing(results, by('objects')),
      replay: passing(replay, by('guard')),
      rates: passing(rates, by('limits')),
      locks: passing(locks, by('limits')),
      streams: passing(streams, by('streams')),
      watchdog: passing(watchdog, by('watchdog')),
      env: { ...env, OBJECTS: passing(env.OBJECTS, by('objects')) },
      clock: {
        now: () => this.clock.now() + aheadMs,
        sleep: async (milliseconds, signal) => {
          await this.clock.sleep(milliseconds, signal);
          if (life?.dead === true) await never();
        },
      },
    });
    return new Bench({ tasks, clock: this.clock, ports });
  }

  async #meet<T>(port: Port, fate: Fate, call: () => Promise<T>): Promise<T> {
    if (fate === 'answered' || fate.startsWith('done')) {
      const answer = await this.#counted(call);
      if (fate === 'answered') return answer;
    }
    if (fate.endsWith('silent')) return never();
    throw port === 'database' ? outage() : new Error('Too Many Requests');
  }

  async #counted<T>(call: () => Promise<T>): Promise<T> {
    this.#busy += 1;
    try {
      return await call();
    } finally {
      this.#busy -= 1;
      if (this.#busy === 0) for (const wake of this.#waiting.splice(0)) wake();
    }
  }

  /** Lets time pass until `work` is over; 'died' where the life that does it ended first. */
  async run<T>(work: Promise<T>): Promise<T>;
  async run<T>(work: Promise<T>, life: Life | undefined): Promise<T | 'died'>;
  async run<T>(work: Promise<T>, life?: Life): Promise<T | 'died'> {
    let state: 'working' | 'over' = 'working';
    const over = (): boolean => state === 'over';
    const end = (): void => void (state = 'over');
    const ended = work.then(end, end);
    for (let idle = 0; !over(); idle += 1) {
      if (this.#busy > 0) {
        await Promise.race([this.#quiet(), ended]);
        idle = 0;
      }
      await settled();
      if (this.#busy > 0 || over()) continue;
      if (life?.dead === true) return 'died';
      if (this.clock.wakesAt !== undefined) {
        await this.clock.advance(this.clock.wakesAt - this.clock.now());
        idle = 0;
      } else if (idle > 2_000) throw new Error('Nothing moves any more.');
    }
    return work;
  }

  /** Resolves when no port is at work. */
  #quiet(): Promise<void> {
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  /** Time passes for everybody. */
  async pass(milliseconds: number): Promise<void> {
    await this.run(this.clock.sleep(milliseconds));
  }

  /**
   * Delivers until that time whatever is ready, several batches at once. Looks when a message has become ready, and
   * after `pause` milliseconds in any case.
   */
  async keepDelivering(bench: Bench, until: number, pause: number): Promise<void> {
    const running = new Set<Promise<void>>();
    for (let now = this.clock.now(); now < until; now = this.clock.now()) {
      for (let batch = this.broker.nextBatch(); batch !== undefined; batch = this.broker.nextBatch()) {
        const run = consume(bench.rt, batch).then(batch.end);
        running.add(run);
        void run.finally(() => running.delete(run));
      }
      await this.clock.sleep(Math.max(1_000, Math.min(until, now + pause, this.broker.readyAt) - now));
    }
    await Promise.all(running);
  }

  /** Delivers all messages that are there now, in batches as the platform would, to one isolate. Returns how many. */
  async deliver(bench: Bench, life?: Life): Promise<number | 'died'> {
    let delivered = 0;
    for (;;) {
      const batch = this.broker.nextBatch();
      if (batch === undefined) return delivered;
      delivered += batch.messages.length;
      if ((await this.run(consume(bench.rt, batch), life)) === 'died') {
        batch.lost();
        return 'died';
      }
      batch.end();
    }
  }
}

interface Held {
  readonly queue: string;
  readonly envelope: Envelope;
  readonly sentAt: number;
  /** Infinity while a consumer has it. */
  readyAt: number;
  deliveries: number;
}

/** A queue service in virtual time. It applies what a consumer says of its messages when the batch has ended. */
export class Broker implements Queues {
  /** The id of every message that was ever taken, in order. */
  readonly taken: string[] = [];
  readonly #clock: HeldClock;
  readonly #held = new Set<Held>();

  constructor(clock: HeldClock) {
    this.#clock = clock;
  }

  send(queue: string, messages: readonly Outgoing[]): Promise<void> {
    const sentAt = this.#clock.now();
    for (const { envelope, delaySeconds } of messages) {
      this.taken.push(envelope.id);
      // As it comes out of a real queue: through JSON.
      const copy = JSON.parse(JSON.stringify(envelope)) as Envelope;
      this.#held.add({ queue, envelope: copy, sentAt, readyAt: sentAt + delaySeconds * 1_000, deliveries: 0 });
    }
    return Promise.resolve();
  }

  backlog(queue: string): Promise<Backlog> {
    const held = [...this.#held].filter((each) => each.queue === queue);
    const oldestSentAt = held.reduce<number | undefined>(
      (oldest, { sentAt }) => Math.min(oldest ?? sentAt, sentAt),
      undefined,
    );
    return Promise.resolve({ count: held.length, oldestSentAt });
  }

  /** Messages held, whether or not their time has come. */
  get size(): number {
    return this.#held.size;
  }

  /** When the next message is ready; Infinity where there is none, or all are with a consumer. */
  get readyAt(): number {
    return [...this.#held].reduce((first, { readyAt }) => Math.min(first, readyAt), Infinity);
  }

  /** Takes out everything it holds, for a test that delivers by itself. */
  takeAll(): readonly Envelope[] {
    const envelopes = [...this.#held].map(({ envelope }) => envelope);
    this.#held.clear();
    return envelopes;
  }

  /** The queue forgets the delays of those for which `which` says so. */
  forgetDelays(which: () => boolean): void {
    const now = this.#clock.now();
    for (const held of this.#held) if (held.readyAt < Infinity && which()) held.readyAt = Math.min(held.readyAt, now);
  }

  /** The queue loses everything it holds. */
  lose(): void {
    this.#held.clear();
  }

  /** What a consumer of the first queue with ready messages is given; undefined where nothing is ready. */
  nextBatch(): { queue: string; messages: readonly IncomingMessage[]; end: () => void; lost: () => void } | undefined {
    const ready = [...this.#held].filter(({ readyAt }) => readyAt <= this.#clock.now());
    const queue = ready[0]?.queue;
    if (queue === undefined) return undefined;
    const role = roleOf(queue);
    const batch = ready.filter((each) => each.queue === queue).slice(0, role && QUEUES[role.queue].batchSize);
    const answers = new Map<Held, 'ack' | number>();
    const answer = (held: Held, said: 'ack' | number): void => {
      if (answers.has(held)) throw new Error('A message was answered twice.');
      answers.set(held, said);
    };
    const messages = batch.map((held, at): IncomingMessage => {
      held.deliveries += 1;
      held.readyAt = Infinity;
      return {
        id: `message-${String(at)}`,
        timestamp: new Date(held.sentAt),
        body: held.envelope,
        attempts: held.deliveries,
        ack: () => {
          answer(held, 'ack');
        },
        retry: (options) => {
          answer(held, (options?.delaySeconds ?? 0) * 1_000);
        },
      };
    });
    const end = (): void => {
      for (const held of batch) {
        const said = answers.get(held);
        if (said === undefined) throw new Error('A message was not answered.');
        if (said === 'ack') this.#held.delete(held);
        else held.readyAt = this.#clock.now() + said;
      }
    };
    // Whatever it said of its messages dies with the isolate.
    const lost = (): void => {
      for (const held of batch) held.readyAt = this.#clock.now();
    };
    return { queue, messages, end, lost };
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}

/** Tries `attempt` with a death at every call it makes, in every way to die; at least `least` calls. */
export async function dieEverywhere(least: number, attempt: (life: Life, at: string) => Promise<void>): Promise<void> {
  for (const death of DEATHS) {
    for (let call = 1; ; call += 1) {
      await emptyDatabase();
      const life = new Life(call, death);
      await attempt(life, `${death} call ${String(call)}`);
      if (life.dead) continue;
      expect(life.calls).toBeGreaterThanOrEqual(least);
      break;
    }
  }
}
