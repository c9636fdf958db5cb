// The ports of one invocation: every call takes its time, may fail in every way, and may be the last its isolate makes.

import { z } from 'zod';
import { LINE_PAGE, STATEMENT_DEADLINE_MS } from '../../../src/core/limits.ts';
import { DatabaseError } from '../../../src/core/ports.ts';
import type { Answer, Clock, Database, Inputs, Queues, Results, Statement } from '../../../src/core/ports.ts';
import type { LockTable } from '../../../src/durable/lock-table.ts';
import type { Locks, Rates, Replay, Runtime, Streams, Watchdog } from '../../../src/jobs/runtime.ts';
import { DATABASE, LIMITS, PAYLOADS, REPLAY, SENDS, STREAMS, type FarSide } from './faults.ts';
import type { Invocation } from './machines.ts';
import type { World } from './world.ts';

type Ports = Pick<
  Runtime,
  'db' | 'queues' | 'inputs' | 'results' | 'clock' | 'random' | 'replay' | 'rates' | 'locks' | 'streams' | 'watchdog'
>;

export function portsOf(world: World, caller: Invocation): Ports {
  return {
    db: databaseOf(world, caller),
    queues: queuesOf(world, caller),
    inputs: inputsOf(world, caller),
    results: resultsOf(world, caller),
    clock: clockOf(world, caller),
    random: world.random,
    replay: replayOf(world, caller),
    rates: ratesOf(world, caller),
    locks: locksOf(world, caller),
    streams: streamsOf(world, caller),
    watchdog: watchdogOf(world, caller),
  };
}

interface Call<T> {
  readonly side: FarSide;
  readonly name: string;
  readonly jobs: () => readonly string[];
  /** What happens on the far side, whether or not anybody still waits for it. */
  readonly effect: () => T;
  readonly failure: () => Error;
  readonly received?: (value: T) => void;
}

function remote<T>(world: World, caller: Invocation, call: Call<T>): Promise<T> {
  const { isolate } = caller;
  const { timeline, faults } = world;
  const note = (what: string): void => {
    world.note(call.jobs, () => `${isolate.name} ${caller.name} ${call.name} ${what}`);
  };
  return new Promise((resolve, reject) => {
    if (!caller.alive) return;
    if (faults.strikes('crash.before')) {
      note('never leaves: the isolate dies');
      isolate.die();
      return;
    }
    if (faults.strikes('call.cancelled')) {
      note('never leaves: the call is cancelled');
      caller.cancel();
      return;
    }
    const dies = faults.strikes('crash.after');
    const fate = faults.fateOf(call.side, timeline.now);
    const stall = fate === 'stall' ? world.random.between(10_000, 80_000) : 0;
    const there = world.latency() + (world.random.chance(0.5) ? stall : 0);
    const back = world.latency() + (there > stall ? 0 : stall);
    const answer = (settle: () => void): void => {
      if (dies) isolate.die();
      caller.after(back, settle);
    };
    const take = (): Done<T> => {
      const done = attempt(call.effect);
      note(done.ok ? 'takes effect' : `is refused: ${done.error.message}`);
      return done;
    };
    note(`is sent (${fate}${dies ? ', the isolate dies of the answer' : ''})`);
    if (fate === 'hang') return;
    timeline.after(there, () => {
      if (fate === 'late') timeline.after(world.random.between(1_000, 80_000), take);
      if (fate === 'error' || fate === 'late') {
        answer(() => {
          note('fails');
          reject(call.failure());
        });
        return;
      }
      const done = take();
      if (fate === 'hang-after') return;
      answer(() => {
        if (!done.ok) reject(done.error);
        else if (fate === 'lied') reject(call.failure());
        else {
          call.received?.(done.value);
          resolve(done.value);
        }
      });
    });
  });
}

type Done<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Error };

function attempt<T>(effect: () => T): Done<T> {
  try {
    return { ok: true, value: effect() };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error : new Error(String(error)) };
  }
}

function databaseOf(world: World, caller: Invocation): Database {
  const commit = (statements: readonly Statement[]): Promise<readonly Answer[]> => {
    const sentAt = world.timeline.now;
    const name = statements.map((each) => each.name).join('+');
    return remote(world, caller, {
      side: DATABASE,
      name,
      jobs: () => world.ledger.idsIn(statements),
      effect: () => world.commit(statements, caller),
      failure: () => new DatabaseError('outage', `${name}: Network connection lost.`),
      received: (answers) => {
        const { now } = world.timeline;
        statements.forEach(({ name: of, params }, at) => {
          if (of !== 'claim') return;
          for (const { id, claim } of answers[at]?.rows ?? []) caller.won.set(String(id), Number(claim));
          if (now - sentAt < STATEMENT_DEADLINE_MS) for (const id of idsOf(params[0])) caller.answered.set(id, now);
        });
      },
    });
  };
  return {
    async run(statement) {
      const [answer] = await commit([statement]);
      if (answer === undefined) throw new Error('A statement has an answer.');
      return answer;
    },
    batch: commit,
  };
}

function idsOf(json: unknown): readonly string[] {
  return z.array(z.string()).parse(JSON.parse(String(json)));
}

function queuesOf(world: World, caller: Invocation): Queues {
  const failure = (): Error => new Error('Queue send failed: Too Many Requests');
  return {
    send: (queue, messages) =>
      remote(world, caller, {
        side: SENDS,
        name: `send to ${queue}`,
        jobs: () => messages.map(({ envelope: { id } }) => id),
        effect: () => {
          world.broker.send(queue, messages);
        },
        failure,
      }),
    backlog: (queue) =>
      remote(world, caller, {
        side: SENDS,
        name: `backlog of ${queue}`,
        jobs: () => [],
        effect: () => world.broker.backlog(queue),
        failure,
      }),
  };
}

function replayOf(world: World, caller: Invocation): Replay {
  return {
    claim: (scope, claim) =>
      remote(world, caller, {
        side: REPLAY,
        name: `replay guard ${claim.token}`,
        jobs: () => [claim.jobId],
        effect: () => world.stores.claim(scope, claim),
        failure: () => new Error('The Durable Object was reset.'),
      }),
    move: (scope, move) =>
      remote(world, caller, {
        side: REPLAY,
        name: `replay guard ${move.token} moves`,
        jobs: () => [move.from, move.to],
        effect: () => world.stores.move(scope, move),
        failure: () => new Error('The Durable Object was reset.'),
      }),
    find: () => Promise.reject(new Error('No task of the simulator asks which tokens are claimed.')),
  };
}

function ratesOf(world: World, caller: Invocation): Rates {
  const call = <T>(name: string, jobs: readonly string[], effect: () => T): Promise<T> =>
    remote(world, caller, { side: LIMITS, name, jobs: () => jobs, effect, failure: reset });
  const { limits, timeline } = world;
  return {
    reserve: (name, rate, asks) =>
      call(
        `reserve of ${name}`,
        asks.map(({ job }) => job),
        () => limits.window(name).reserve(rate, asks, timeline.now),
      ),
    settle: (name, rate, started, returned) =>
      call(`settle of ${name}`, [], () => {
        limits.window(name).settle(rate, started, returned, timeline.now);
      }),
    hold: (name, forMs) =>
      call(`hold of ${name}`, [], () => {
        limits.window(name).hold(timeline.now + forMs);
      }),
  };
}

function locksOf(world: World, caller: Invocation): Locks {
  const call = <T>(
    what: string,
    name: string,
    jobs: readonly string[],
    use: (table: LockTable, now: number) => T,
  ): Promise<T> =>
    remote(world, caller, {
      side: LIMITS,
      name: `${what} of ${name}`,
      jobs: () => jobs,
      effect: () => world.limits.withLock(name, (table) => use(table, world.timeline.now)),
      failure: reset,
    });
  return {
    acquire: (name, limit, token, asks) => {
      const jobs = asks.map(({ job }) => job);
      return call('acquire', name, jobs, (table, now) => table.acquire(limit, token, asks, now));
    },
    take: (name, limit, token, ask) =>
      call('take', name, [ask.job], (table, now) => table.take(limit, token, ask, now)),
    renew: (name, token, jobs) => call('renew', name, jobs, (table, now) => table.renew(token, jobs, now)),
    release: (name, token, jobs) => call('release', name, jobs, (table, now) => table.release(token, jobs, now)),
    line: (name) => call('line', name, [], (table) => table.line(LINE_PAGE)),
    leave: (name, jobs) => call('leave', name, jobs, (table, now) => table.leave(jobs, now)),
    standing: () => Promise.reject(new Error('No task of the simulator asks how a lock stands.')),
  };
}

const reset = (): Error => new Error('The Durable Object was reset.');

function streamsOf(world: World, caller: Invocation): Streams {
  const nobody = (): Promise<never> => Promise.reject(new Error('Nobody of the simulator watches a job.'));
  return {
    append: (jobId, batch) =>
      remote(world, caller, {
        side: STREAMS,
        name: `stream ${String(batch.generation)} of ${jobId}`,
        jobs: () => [jobId],
        effect: () => world.stores.append(jobId, batch),
        failure: () => new Error('The Durable Object was reset.'),
      }),
    read: nobody,
    latest: nobody,
  };
}

function watchdogOf(world: World, caller: Invocation): Watchdog {
  return {
    beat: () =>
      remote(world, caller, {
        side: LIMITS,
        name: 'beat',
        jobs: () => [],
        effect: () => world.watchdog.beat(),
        failure: reset,
      }),
    lastBeatAt: () => Promise.reject(new Error('Nobody of the simulator asks when the trigger ticked last.')),
  };
}

function inputsOf(world: World, caller: Invocation): Inputs {
  const call = <T>(name: string, effect: () => T): Promise<T> =>
    remote(world, caller, { side: PAYLOADS, name, jobs: () => [], effect, failure: () => new Error('R2: 10001') });
  const { inputs } = world.stores;
  return {
    put: (key, text, keptAt) => call(`put ${key}`, () => void inputs.set(key, { text, keptAt })),
    get: (key) => call(`get ${key}`, () => inputs.get(key)?.text),
    remove: (keys) =>
      call('remove inputs', () => {
        for (const key of keys) inputs.delete(key);
      }),
    list: (cursor) => call('list inputs', () => world.stores.listInputs(cursor)),
  };
}

function resultsOf(world: World, caller: Invocation): Results {
  const call = <T>(name: string, effect: () => T): Promise<T> =>
    remote(world, caller, { side: PAYLOADS, name, jobs: () => [], effect, failure: () => new Error('KV: 429') });
  const { results } = world.stores;
  return {
    put: (key, text, ttlSeconds) =>
      call(`put ${key}`, () => void results.set(key, { text, until: world.timeline.now + ttlSeconds * 1_000 })),
    get: (key) =>
      call(`get ${key}`, () => {
        const kept = results.get(key);
        return kept !== undefined && kept.until > world.timeline.now ? kept.text : undefined;
      }),
    remove: (key) => call(`remove ${key}`, () => void results.delete(key)),
  };
}

function clockOf({ timeline }: World, caller: Invocation): Clock {
  return {
    now: () => timeline.now + caller.isolate.skew,
    sleep: (milliseconds, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted === true) {
          resolve();
          return;
        }
        const timer = caller.after(milliseconds, resolve);
        signal?.addEventListener('abort', () => {
          timer.run = undefined;
          resolve();
        });
      }),
  };
}
