// How a task ends its attempt other than by returning a value or throwing any error.

import { MAX_NOTE_CHARS } from '../core/limits.ts';

/** Thrown by a task: fail now, no retry. `code` is what its error shows. */
export class Discard extends Error {
  override readonly name: string = 'Discard';
  readonly code: string;

  constructor(reason: string, code = 'discarded') {
    super(reason);
    this.code = code;
  }
}

/** Thrown by a task: a setting that it needs is missing or unusable, and no retry would change that. */
export class ConfigurationError extends Discard {
  override readonly name: string = 'ConfigurationError';

  constructor(reason: string) {
    super(reason, 'not_configured');
  }
}

/**
 * Thrown by a task: a failed attempt that is retried after `afterSeconds`, whatever the policy says, as long as
 * retries are left. What a provider's `Retry-After` becomes; one that is no number of seconds leaves it to the policy.
 */
export class Retry extends Error {
  override readonly name: string = 'Retry';
  readonly afterSeconds: number;

  constructor(message: string, options: { readonly afterSeconds: number } & ErrorOptions) {
    super(message, options);
    this.afterSeconds = options.afterSeconds;
  }
}

/**
 * Thrown by a task: the far side says that it is asked too often (429). Retried after `afterSeconds` as a {@link Retry}, and
 * until then nothing starts that takes from the task's own rate limits: the keyed ones where it has any.
 */
export class RateLimited extends Retry {
  override readonly name = 'RateLimited';
}

/** The reason of a job's signal at its soft limit; Celery's SoftTimeLimitExceeded. */
export class SoftTimeLimitExceeded extends Error {
  override readonly name = 'SoftTimeLimitExceeded';
}

/** The reason of a job's signal when it was revoked with `terminate`. */
export class Terminated extends Error {
  override readonly name = 'Terminated';
}

/** The reason of a job's signal when another attempt has taken the job: nothing it does counts any more. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/** Returned by a task (`return job.defer(…)`): later, without using up an attempt. */
export class Deferral {
  /** Epoch ms. */
  readonly until: number;
  readonly reason: string;

  /** Throws where `until` is no instant. */
  constructor(until: number, reason: string) {
    if (!Number.isFinite(until)) throw new RangeError('A job can only be deferred to a finite time.');
    this.until = Math.ceil(until);
    this.reason = reason.slice(0, MAX_NOTE_CHARS);
  }
}
