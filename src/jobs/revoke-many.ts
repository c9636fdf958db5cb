// Revoking all open jobs that match, as one by one: what waits is cancelled, what runs is asked to end.

import type { Json } from '../core/json.ts';
import { shownState, type State } from '../core/states.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { recordRevocation } from '../store/audit.ts';
import type { JobFilter } from '../store/reads.ts';
import {
  readRevocable,
  revokeWaiting,
  selectRevocable,
  selectStillRevocable,
  stopRunning,
  type Revocable,
} from '../store/revoke.ts';
import { query, transact } from './database.ts';
import type { Revoked } from './inspect.ts';
import { deedOf } from './queue-control.ts';
import type { Runtime } from './runtime.ts';

export interface Revocation {
  readonly filter: JobFilter;
  /** The filter as it was asked for, for the audit log. */
  readonly asked: Json;
  readonly terminate: boolean;
  readonly limit: number;
  readonly dryRun: boolean;
  readonly actor: string;
}

export interface RevokedMany {
  readonly jobs: readonly (Revoked & { readonly id: string })[];
  /** There are more than `limit`. */
  readonly more: boolean;
}

/** Revokes at most `limit` jobs and says what it found each as; a dry run only says it. */
export async function revokeMany(rt: Runtime, revocation: Revocation): Promise<RevokedMany> {
  const { filter, terminate, limit, dryRun } = revocation;
  const now = rt.clock.now();
  const queues = filter.queue === undefined ? QUEUE_NAMES : [filter.queue];
  const found = (await query(rt, selectRevocable(filter, queues, terminate, limit + 1, now))).map(readRevocable);
  const matching = found.slice(0, limit);
  const more = found.length > limit;
  if (dryRun) return { more, jobs: matching.map((job) => asFound(job, now)) };
  const jobs = matching.length === 0 ? [] : await revokeFound(rt, matching, revocation);
  return { more, jobs };
}

// Between the look and this transaction a job may have begun or ended; what it is in the transaction counts. One that no
// longer is in the state that was asked for is let be.
async function revokeFound(
  rt: Runtime,
  found: readonly Revocable[],
  revocation: Revocation,
): Promise<RevokedMany['jobs']> {
  const { filter, terminate, actor, asked } = revocation;
  const now = rt.clock.now();
  const ids = found.map(({ id }) => id);
  const waiting = filter.state !== 'STARTED';
  const running = filter.state === undefined || filter.state === 'STARTED';
  const detail = { filter: asked, terminate };
  const [was] = await transact(rt, [
    selectStillRevocable(ids, terminate),
    recordRevocation({ ...deedOf(rt, now, actor), action: 'jobs.revoked', target: 'jobs', detail }, ids, {
      waiting,
      running,
    }),
    ...(waiting ? [revokeWaiting(ids, now)] : []),
    ...(running ? [stopRunning(ids, terminate)] : []),
  ]);
  return (was?.rows ?? [])
    .map(readRevocable)
    .filter(({ state }) => (state === 'STARTED' ? running : waiting))
    .map((job) => asRevoked(job, terminate, now));
}

function asFound(job: Revocable, now: number): RevokedMany['jobs'][number] {
  const state = shownState(job.state, job.due_at, now);
  return { id: job.id, previous: state, state, terminating: state === 'STARTED' && job.revoke_requested === 2 };
}

function asRevoked(job: Revocable, terminate: boolean, now: number): RevokedMany['jobs'][number] {
  const previous = shownState(job.state, job.due_at, now);
  const state: State = previous === 'STARTED' ? 'STARTED' : 'REVOKED';
  return { id: job.id, previous, state, terminating: state === 'STARTED' && (terminate || job.revoke_requested === 2) };
}
