// What the engine runs on: the ports, the tasks, and the little that an isolate remembers.

import type { Env } from '../env.ts';
import type { Clock, Database, Inputs, Queues, Randomness, Results } from '../core/ports.ts';
import { REPLAY_GUARD_SHARDS } from '../core/limits.ts';
import { shardOfText } from '../core/digest.ts';
import type { JobStream, Latest, StreamBatch, StreamLook, StreamPage } from '../durable/job-stream.ts';
import type { Rate } from '../core/rate.ts';
import type { LeaseAnswer, LeaseAsk } from '../durable/lock-table.ts';
import type { RateLimiter } from '../durable/rate-limiter.ts';
import type { StartAnswer, StartAsk } from '../durable/rate-window.ts';
import type {
  KnownToken,
  ReplayGuard,
  TokenAnswer,
  TokenClaim,
  TokenMove,
  TokenMoved,
} from '../durable/replay-guard.ts';
import type { SemaphoreObject } from '../durable/semaphore.ts';
import { systemClock } from '../durable/system-clock.ts';
import type { Beat, WatchdogObject } from '../durable/watchdog.ts';
import { platformQueues } from '../queues.ts';
import { d1Database, type DatabaseSize, type StatementCounts } from '../store/d1.ts';
import { kvResults, r2Inputs } from '../store/payloads.ts';
import { DelayBudget } from './delay-budget.ts';
import { DeliveryLog } from './delivery-log.ts';
import { Group } from './group.ts';
import type { Registry } from './registry.ts';
import type { CodeSchedule } from './schedule.ts';

/** What outlives a request within one isolate. */
export interface Isolate {
  readonly group: Group;
  readonly delays: DelayBudget;
  readonly counts: StatementCounts;
  readonly size: DatabaseSize;
  readonly deliveries: DeliveryLog;
  /** Tells this isolate from the one before a hot reload; made by the first tick, where randomness is allowed. */
  name: string | undefined;
  /** When a batch last looked after owed rows on its way out. */
  idleRepairAt: number;
}

/** The replay guard of one scope (a provider, a key owner, a unique task). Rejects where it cannot answer. */
export interface Replay {
  claim(scope: string, claim: TokenClaim): Promise<TokenAnswer>;
  /** Lets a token name another job, if it still names the one it is moved from. */
  move(scope: string, move: TokenMove): Promise<TokenMoved>;
  /** Those of the tokens that are claimed. Writes nothing. */
  find(scope: string, tokens: readonly string[], now: number): Promise<readonly KnownToken[]>;
}

/** Rate limits, each by its name. Rejects where one cannot answer. */
export interface Rates {
  reserve(name: string, rate: Rate, asks: readonly StartAsk[]): Promise<readonly StartAnswer[]>;
  settle(name: string, rate: Rate, started: readonly number[], returned: readonly number[]): Promise<void>;
  hold(name: string, forMs: number): Promise<void>;
}

/** Locks, each by its name; see {@link SemaphoreObject}. Rejects where one cannot answer. */
export interface Locks {
  acquire(
    name: string,
    limit: number,
    token: string,
    asks: readonly LeaseAsk[],
  ): Promise<{ readonly answers: readonly LeaseAnswer[]; readonly wake: readonly string[] }>;
  take(name: string, limit: number, token: string, ask: LeaseAsk): Promise<boolean>;
  renew(name: string, token: string, jobs: readonly string[]): Promise<readonly string[]>;
  release(name: string, token: string, jobs: readonly string[]): Promise<readonly string[]>;
  line(name: string): Promise<readonly string[]>;
  leave(name: string, jobs: readonly string[]): Promise<readonly string[]>;
  standing(name: string, job: string): Promise<{ readonly holders: readonly string[]; readonly ahead: number }>;
}

/** The live output of jobs, by their ids. Rejects where it cannot answer. */
export interface Streams {
  /** Safe to repeat. `stale`: a later attempt of the job has written; this one counts no more. */
  append(jobId: string, batch: StreamBatch): Promise<'kept' | 'stale'>;
  /** What comes after a place, in order; waits for it where there is nothing yet. */
  read(jobId: string, look: StreamLook): Promise<StreamPage>;
  /** The newest progress; undefined where none was told, or it is forgotten. */
  latest(jobId: string): Promise<Latest | undefined>;
}

/** What notices that the cron trigger has stopped; see {@link WatchdogObject}. Rejects where it cannot answer. */
export interface Watchdog {
  /** For every tick of the cron trigger itself, and for no other. */
  beat(): Promise<Beat>;
  /** When it ticked last, epoch ms; null where it never has. */
  lastBeatAt(): Promise<number | null>;
}

export interface Runtime {
  readonly db: Database;
  readonly queues: Queues;
  readonly inputs: Inputs;
  readonly results: Results;
  readonly clock: Clock;
  readonly random: Randomness;
  readonly replay: Replay;
  readonly rates: Rates;
  readonly locks: Locks;
  readonly streams: Streams;
  readonly watchdog: Watchdog;
  readonly registry: Registry;
  /** Those of the code. */
  readonly schedules: readonly CodeSchedule[];
  readonly isolate: Isolate;
  /** Handed on to tasks; the engine itself reads nothing from it. */
  readonly env: Env;
  /** Keeps what must end alive after the answer was given. */
  waitUntil(promise: Promise<unknown>): void;
}

export function createIsolate(): Isolate {
  return {
    group: new Group(),
    delays: new DelayBudget(),
    counts: new Map(),
    size: { bytes: 0 },
    deliveries: new DeliveryLog(),
    name: undefined,
    idleRepairAt: 0,
  };
}

/** Says the runtime of each invocation of this isolate. */
export function runtimesWith(
  registryFor: (env: Env) => Registry,
  schedules: readonly CodeSchedule[],
): (env: Env, context: Pick<ExecutionContext, 'waitUntil'>) => Runtime {
  const isolate = createIsolate();
  return (env, context) => createRuntime(env, context, registryFor(env), isolate, schedules);
}

/** The runtime of one invocation on real bindings. */
export function createRuntime(
  env: Env,
  context: Pick<ExecutionContext, 'waitUntil'>,
  registry: Registry,
  isolate: Isolate,
  schedules: readonly CodeSchedule[],
): Runtime {
  return {
    db: d1Database(env.DB, isolate.counts, isolate.size),
    queues: platformQueues(env),
    inputs: r2Inputs(env.OBJECTS),
    results: kvResults(env.RESULTS),
    clock: systemClock,
    random: systemRandomness,
    replay: {
      claim: async (scope, claim) => guardOf(env.REPLAY_GUARD, scope, shardOf(claim.token)).claim(claim),
      move: async (scope, move) => guardOf(env.REPLAY_GUARD, scope, shardOf(move.token)).move(move),
      find: async (scope, tokens, now) => {
        const shards = Map.groupBy(tokens, shardOf);
        const asked = [...shards].map(([shard, some]) => guardOf(env.REPLAY_GUARD, scope, shard).find(some, now));
        return (await Promise.all(asked)).flat();
      },
    },
    rates: ratesOn(env.RATE_LIMITER),
    locks: locksOn(env.SEMAPHORE),
    streams: {
      append: async (jobId, batch) => streamOf(env.JOB_STREAM, jobId).append(batch),
      read: async (jobId, look) => streamOf(env.JOB_STREAM, jobId).read(look),
      latest: async (jobId) => streamOf(env.JOB_STREAM, jobId).latest(),
    },
    watchdog: watchdogOn(env.WATCHDOG),
    registry,
    schedules,
    isolate,
    env,
    waitUntil: (promise) => {
      context.waitUntil(promise);
    },
  };
}

function ratesOn(limiters: DurableObjectNamespace<RateLimiter>): Rates {
  return {
    reserve: async (name, ...asked) => limiters.getByName(name).reserve(...asked),
    settle: async (name, ...said) => limiters.getByName(name).settle(...said),
    hold: async (name, forMs) => limiters.getByName(name).hold(forMs),
  };
}

function locksOn(semaphores: DurableObjectNamespace<SemaphoreObject>): Locks {
  return {
    acquire: async (name, ...asked) => semaphores.getByName(name).acquire(...asked),
    take: async (name, ...asked) => semaphores.getByName(name).take(...asked),
    renew: async (name, ...asked) => semaphores.getByName(name).renew(...asked),
    release: async (name, ...asked) => semaphores.getByName(name).release(...asked),
    line: async (name) => semaphores.getByName(name).line(),
    leave: async (name, jobs) => semaphores.getByName(name).leave(jobs),
    standing: async (name, job) => semaphores.getByName(name).standing(job),
  };
}

// There is one trigger, and one object that watches it.
function watchdogOn(watchdogs: DurableObjectNamespace<WatchdogObject>): Watchdog {
  return {
    beat: async () => watchdogs.getByName('watchdog').beat(),
    lastBeatAt: async () => watchdogs.getByName('watchdog').lastBeatAt(),
  };
}

function shardOf(token: string): number {
  return shardOfText(token, REPLAY_GUARD_SHARDS);
}

function guardOf(
  guards: DurableObjectNamespace<ReplayGuard>,
  scope: string,
  shard: number,
): DurableObjectStub<ReplayGuard> {
  return guards.getByName(`${scope}:${String(shard)}`);
}

function streamOf(streams: DurableObjectNamespace<JobStream>, jobId: string): DurableObjectStub<JobStream> {
  return streams.getByName(jobId);
}

export const systemRandomness: Randomness = {
  bytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  fraction: () => Math.random(),
};
