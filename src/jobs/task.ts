// Defining a task: a name, a schema, a policy and a function.

import type { z } from 'zod';
import type { Env } from '../env.ts';
import type { ScheduledRun } from '../core/envelope.ts';
import type { Json } from '../core/json.ts';
import type { Clock, Database } from '../core/ports.ts';
import {
  DEFAULT_HARD_SECONDS,
  DEFAULT_MAX_RETRIES,
  DEFAULT_RESULT_TTL_SECONDS,
  DEFAULT_SOFT_SECONDS,
  MAX_AHEAD_SECONDS,
  MAX_RETRIES,
  MAX_TIME_LIMIT_SECONDS,
} from '../core/limits.ts';
import { parseRate, type Rate } from '../core/rate.ts';
import { exponential, type RetryPolicy } from '../core/retry.ts';
import type { KnownToken } from '../durable/replay-guard.ts';
import type { QueueName } from '../queues.ts';
import type { EnqueueOptions } from './enqueue.ts';
import type { Once } from './child.ts';
import type { Deferral } from './outcome.ts';
import type { UniqueTask } from './unique-key.ts';

/** What a task is given of the job it runs for. */
export interface Job {
  readonly id: string;
  readonly task: string;
  readonly queue: string;
  /** 1 for the first; a deferred or lost attempt is not counted. */
  readonly attempt: number;
  readonly maxRetries: number;
  readonly source: string;
  readonly tags: readonly string[];
  readonly createdAt: number;
  /** Which run of which schedule it is. `dueAt`: epoch ms, also where it was made later: the day of a daily report. */
  readonly schedule: Pick<ScheduledRun, 'name' | 'dueAt' | 'cause'> | undefined;
  /** Fires at the soft limit (SoftTimeLimitExceeded), on terminate (Terminated) and when the lease is lost. */
  readonly signal: AbortSignal;
  /** 0–100 and a few words. What people see of one attempt never goes back: a lower number counts as the last one. */
  progress(percent: number, note?: string): void;
  /** A line for whoever watches; past 4,000 characters it is cut. Live output is kept for an hour, not with the job. */
  log(line: string): void;
  /** A piece of output as it comes, for whoever watches. Neighbouring pieces may reach them as one. */
  chunk(text: string): void;
  /** `return job.defer(…)`: put it back for later. `until` is epoch ms. */
  defer(
    later: { readonly seconds: number; readonly reason: string } | { readonly until: number; readonly reason: string },
  ): Deferral;
  /**
   * Enqueues another job, whose `parent_id` is this one; attempts that do the same in the same order make it once.
   * Throws {@link InvalidCall} where the task refuses the input, and where the job could not be taken now.
   */
  enqueue<Schema extends z.ZodType, Output>(
    task: Task<Schema, Output>,
    input: z.input<Schema> & Json,
    options?: EnqueueOptions,
    once?: Once,
  ): Promise<Child>;
  /**
   * Those of a scope's tokens that the replay guard knows, and the jobs they name; whether a job was ever made is not
   * said. Claims nothing. Throws where the guard does not answer.
   */
  claimed(scope: string, tokens: readonly string[]): Promise<readonly KnownToken[]>;
  /** The tasks that say they are run on an event. */
  handlersOf(event: string): readonly Task[];
  readonly clock: Clock;
  readonly db: Database;
  readonly env: Env;
}

/** A job that another one enqueued. `created` is false where it was there before. */
export interface Child {
  readonly id: string;
  readonly created: boolean;
}

/** The new run that an input is copied for. */
export interface InputCopy {
  readonly id: string;
  readonly env: Env;
  /** Epoch ms. */
  readonly now: number;
}

/** At most so many starts in any window of its period; with `key`, for each key by itself. */
export interface RateRule<Schema extends z.ZodType = z.ZodType> {
  /** As it was written: `100/m`. */
  readonly text: string;
  readonly rate: Rate;
  key?(input: z.output<Schema>): string | number;
}

/** At most so many at once; with `key`, for each key by itself. */
export interface LockRule<Schema extends z.ZodType = z.ZodType> {
  readonly limit: number;
  key?(input: z.output<Schema>): string | number;
}

export interface Task<Schema extends z.ZodType = z.ZodType, Output = unknown> {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly queue: QueueName;
  /** How positional `args` map to the input; a last name `...rest` takes all that are left. */
  readonly params: readonly string[];
  readonly input: Schema;
  readonly retry: { readonly max: number; readonly delays: RetryPolicy };
  readonly timeLimit: { readonly softSeconds: number; readonly hardSeconds: number };
  /** Why a task with a hard limit over 60 s may stand in the queue of short work. */
  readonly longOnDefault: string | undefined;
  /** Global and exact, whichever consumer runs it. It takes from all of them, and from its queue's. */
  readonly rateLimits: readonly RateRule<Schema>[];
  readonly locks: readonly LockRule<Schema>[];
  readonly resultTtlSeconds: number;
  /**
   * Events it is run on, as `process_webhook` names them: `github.push`, `mailgun.*`, `*`. Its input is then
   * `{ provider, event, event_id, received_at, raw_key, webhook_data }`.
   */
  readonly on: readonly string[];
  /** Its input and result leave every store when its result expires; a dead letter keeps its input until resolved. */
  readonly sensitive: boolean;
  /** Which of its calls are one job, where a call does not say so itself. */
  readonly unique: UniqueTask<z.output<Schema>> | undefined;
  /**
   * The input of a new run, where the old one names objects in R2 that leave with their job: copies them for the new
   * one. undefined where they are gone.
   */
  copyInput?(input: z.output<Schema>, copy: InputCopy): Promise<Json | undefined>;
  run(input: z.output<Schema>, job: Job): Promise<Output | Deferral> | Output | Deferral;
  /** Once, after the outcome is committed. What they throw is logged and changes nothing. */
  onSuccess?(result: Output, job: Job): Promise<void> | void;
  onRetry?(error: unknown, job: Job): Promise<void> | void;
  onFailure?(error: unknown, job: Job): Promise<void> | void;
}

/** What may be left out of a {@link Task} when it is defined, and what it is then: see {@link defineTask}. */
export type TaskDefinition<Schema extends z.ZodType, Output> = Pick<
  Task<Schema, Output>,
  'name' | 'queue' | 'input' | 'run'
> &
  Partial<Omit<Task<Schema, Output>, 'retry' | 'timeLimit' | 'rateLimits' | 'locks'>> & {
    readonly retry?: Partial<Task['retry']>;
    readonly timeLimit?: Partial<Task['timeLimit']>;
    /** `100/m`, `{ limit: '10/s', key }`, or several of them. */
    readonly rateLimit?: OneOrMany<string | (Omit<RateRule<Schema>, 'text' | 'rate'> & { readonly limit: string })>;
    /** `{ key, limit: 1 }`, or several of them. */
    readonly concurrency?: OneOrMany<LockRule<Schema>>;
  };

type OneOrMany<T> = T | readonly T[];

const TASK_NAME = /^[a-z][a-z0-9_.]{0,99}$/;

/**
 * Defaults: 3 retries, exponential from 60 s to 600 s with equal jitter; soft limit 50 s, hard 60 s; results kept 1 h.
 * Throws where the definition itself is wrong, so that a wrong one never deploys.
 */
export function defineTask<Schema extends z.ZodType, Output>(
  definition: TaskDefinition<Schema, Output>,
): Task<Schema, Output> {
  const { name, retry, timeLimit, unique } = definition;
  const hardSeconds = timeLimit?.hardSeconds ?? Math.max(DEFAULT_HARD_SECONDS, timeLimit?.softSeconds ?? 0);
  const softSeconds = timeLimit?.softSeconds ?? Math.min(DEFAULT_SOFT_SECONDS, hardSeconds);
  if (!TASK_NAME.test(name))
    throw new Error(`Task name ${JSON.stringify(name)}: lower case, digits, "_" and ".", please.`);
  if (softSeconds <= 0 || softSeconds > hardSeconds || hardSeconds > MAX_TIME_LIMIT_SECONDS) {
    throw new Error(`Task ${name}: time limits must be 0 < soft ≤ hard ≤ ${String(MAX_TIME_LIMIT_SECONDS)} s.`);
  }
  if (unique?.on === 'debounce' && unique.for === undefined) throw new Error(`Task ${name}: debounce wants "for".`);
  if (unique?.for !== undefined && !(unique.for > 0 && unique.for <= MAX_AHEAD_SECONDS)) {
    throw new Error(`Task ${name}: unique "for" must be 0 < seconds ≤ ${String(MAX_AHEAD_SECONDS)}.`);
  }
  if (retry?.max !== undefined && (retry.max < 0 || retry.max > MAX_RETRIES)) {
    throw new Error(`Task ${name}: at most ${String(MAX_RETRIES)} retries.`);
  }
  const { rateLimit = [], concurrency = [], ...rest } = definition;
  return {
    ...rest,
    rateLimits: many(rateLimit).map((each) => {
      const { limit, ...rule } = typeof each === 'string' ? { limit: each } : each;
      return { ...rule, text: limit, rate: parseRate(limit) };
    }),
    locks: many(concurrency).map((rule) => {
      if (Number.isInteger(rule.limit) && rule.limit >= 1) return rule;
      throw new Error(`Task ${name}: at least one job must be able to run at once.`);
    }),
    aliases: definition.aliases ?? [],
    params: definition.params ?? [],
    on: definition.on ?? [],
    retry: { max: retry?.max ?? DEFAULT_MAX_RETRIES, delays: retry?.delays ?? exponential },
    timeLimit: { softSeconds, hardSeconds },
    longOnDefault: definition.longOnDefault,
    resultTtlSeconds: definition.resultTtlSeconds ?? DEFAULT_RESULT_TTL_SECONDS,
    sensitive: definition.sensitive ?? false,
    unique: definition.unique,
  };
}

function many<T extends object | string>(given: OneOrMany<T>): readonly T[] {
  // `Array.isArray` does not narrow what is read-only.
  return Array.isArray(given) ? (given as readonly T[]) : [given as T];
}
