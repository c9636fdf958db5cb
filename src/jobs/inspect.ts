// Looking at jobs from outside: one, a page of them, waiting for an end; and revoking or repeating one.

import type { Envelope } from '../core/envelope.ts';
import { newId } from '../core/ids.ts';
import type { Json } from '../core/json.ts';
import { MAX_ROWS_SCANNED } from '../core/limits.ts';
import { isFinal, shownState, type State } from '../core/states.ts';
import { revokeJob, selectJob, selectJobs, type JobFilter } from '../store/reads.ts';
import { readJobRow, type JobRow } from '../store/rows.ts';
import { commit, type Enqueued } from './enqueue.ts';
import { query, transact } from './database.ts';
import { inputOfRow, isCleared, type Fetched } from './payloads.ts';
import { checkRequest, type Checked, type Request } from './request.ts';
import type { Runtime } from './runtime.ts';

export async function findJob(rt: Runtime, id: string): Promise<JobRow | undefined> {
  const [row] = await query(rt, selectJob(id));
  return row === undefined ? undefined : readJobRow(row);
}

const FIRST_LOOK_MS = 10;
const LONGEST_LOOK_MS = 500;

/** The job, as soon as it is final, or as it is after `milliseconds`. Looks often at first, then every half second. */
export async function waitForJob(rt: Runtime, id: string, milliseconds: number): Promise<JobRow | undefined> {
  const giveUpAt = rt.clock.now() + milliseconds;
  for (let pause = FIRST_LOOK_MS; ; pause = Math.min(LONGEST_LOOK_MS, pause * 1.5)) {
    const job = await findJob(rt, id);
    const left = giveUpAt - rt.clock.now();
    // No row yet is no reason to stop waiting: the message may be ahead of it.
    if (left <= 0 || (job !== undefined && isFinal(job.state))) return job;
    await rt.clock.sleep(Math.min(pause, left));
  }
}

/** A page of jobs, newest first. `next` is where the following page starts, also where this one is short. */
export async function listJobs(
  rt: Runtime,
  filter: JobFilter,
  limit: number,
): Promise<{ readonly items: readonly JobRow[]; readonly next: string | null }> {
  const [matches, window] = await transact(rt, selectJobs(filter, limit, rt.clock.now()));
  const items = (matches?.rows ?? []).map(readJobRow);
  const last = items.at(-1);
  if (items.length === limit && last !== undefined) return { items, next: last.id };
  const scanned = window?.rows[0];
  const more = scanned?.['scanned'] === MAX_ROWS_SCANNED && typeof scanned['last'] === 'string';
  return { items, next: more ? String(scanned['last']) : null };
}

export interface Revoked {
  readonly previous: State;
  readonly state: State;
  /** It runs, and its signal fires with its next heartbeat. */
  readonly terminating: boolean;
}

/** Cancels what waits and asks what runs to stop. Says what it found; undefined for an unknown job. */
export async function revoke(rt: Runtime, id: string, terminate: boolean): Promise<Revoked | undefined> {
  const now = rt.clock.now();
  const [found] = await transact(rt, revokeJob(id, terminate, now));
  const row = found?.rows[0];
  if (row === undefined) return undefined;
  const job = readJobRow(row);
  const previous = shownState(job.state, job.due_at, now);
  if (isFinal(previous)) return { previous, state: previous, terminating: false };
  if (previous !== 'STARTED') return { previous, state: 'REVOKED', terminating: false };
  return { previous, state: 'STARTED', terminating: terminate || job.revoke_requested === 2 };
}

/** `no_input`: what it was given is gone, or (`silent`) cannot be read now. */
export interface NoInput {
  readonly kind: 'no_input';
  readonly why: 'gone' | 'silent';
}

/** Runs a final job once more, as a job of its own with `retry_of`. What its task no longer takes is said. */
export async function runAgain(
  rt: Runtime,
  job: JobRow,
): Promise<Enqueued | NoInput | (Checked<Request> & { ok: false })> {
  const { id, task, queue, options, priority, tags } = job;
  const input: Fetched<Json> = isCleared(job, rt.clock.now()) ? { kind: 'gone' } : await inputOfRow(rt, job);
  if (input.kind !== 'value') return { kind: 'no_input', why: input.kind };
  const recipe = { task, queue, options, priority, tags, input: input.value };
  return commitCopy(rt, recipe, { source: 'retry', retryOf: id });
}

/** What a new run takes over from an old one. */
export type Recipe = Pick<Envelope, 'task' | 'queue' | 'options' | 'priority' | 'tags'> & { readonly input: Json };

/** A new envelope from an old job's recipe, due now, checked against what its task takes today. */
export function copyOf(
  rt: Runtime,
  recipe: Recipe,
  origin: { readonly source: string; readonly retryOf: string | null },
): Envelope | (Checked<Request> & { ok: false }) {
  const task = rt.registry.find(recipe.task);
  if (task === undefined) {
    return {
      ok: false,
      kind: 'invalid',
      faults: [{ path: 'task', message: `there is no task "${recipe.task}" any more` }],
    };
  }
  const checked = checkRequest({ task, input: recipe.input, options: {} });
  if (!checked.ok) return checked;
  const now = rt.clock.now();
  const id = newId(now, rt.random.bytes(9));
  const times = { acceptedAt: now, dueAt: now, expiresAt: null };
  return {
    v: 1,
    ...recipe,
    ...times,
    id,
    task: task.name,
    source: origin.source,
    parentId: null,
    retryOf: origin.retryOf,
  };
}

async function commitCopy(
  rt: Runtime,
  recipe: Recipe,
  origin: { readonly source: string; readonly retryOf: string },
): Promise<Enqueued | (Checked<Request> & { ok: false })> {
  const envelope = copyOf(rt, recipe, origin);
  return 'ok' in envelope ? envelope : commit(rt, { envelope, mode: 'new' });
}
