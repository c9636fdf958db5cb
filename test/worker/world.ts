// A world in virtual time: isolates that may die at any call, ports that may fail at any moment, and a queue service
// that delivers again what was not answered. Time passes only while no port is at work, so a slow machine is no outage.

import type { Envelope } from '../../src/core/envelope.ts';
import type { Backlog, Outgoing, Queues } from '../../src/core/ports.ts';
import { consume, type IncomingMessage } from '../../src/consumers/batch.ts';
import type { Runtime } from '../../src/jobs/runtime.ts';
import type { Task } from '../../src/jobs/task.ts';
import { roleOf, QUEUES } from '../../src/queues.ts';
import { Bench, HeldClock, outage, settled, START } from './bench.ts';

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

export class World {
  readonly clock: HeldClock;
  readonly broker: Broker;
  #busy = 0;

  constructor(now = START) {
    this.clock = new HeldClock(now);
    this.broker = new Broker(this.clock);
  }

  /** A new isolate. `fault` is asked for each call: names of statements joined by "+", or the name of another port. */
  isolate(options: { tasks?: readonly Task[]; life?: Life; fault?: (call: string) => Fate } = {}): Bench {
    const { tasks = [], life, fault = () => 'answered' } = options;
    const through = async <T>(name: string, error: () => Error, call: () => Promise<T>): Promise<T> => {
      const mortal = life?.next() ?? 'answered';
      const answer = await this.#meet(mortal === 'answered' ? fault(name) : mortal, error, call);
      return life?.dead === true ? never() : answer;
    };
    const queueError = (): Error => new Error('Queue send failed: Too Many Requests');
    const otherError = (): Error => new Error('Network connection lost');
    const ports = (rt: Runtime): Partial<Runtime> => ({
      db: {
        run: (statement) => through(statement.name, outage, () => rt.db.run(statement)),
        batch: (statements) =>
          through(statements.map(({ name }) => name).join('+'), outage, () => rt.db.batch(statements)),
      },
      queues: {
        send: (queue, messages) => through('send', queueError, () => this.broker.send(queue, messages)),
        backlog: (queue) => through('backlog', queueError, () => this.broker.backlog(queue)),
      },
      inputs: {
        put: (...args) => through('put input', otherError, () => rt.inputs.put(...args)),
        get: (...args) => through('get input', otherError, () => rt.inputs.get(...args)),
        remove: (...args) => through('remove input', otherError, () => rt.inputs.remove(...args)),
        list: (...args) => through('list inputs', otherError, () => rt.inputs.list(...args)),
      },
      results: {
        put: (...args) => through('put result', otherError, () => rt.results.put(...args)),
        get: (...args) => through('get result', otherError, () => rt.results.get(...args)),
        remove: (...args) => through('remove result', otherError, () => rt.results.remove(...args)),
      },
      replay: { claim: (...args) => through('replay', otherError, () => rt.replay.claim(...args)) },
      clock: {
        now: () => this.clock.now(),
        sleep: async (milliseconds, signal) => {
          await this.clock.sleep(milliseconds, signal);
          if (life?.dead === true) await never();
        },
      },
    });
    return new Bench({ tasks, clock: this.clock, ports });
  }

  async #meet<T>(fate: Fate, error: () => Error, call: () => Promise<T>): Promise<T> {
    switch (fate) {
      case 'answered':
        return this.#counted(call);
      case 'refused':
        throw error();
      case 'done, refused':
        await this.#counted(call);
        throw error();
      case 'silent':
        return never();
      case 'done, silent':
        await this.#counted(call);
        return never();
    }
  }

  async #counted<T>(call: () => Promise<T>): Promise<T> {
    this.#busy += 1;
    try {
      return await call();
    } finally {
      this.#busy -= 1;
    }
  }

  /** Lets time pass until `work` is over; 'died' where the life that does it ended first. */
  async run<T>(work: Promise<T>): Promise<T>;
  async run<T>(work: Promise<T>, life: Life | undefined): Promise<T | 'died'>;
  async run<T>(work: Promise<T>, life?: Life): Promise<T | 'died'> {
    const state = { over: false };
    const end = (): void => void (state.over = true);
    work.then(end, end);
    for (let idle = 0; !state.over; idle += 1) {
      await settled();
      if (this.#busy > 0) idle = 0;
      else if (life?.dead === true) return 'died';
      else if (this.clock.wakesAt !== undefined) {
        await this.clock.advance(this.clock.wakesAt - this.clock.now());
        idle = 0;
      } else if (idle > 2_000) throw new Error('Nothing moves any more.');
    }
    return work;
  }

  /** Time passes for everybody. */
  async pass(milliseconds: number): Promise<void> {
    await this.run(this.clock.sleep(milliseconds));
  }

  /** Delivers all messages that are there now, in batches as the platform would, to one isolate. Returns how many. */
  async deliver(bench: Bench, life?: Life): Promise<number | 'died'> {
    let delivered = 0;
    for (;;) {
      const batch = this.broker.nextBatch();
      if (batch === undefined) return delivered;
      delivered += batch.messages.length;
      if ((await this.run(consume(bench.rt, batch), life)) === 'died') return 'died';
      batch.end();
    }
  }
}

interface Held {
  readonly queue: string;
  readonly envelope: Envelope;
  readonly sentAt: number;
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

  /** The queue loses everything it holds. */
  lose(): void {
    this.#held.clear();
  }

  /** What a consumer of the first queue with ready messages is given; undefined where nothing is ready. */
  nextBatch(): { queue: string; messages: readonly IncomingMessage[]; end: () => void } | undefined {
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
    return { queue, messages, end };
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}
