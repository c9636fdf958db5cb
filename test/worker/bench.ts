// The test bench of the engine: real D1, real Durable Objects; time, chance and the broker are in the test's hands.

import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import type { Envelope } from '../../src/core/envelope.ts';
import { DatabaseError } from '../../src/core/ports.ts';
import type {
  Answer,
  Clock,
  Database,
  Inputs,
  Outgoing,
  Queues,
  Randomness,
  Results,
  Statement,
} from '../../src/core/ports.ts';
import type { RateLimiter } from '../../src/durable/rate-limiter.ts';
import type { SemaphoreObject } from '../../src/durable/semaphore.ts';
import type { WatchdogObject } from '../../src/durable/watchdog.ts';
import type { Env } from '../../src/env.ts';
import { consume, type IncomingMessage } from '../../src/consumers/batch.ts';
import { submit, type Accepted } from '../../src/jobs/enqueue.ts';
import { findJob } from '../../src/jobs/inspect.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { readCall } from '../../src/jobs/request.ts';
import { createIsolate, createRuntime, type Runtime, type Watchdog } from '../../src/jobs/runtime.ts';
import type { CodeSchedule } from '../../src/jobs/schedule.ts';
import type { Task } from '../../src/jobs/task.ts';
import type { JobRow } from '../../src/store/rows.ts';
import { d1Database, type StatementCounts } from '../../src/store/d1.ts';
import { debugTasks, tasks } from '../../src/tasks/index.ts';
import type { Json } from '../../src/core/json.ts';
import { mulberry32 } from '../mulberry32.ts';

/** Time stands still until the test moves it; whoever sleeps past that moment wakes in order. */
export class HeldClock implements Clock {
  #now: number;
  #sleepers: { at: number; wake: () => void }[] = [];

  constructor(now: number) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const sleeper = { at: this.#now + milliseconds, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter((each) => each !== sleeper);
        resolve();
      });
    });
  }

  /** When the next sleeper wakes; undefined where nobody sleeps. */
  get wakesAt(): number | undefined {
    return this.#sleepers.reduce<number | undefined>((first, { at }) => Math.min(first ?? at, at), undefined);
  }

  /** Moves time and wakes, in order, everybody whose moment has come. */
  async advance(milliseconds: number): Promise<void> {
    const until = this.#now + milliseconds;
    for (;;) {
      const [next] = this.#sleepers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#sleepers = this.#sleepers.filter((each) => each !== next);
      this.#now = Math.max(this.#now, next.at);
      next.wake();
      await settled();
    }
    this.#now = until;
    await settled();
  }

  get sleeping(): number {
    return this.#sleepers.length;
  }
}

/** Lets everything run that is not waiting for time: bindings answer within a few turns of the event loop. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setTimeout(resolve, 0));
}

/** Lets a held clock go on until `work` is over. */
export async function untilOver<T>(clock: HeldClock, work: Promise<T>): Promise<T> {
  let over = false;
  const end = (): void => void (over = true);
  work.then(end, end);
  while (!(over as boolean)) await clock.advance(1_000);
  return work;
}

/** How long a second of a deadline takes: bindings that are there must answer within it, however busy the machine. */
const DEADLINE_SECOND_MS = 25;
/** And how long a deadline takes at least, however short it is. */
const SHORTEST_DEADLINE_MS = 100;
/** The longest deadline of a binding. */
const LONGEST_DEADLINE_MS = 10_000;

/**
 * Time that passes by itself, a thousand times as fast as ours, but only while somebody sleeps; what can be called off,
 * as the deadline of a binding is when it answers, takes longer.
 */
export class FastClock implements Clock {
  #now: number;

  constructor(now: number) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  set(now: number): void {
    this.#now = now;
  }

  async sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    const until = this.#now + milliseconds;
    const turns = Math.max(1, Math.ceil(milliseconds / 1_000));
    const isDeadline = signal !== undefined && milliseconds >= 1_000 && milliseconds <= LONGEST_DEADLINE_MS;
    const turnMs = isDeadline ? Math.max(DEADLINE_SECOND_MS, SHORTEST_DEADLINE_MS / turns) : 1;
    for (let turn = 0; turn < turns; turn += 1) {
      if (signal?.aborted === true) return;
      await new Promise((resolve) => setTimeout(resolve, turnMs));
    }
    if (signal?.aborted !== true) this.#now = Math.max(this.#now, until);
  }
}

export function seeded(seed: number): Randomness {
  const next = mulberry32(seed);
  return { fraction: next, bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(next() * 256)) };
}

/** Keeps what it is given until the test delivers it. */
export class HeldQueues implements Queues {
  readonly sent: Outgoing[] = [];
  /** Number of `send` calls. */
  sends = 0;
  /** What the next sends do instead. */
  fault: 'none' | 'refuse' | 'hang' = 'none';
  backlogs: Record<string, { count: number; oldestSentAt: number | undefined }> = {};

  async send(_queue: string, messages: readonly Outgoing[]): Promise<void> {
    this.sends += 1;
    if (this.fault === 'refuse') throw new Error('Queue send failed: Too Many Requests');
    if (this.fault === 'hang') await new Promise(() => undefined);
    this.sent.push(...messages);
  }

  backlog(queue: string): Promise<{ count: number; oldestSentAt: number | undefined }> {
    return Promise.resolve(this.backlogs[queue] ?? { count: 0, oldestSentAt: undefined });
  }

  take(): Outgoing[] {
    return this.sent.splice(0);
  }
}

/** A database that fails where the test says so, before or after the statement took effect. */
export class FaultyDatabase implements Database {
  readonly #inner: Database;
  /** Asked for each call; throws what it returns. */
  fault: (names: string) => { when: 'before' | 'after'; error: Error } | 'hang' | undefined = () => undefined;

  constructor(inner: Database) {
    this.#inner = inner;
  }

  async run(statement: Statement): Promise<Answer> {
    return this.#through(statement.name, () => this.#inner.run(statement));
  }

  async batch(statements: readonly Statement[]): Promise<readonly Answer[]> {
    return this.#through(statements.map(({ name }) => name).join('+'), () => this.#inner.batch(statements));
  }

  async #through<T>(names: string, call: () => Promise<T>): Promise<T> {
    const fault = this.fault(names);
    if (fault === 'hang') return new Promise(() => undefined);
    if (fault?.when === 'before') throw fault.error;
    const answer = await call();
    if (fault?.when === 'after') throw fault.error;
    return answer;
  }
}

/** A binding or a port whose every method goes through `through`. */
export function passing<T extends object>(inner: T, through: (call: () => Promise<unknown>) => Promise<unknown>): T {
  return new Proxy(inner, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => through(async () => (await Reflect.apply(member, target, args)) as unknown);
    },
  });
}

// Rate limits and locks begin anew with every empty database.
let life = 0;

/** The name of the object of a rate limit or a lock, as the bench calls it. */
export function nameInLife(name: string): string {
  return `${String(life)} ${name}`;
}

/** Ports to Durable Objects that have clocks of their own, which keep the test's time. */
function onClock<T extends object>(
  inner: T,
  objects: DurableObjectNamespace<RateLimiter> | DurableObjectNamespace<SemaphoreObject>,
  clock: Clock,
): T {
  return new Proxy(inner, {
    get: (target, member) => {
      const call = Reflect.get(target, member) as (...args: unknown[]) => Promise<unknown>;
      return async (name: string, ...args: unknown[]) => {
        const ours = nameInLife(name);
        await runInDurableObject(objects.getByName(ours) as DurableObjectStub<RateLimiter>, (object: RateLimiter) => {
          object.clock = clock;
        });
        return call.call(target, ours, ...args);
      };
    },
  });
}

/** The watchdog of this life, which keeps the test's time: it barks when the test lets its alarm fire. */
function watchdogOn(watchdogs: DurableObjectNamespace<WatchdogObject>, clock: Clock): Watchdog {
  const call = async <T>(ask: (stub: DurableObjectStub<WatchdogObject>) => Promise<T>): Promise<T> => {
    const stub = watchdogs.getByName(nameInLife('watchdog'));
    await runInDurableObject(stub, (object: WatchdogObject) => {
      object.clock = clock;
    });
    return ask(stub);
  };
  return { beat: () => call(async (stub) => stub.beat()), lastBeatAt: () => call(async (stub) => stub.lastBeatAt()) };
}

/** A place for large payloads that fails where the test says so, before anything took effect. */
function faultyStore<Store extends Inputs | Results>(inner: Store, faultOf: () => 'none' | 'fail' | 'hang'): Store {
  return passing(inner, async (call) => {
    const fault = faultOf();
    if (fault === 'hang') return new Promise(() => undefined);
    if (fault === 'fail') throw new Error('10001: We encountered an internal error. Please try again.');
    return call();
  });
}

export interface Settled {
  readonly id: string;
  readonly answer: 'ack' | { readonly delaySeconds: number } | 'nothing';
}

type Setting =
  | 'DATABASE_LIMIT_MB'
  | 'CALLBACK_SIGNING_SECRET'
  | 'CALLBACK_SIGNING_SECRET_PREVIOUS'
  | 'CALLBACK_ALLOW_HOSTS'
  | 'DOH_URL';

/** One isolate's view of the product, on the bindings of the test's Worker. */
export class Bench {
  readonly clock: HeldClock | FastClock;
  readonly queues = new HeldQueues();
  readonly counts: StatementCounts = new Map();
  readonly db: FaultyDatabase;
  readonly rt: Runtime;
  /** What R2 and KV do with whatever they are asked. */
  readonly stores: { inputs: 'none' | 'fail' | 'hang'; results: 'none' | 'fail' | 'hang' } = {
    inputs: 'none',
    results: 'none',
  };
  readonly #background: Promise<unknown>[] = [];

  /** `ports`: what stands between the engine and its ports, given the runtime as it would be. */
  constructor(
    options: {
      tasks?: readonly Task[];
      /** None of the code's, so that no tick fires what a test knows nothing of. */
      schedules?: readonly CodeSchedule[];
      clock?: HeldClock | FastClock;
      idleRepairs?: boolean;
      settings?: Partial<Pick<Env, Setting>>;
      ports?: (rt: Runtime) => Partial<Runtime>;
    } = {},
  ) {
    this.clock = options.clock ?? new FastClock(START);
    // The bindings of wrangler.toml; the test types know only some of them.
    const bindings = { ...(env as unknown as Env), ...options.settings };
    const registry = createRegistry([...tasks, ...debugTasks, ...(options.tasks ?? [])]);
    const isolate = createIsolate();
    this.db = new FaultyDatabase(d1Database(bindings.DB, this.counts, isolate.size));
    const platform = createRuntime(
      bindings,
      { waitUntil: () => undefined },
      registry,
      isolate,
      options.schedules ?? [],
    );
    const rt = {
      ...platform,
      db: this.db,
      inputs: faultyStore(platform.inputs, () => this.stores.inputs),
      results: faultyStore(platform.results, () => this.stores.results),
      queues: this.queues,
      clock: this.clock,
      rates: onClock(platform.rates, bindings.RATE_LIMITER, this.clock),
      locks: onClock(platform.locks, bindings.SEMAPHORE, this.clock),
      watchdog: watchdogOn(bindings.WATCHDOG, this.clock),
      random: seeded(nextSeed()),
      waitUntil: (promise: Promise<unknown>) => void this.#background.push(promise),
    };
    this.rt = { ...rt, ...options.ports?.(rt) };
    if (options.idleRepairs !== true) this.rt.isolate.idleRepairAt = Number.MAX_SAFE_INTEGER;
  }

  /** Enqueues a call as the API takes it; throws where it is refused. */
  async enqueue(call: Json): Promise<Accepted> {
    const request = readCall(this.rt.registry, call);
    if (!request.ok) throw new Error(JSON.stringify(request.faults));
    const enqueued = await submit(this.rt, request.value, { owner: 'test', source: 'test' });
    if (enqueued.kind !== 'accepted') throw new Error(enqueued.kind);
    return enqueued;
  }

  /** Delivers envelopes to a queue's consumer as one batch; says what became of each message. */
  async deliver(
    envelopes: readonly unknown[],
    { queue = 'default', attempts = 1 }: { queue?: string; attempts?: number } = {},
  ): Promise<readonly Settled[]> {
    const answers: Settled['answer'][] = envelopes.map(() => 'nothing');
    const messages = envelopes.map((body, at): IncomingMessage => {
      const once = (answer: Settled['answer']): void => {
        if (answers[at] !== 'nothing') throw new Error('A message was answered twice.');
        answers[at] = answer;
      };
      return {
        id: `message-${String(at)}`,
        timestamp: new Date(this.clock.now()),
        // As it comes out of a real queue: through JSON.
        body: JSON.parse(JSON.stringify(body)) as unknown,
        attempts,
        ack: () => {
          once('ack');
        },
        retry: (options) => {
          once({ delaySeconds: options?.delaySeconds ?? 0 });
        },
      };
    });
    await consume(this.rt, { queue, messages });
    return answers.map((answer, at) => ({ id: (envelopes[at] as Partial<Envelope> | null)?.id ?? '', answer }));
  }

  /** Delivers everything that was sent, batch by batch as it was sent, until nothing is left. */
  async drain(): Promise<readonly Settled[]> {
    const settlements: Settled[] = [];
    for (let outgoing = this.queues.take(); outgoing.length > 0; outgoing = this.queues.take()) {
      for (const queue of new Set(outgoing.map(({ envelope }) => envelope.queue))) {
        const batch = outgoing.filter(({ envelope }) => envelope.queue === queue).map(({ envelope }) => envelope);
        settlements.push(...(await this.deliver(batch, { queue })));
      }
    }
    return settlements;
  }

  async job(id: string): Promise<JobRow> {
    const job = await findJob(this.rt, id);
    if (job === undefined) throw new Error(`There is no job ${id}.`);
    return job;
  }

  /** Statements sent so far under each of these names, together. */
  statements(...names: string[]): number {
    return names.reduce((sum, name) => sum + (this.counts.get(name)?.statements ?? 0), 0);
  }

  rowsWritten(): number {
    return [...this.counts.values()].reduce((sum, { rowsWritten }) => sum + rowsWritten, 0);
  }

  /** Waits for what was promised after an answer. */
  async background(): Promise<void> {
    await Promise.all(this.#background.splice(0));
  }
}

/** A Monday far ahead: Durable Objects fire their alarms by the real clock, and none of these may be due. */
export const START = Date.UTC(2040, 0, 2, 12);

/** No row of any test before, and no object. */
export async function emptyDatabase(): Promise<void> {
  life += 1;
  const tables = [
    'jobs',
    'dead_letters',
    'marks',
    'debug_effects',
    'deliveries',
    'uses',
    'queue_controls',
    'audit_log',
    'schedules',
    'firings',
    'alerts',
  ];
  await env.DB.batch(tables.map((table) => env.DB.prepare(`DELETE FROM ${table}`)));
  const { OBJECTS } = env as unknown as Env;
  const { objects } = await OBJECTS.list();
  if (objects.length > 0) await OBJECTS.delete(objects.map(({ key }) => key));
}

/** What the database port rejects with when nobody knows whether a statement took effect. */
export function outage(): Error {
  return new DatabaseError('outage', 'Network connection lost');
}

let seed = 0;

function nextSeed(): number {
  seed += 1;
  return seed;
}
