// Every way a request can be refused, and the one place that maps it to HTTP (RFC 9457).

import type { Fault } from '../jobs/request.ts';

export type Failure =
  | { readonly kind: 'malformed'; readonly detail: string; readonly errors?: readonly Fault[] }
  | { readonly kind: 'unauthorized' }
  | { readonly kind: 'forbidden'; readonly scope: string }
  | { readonly kind: 'not_found'; readonly what: string; readonly retryAfterSeconds?: number }
  | { readonly kind: 'wrong_state'; readonly detail: string }
  | { readonly kind: 'too_large'; readonly detail: string; readonly errors?: readonly Fault[] }
  | { readonly kind: 'unsupported_type'; readonly detail: string }
  | { readonly kind: 'invalid'; readonly errors: readonly Fault[] }
  | { readonly kind: 'bad_signature' }
  | { readonly kind: 'stale_signature' }
  | { readonly kind: 'unavailable'; readonly detail: string; readonly retryAfterSeconds: number }
  | { readonly kind: 'not_configured'; readonly detail: string }
  | { readonly kind: 'internal' };

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly Fault[];
}

const TITLES = {
  malformed: [400, 'Malformed request'],
  unauthorized: [401, 'Not authenticated'],
  bad_signature: [401, 'Bad signature'],
  stale_signature: [401, 'Stale signature'],
  forbidden: [403, 'Not allowed'],
  not_found: [404, 'Not found'],
  wrong_state: [409, 'Wrong state'],
  too_large: [413, 'Too large'],
  unsupported_type: [415, 'Unsupported media type'],
  invalid: [422, 'Invalid request'],
  unavailable: [503, 'Unavailable'],
  not_configured: [503, 'Not configured'],
  internal: [500, 'Internal error'],
} as const satisfies Record<Failure['kind'], readonly [number, string]>;

/** The body of a problem; also what stands for a bad item of a batch. */
export function problemOf(failure: Failure): Problem {
  const [status, title] = TITLES[failure.kind];
  const problem = { type: `urn:lovage:problem:${failure.kind}`, title, status, detail: detailOf(failure) };
  return 'errors' in failure ? { ...problem, errors: failure.errors } : problem;
}

/** `status` and `beside`: where a sender understands another answer than the common one. */
export function problem(
  failure: Failure,
  status = TITLES[failure.kind][0] as number,
  beside: Readonly<Record<string, string>> = {},
): Response {
  const body = { ...problemOf(failure), status };
  const headers = new Headers({ ...beside, 'content-type': 'application/problem+json' });
  if ('retryAfterSeconds' in failure) headers.set('retry-after', String(failure.retryAfterSeconds));
  if (failure.kind === 'not_configured') headers.set('retry-after', '60');
  if (failure.kind === 'unauthorized') headers.set('www-authenticate', 'Bearer');
  return new Response(JSON.stringify(body), { status, headers });
}

/** A job that was just accepted may have no row yet. */
export const NO_JOB: Failure = { kind: 'not_found', what: 'job with this id', retryAfterSeconds: 1 };

/**
 * What a call is told that was not taken. `unknown`: nobody knows, and repeating under the same key is safe. `full`: the
 * database is; finished jobs leave sooner now, and room is made within minutes or by hand.
 */
export const NOT_TAKEN = {
  unknown: {
    kind: 'unavailable',
    detail:
      'What keeps jobs did not answer in time; nobody knows whether it took this one. ' +
      'Repeat the call under the same Idempotency-Key.',
    retryAfterSeconds: 5,
  },
  full: { kind: 'unavailable', detail: 'The database is full; no job was taken.', retryAfterSeconds: 60 },
} as const satisfies Record<string, Failure>;

/** What a look at a job is told whose payload is kept beside the database, where it cannot be read now. */
export const PAYLOAD_SILENT: Failure = {
  kind: 'unavailable',
  detail: 'The store that keeps the payload of this job does not answer at the moment.',
  retryAfterSeconds: 5,
};

/** What a look at a job's live output is told where that cannot be read now. */
export const STREAM_SILENT: Failure = {
  kind: 'unavailable',
  detail: 'The stream of this job does not answer at the moment.',
  retryAfterSeconds: 5,
};

/** What a look at the database is told while it does not answer. */
export const DATABASE_SILENT: Failure = {
  kind: 'unavailable',
  detail: 'The database does not answer at the moment.',
  retryAfterSeconds: 5,
};

function detailOf(failure: Failure): string {
  switch (failure.kind) {
    case 'unauthorized':
      return 'Send a key as "Authorization: Bearer <key>" or "X-API-Key: <key>".';
    case 'forbidden':
      return `This key lacks the scope ${failure.scope}.`;
    case 'not_found':
      return `There is no ${failure.what}.`;
    case 'invalid':
      return failure.errors.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ');
    case 'bad_signature':
      return 'The signature is missing or does not match the body.';
    case 'stale_signature':
      return 'The signature is right, but its time is too long ago or too far ahead.';
    case 'internal':
      return 'Something here went wrong. It is logged.';
    case 'malformed':
    case 'wrong_state':
    case 'too_large':
    case 'unsupported_type':
    case 'unavailable':
    case 'not_configured':
      return failure.detail;
  }
}
