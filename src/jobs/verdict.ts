// What an outcome means for the job: final, again later, or back where it was. Pure but for the clock's reading.

import { fingerprint } from '../core/fingerprint.ts';
import { followUpId } from '../core/ids.ts';
import { MAX_AHEAD_SECONDS, MAX_ERROR_MESSAGE_CHARS, MESSAGE_HORIZON_SECONDS } from '../core/limits.ts';
import { retryDelayMs, type RetryPolicy } from '../core/retry.ts';
import type { Finish } from '../store/claims.ts';
import type { AttemptRecord, JobError } from '../store/rows.ts';
import type { Attempt, Outcome } from './attempt.ts';

/** The id of the dead letter of a job, should it ever have one. */
export function deadLetterId(jobId: string): string {
  return followUpId(jobId, 'dead-letter', 0);
}

/** What the moment adds to an outcome. */
export interface Moment {
  /** Epoch ms. */
  readonly now: number;
  /** Uniform in [0, 1): the jitter. */
  readonly fraction: number;
  /** Whether its message may carry the job on: not past its 90th delivery, and the queue has room for a delay. */
  mayDelay(): boolean;
}

/** How an attempt is written down. */
export function finishOf(attempt: Attempt, outcome: Outcome, moment: Moment): Finish {
  const { won, startedAt, live } = attempt;
  const common = {
    id: won.id,
    claim: won.claim,
    startedAt,
    at: moment.now,
    result: null,
    resultKey: null,
    error: null,
    dueAt: null,
    sentAt: null,
    giveBack: 0 as const,
    waitingFor: null,
    record: null,
    progress: live.percent,
    progressNote: live.note,
    deadLetterId: deadLetterId(won.id),
  };
  switch (outcome.kind) {
    case 'success':
      return { ...common, state: 'SUCCESS', result: outcome.result, resultKey: outcome.resultKey };
    case 'revoked':
      return { ...common, state: 'REVOKED', error: errorOf(attempt.task.name, outcome.code, outcome.error) };
    case 'deferred':
      return {
        ...common,
        ...waitUntil(outcome.until, moment),
        state: 'PENDING',
        giveBack: 1,
        waitingFor: outcome.reason,
      };
    case 'failure': {
      const error = errorOf(attempt.task.name, outcome.code, outcome.error);
      const retryAt = retryTime(attempt, outcome, moment);
      if (retryAt === undefined) return { ...common, state: 'FAILURE', error };
      const record = recordOf(attempt, 'retry', moment.now, error);
      return { ...common, ...waitUntil(retryAt, moment), state: 'RETRY', error, record };
    }
  }
}

/** An error as it is stored and shown. */
export function errorOf(task: string, code: string, error: unknown): JobError {
  const text = error instanceof Error ? describe(error) : describeThrown(error);
  return { code, message: text.slice(0, MAX_ERROR_MESSAGE_CHARS), fingerprint: fingerprint(task, code, text) };
}

/** When the job runs again; undefined where it has failed for good. */
function retryTime(attempt: Attempt, outcome: Outcome & { kind: 'failure' }, moment: Moment): number | undefined {
  const { won, task, envelope } = attempt;
  if (!outcome.retryable || won.attempt > envelope.options.maxRetries) return undefined;
  const { afterSeconds } = outcome;
  if (afterSeconds !== undefined && afterSeconds >= 0 && Number.isFinite(afterSeconds)) {
    return moment.now + Math.ceil(afterSeconds * 1_000);
  }
  const { retryDelays } = envelope.options;
  const policy: RetryPolicy = retryDelays === null ? task.retry.delays : { kind: 'delays', seconds: retryDelays };
  return moment.now + retryDelayMs(policy, won.attempt, moment.fraction);
}

// Within the horizon the message itself is put back; past it, or where it may not be, the row is owed a new one.
function waitUntil(wanted: number, moment: Moment): { dueAt: number; sentAt: number | null } {
  const dueAt = Math.min(Math.max(0, wanted), moment.now + MAX_AHEAD_SECONDS * 1_000);
  const carried = dueAt - moment.now <= MESSAGE_HORIZON_SECONDS * 1_000 && moment.mayDelay();
  return { dueAt, sentAt: carried ? moment.now : null };
}

function recordOf(attempt: Attempt, outcome: AttemptRecord['outcome'], now: number, error: JobError): AttemptRecord {
  return { attempt: attempt.won.attempt, started_at: attempt.startedAt, finished_at: now, outcome, error };
}

// Whatever a library made of its errors: a message that is an object, a getter that throws.
function describe(error: Error): string {
  try {
    const { name, message }: { name: unknown; message: unknown } = error;
    const text = typeof message === 'string' ? message : JSON.stringify(message);
    return name === 'Error' ? text : `${String(name)}: ${text}`;
  } catch {
    return 'Thrown: an error that cannot be shown.';
  }
}

function describeThrown(thrown: unknown): string {
  if (typeof thrown === 'string') return thrown;
  try {
    return `Thrown: ${JSON.stringify(thrown)}`;
  } catch {
    return 'Thrown: a value that cannot be shown.';
  }
}
