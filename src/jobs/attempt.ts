// One attempt of one job: the handler is called, its limits are kept, and its end becomes a value. Never throws.

import type { Envelope } from '../core/envelope.ts';
import { byteLength } from '../core/json.ts';
import { HEARTBEAT_MS, INPUT_RETRY_MS, MAX_PAYLOAD_BYTES, PASS_RETRY_MS } from '../core/limits.ts';
import type { Won } from '../store/claims.ts';
import { enqueueFrom } from './child.ts';
import { Live } from './live.ts';
import { faultsOf } from './request.ts';
import { Deferral, Discard, LeaseLost, Retry, SoftTimeLimitExceeded, Terminated } from './outcome.ts';
import { missedPass, type Pass } from './passes.ts';
import { inputOf } from './payloads.ts';
import { findTokens } from './replay.ts';
import { standingOf } from './unclaimed.ts';
import type { Runtime } from './runtime.ts';
import type { Job, Task } from './task.ts';

export type Outcome =
  | {
      readonly kind: 'success';
      readonly value: unknown;
      /** JSON text; null where it is kept under `resultKey`. */
      readonly result: string | null;
      readonly resultKey: string | null;
    }
  | { readonly kind: 'deferred'; readonly until: number; readonly reason: string }
  /** It must not run: another job is this one. */
  | { readonly kind: 'revoked'; readonly code: string; readonly error: Error }
  | {
      readonly kind: 'failure';
      readonly code: string;
      readonly error: unknown;
      /** Whether another attempt could end otherwise. */
      readonly retryable: boolean;
      /** When it comes from the far side, it wins over the policy. */
      readonly afterSeconds?: number;
    };

/** A job that is running, as its heartbeat and its end see it. */
export interface Attempt {
  readonly envelope: Envelope;
  readonly task: Task;
  readonly won: Won;
  readonly job: Job;
  /** What it was allowed by its rate limits and locks; undefined where it has none. */
  readonly pass: Pass | undefined;
  /** Settled when its handler starts, or with `false` when it never will. */
  readonly begun: PromiseWithResolvers<boolean>;
  /** What its hooks are given: they may enqueue although the attempt has ended. */
  readonly hookJob: Job;
  readonly live: Live;
  startedAt: number;
  /** Fires the job's signal. */
  abort(reason: SoftTimeLimitExceeded | Terminated | LeaseLost): void;
}

export function prepareAttempt(rt: Runtime, task: Task, envelope: Envelope, won: Won, pass?: Pass): Attempt {
  const controller = new AbortController();
  const live = new Live(rt, envelope, won.claim);
  const hookJob = jobOf(rt, task, envelope, won, live, controller.signal);
  return {
    envelope,
    task,
    won,
    pass,
    begun: Promise.withResolvers<boolean>(),
    live,
    hookJob,
    job: {
      ...hookJob,
      enqueue: async (...call) => {
        if (live.ended) throw new Error('The attempt has ended: its handler may enqueue nothing more.');
        return hookJob.enqueue(...call);
      },
    },
    startedAt: rt.clock.now(),
    abort: (reason) => {
      if (reason instanceof LeaseLost) live.abandon();
      controller.abort(reason);
    },
  };
}

function jobOf(rt: Runtime, task: Task, envelope: Envelope, won: Won, live: Live, signal: AbortSignal): Job {
  return {
    id: envelope.id,
    task: task.name,
    queue: envelope.queue,
    attempt: won.attempt,
    maxRetries: envelope.options.maxRetries,
    source: envelope.source,
    tags: envelope.tags,
    createdAt: envelope.acceptedAt,
    schedule: envelope.options.schedule,
    signal,
    enqueue: enqueueFrom(rt, envelope, won.claim),
    claimed: (scope, tokens) => findTokens(rt, scope, tokens),
    handlersOf: (event) => rt.registry.handlersOf(event),
    clock: rt.clock,
    db: rt.db,
    env: rt.env,
    progress: (percent, note) => {
      live.progress(percent, note);
    },
    log: (line) => {
      live.log(line);
    },
    chunk: (text) => {
      live.chunk(text);
    },
    defer: (later) =>
      new Deferral('until' in later ? later.until : rt.clock.now() + later.seconds * 1_000, later.reason),
  };
}

/** The hard limit of a job in milliseconds, and its soft one. */
export function limitsOf({ task, envelope: { options } }: Pick<Attempt, 'task' | 'envelope'>): {
  softMs: number;
  hardMs: number;
} {
  return {
    softMs: (options.softSeconds ?? task.timeLimit.softSeconds) * 1_000,
    hardMs: (options.hardSeconds ?? task.timeLimit.hardSeconds) * 1_000,
  };
}

/** Runs an attempt to its end or its hard limit, whichever is first. What comes after the hard limit is dropped. */
export async function runAttempt(rt: Runtime, attempt: Attempt): Promise<Outcome> {
  // Before its time begins: a store that does not answer is not the job's fault.
  const from = rt.clock.now();
  const standing = await standingOf(rt, attempt.envelope, attempt.won);
  if (standing !== 'ours') return standing;
  const given = await inputOf(rt, attempt.envelope, attempt.won);
  const now = rt.clock.now();
  if (given.kind !== 'value') return withoutInput(given.kind, now);
  // An isolate that stood still meanwhile may have lost the job: its handler must not begin here.
  if (attempt.job.signal.aborted || now - from > HEARTBEAT_MS) return withoutInput('silent', now);
  const missed = missedPass(attempt.pass, now);
  if (missed !== undefined) return { kind: 'deferred', until: now + PASS_RETRY_MS, reason: missed };
  const over = new AbortController();
  attempt.startedAt = rt.clock.now();
  attempt.begun.resolve(true);
  const { softMs, hardMs } = limitsOf(attempt);
  const soft = rt.clock.sleep(softMs, over.signal).then(() => {
    if (!over.signal.aborted) attempt.abort(new SoftTimeLimitExceeded('The soft time limit has passed.'));
  });
  const hard = rt.clock.sleep(hardMs, over.signal).then(() => timeLimit(hardMs, undefined));
  try {
    const ended = await Promise.race([callHandler(attempt, given.value, hardMs), hard]);
    // A machine that stood still may hear of a handler's end before it hears of the limit.
    return rt.clock.now() - attempt.startedAt > hardMs ? timeLimit(hardMs, undefined) : ended;
  } finally {
    over.abort();
    await soft;
    await attempt.live.end();
  }
}

async function callHandler({ task, job }: Attempt, given: unknown, hardMs: number): Promise<Outcome> {
  try {
    // Parsed again: the deployment that runs it may be newer than the one that accepted it.
    const input = task.input.safeParse(given);
    if (!input.success) {
      const text = faultsOf(input.error, 'input').map(({ path, message }) => `${path}: ${message}`);
      return { kind: 'failure', code: 'invalid_input', error: new Error(text.join('; ')), retryable: false };
    }
    const value = await task.run(input.data, job);
    if (value instanceof Deferral) return { kind: 'deferred', until: value.until, reason: value.reason };
    return successOf(value);
  } catch (error) {
    return failureOf(error, job, hardMs);
  }
}

function withoutInput(why: 'gone' | 'silent', now: number): Outcome {
  if (why === 'silent') {
    return { kind: 'deferred', until: now + INPUT_RETRY_MS, reason: 'its stored input could not be read' };
  }
  return { kind: 'failure', code: 'input_gone', error: new Error('Its stored input is gone.'), retryable: false };
}

function successOf(value: unknown): Outcome {
  let result: string | undefined;
  try {
    result = JSON.stringify(value ?? null);
  } catch (error) {
    return { kind: 'failure', code: 'invalid_result', error, retryable: false };
  }
  // A function or a symbol has no JSON at all.
  if ((result as string | undefined) === undefined) result = 'null';
  const bytes = byteLength(result);
  if (bytes > MAX_PAYLOAD_BYTES) {
    const error = new Error(`The result is ${String(bytes)} bytes; at most ${String(MAX_PAYLOAD_BYTES)} are kept.`);
    return { kind: 'failure', code: 'result_too_large', error, retryable: false };
  }
  return { kind: 'success', value, result, resultKey: null };
}

function failureOf(error: unknown, job: Job, hardMs: number): Outcome {
  if (error instanceof Discard) return { kind: 'failure', code: error.code, error, retryable: false };
  if (error instanceof Retry) {
    return { kind: 'failure', code: 'exception', error, retryable: true, afterSeconds: error.afterSeconds };
  }
  // Not its fault, and where the job itself was lost too, this is never written.
  if (job.signal.aborted && job.signal.reason instanceof LeaseLost) {
    const { message: reason } = job.signal.reason;
    return { kind: 'deferred', until: job.clock.now() + PASS_RETRY_MS, reason };
  }
  // A handler that stops because it was told to need not know our error: what it throws then is the limit.
  if (job.signal.aborted && job.signal.reason instanceof SoftTimeLimitExceeded) return timeLimit(hardMs, error);
  return { kind: 'failure', code: 'exception', error, retryable: true };
}

function timeLimit(hardMs: number, cause: unknown): Outcome {
  const text =
    cause === undefined
      ? `It ran longer than its hard limit of ${String(hardMs / 1_000)} s.`
      : 'It stopped at its soft time limit.';
  return { kind: 'failure', code: 'time_limit', error: new Error(text, { cause }), retryable: true };
}
