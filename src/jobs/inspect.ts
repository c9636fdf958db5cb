// Looking at jobs from outside: one, a page of them, waiting for an end; and revoking or repeating one.

import type { Json } from '../core/json.ts';
import { MAX_ROWS_SCANNED } from '../core/limits.ts';
import type { Row, Statement } from '../core/ports.ts';
import { isFinal, shownState, type State } from '../core/states.ts';
import { selectJob, selectJobs, selectStanding, type JobFilter } from '../store/reads.ts';
import { revokeJob } from '../store/revoke.ts';
import { readJobRow, readStanding, type JobRow, type Standing } from '../store/rows.ts';
import { copyOf, type NoCopy } from './copy.ts';
import { commit, type Enqueued } from './enqueue.ts';
import { query, transact } from './database.ts';
import { inputOfRow, isCleared, type Fetched } from './payloads.ts';
import type { Runtime } from './runtime.ts';

export async function findJob(rt: Runtime, id: string): Promise<JobRow | undefined> {
  const [row] = await query(rt, selectJob(id, rt.clock.now()));
  return row === undefined ? undefined : readJobRow(row);
}

/** Where a job stands: a look that costs little, however large the job. */
export async function findStanding(rt: Runtime, id: string): Promise<Standing | undefined> {
  const [row] = await query(rt, selectStanding(id, rt.clock.now()));
  return row === undefined ? undefined : readStanding(row);
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

export interface Page<T> {
  readonly items: readonly T[];
  /** Where the following page starts, also where this one is short; null where there is none. */
  readonly next: string | null;
}

/** A page of jobs, newest first. */
export async function listJobs(rt: Runtime, filter: JobFilter, limit: number): Promise<Page<JobRow>> {
  return page(rt, selectJobs(filter, limit, rt.clock.now()), limit, readJobRow);
}

/** A page of what two statements find: the rows that match in a window, and how far the window reaches. */
export async function page<T extends { readonly id: string }>(
  rt: Runtime,
  statements: readonly Statement[],
  limit: number,
  read: (row: Row) => T,
): Promise<Page<T>> {
  const [matches, window] = await transact(rt, statements);
  const items = (matches?.rows ?? []).map(read);
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

/** Runs a final job once more, as a job of its own with `retry_of`. */
export async function runAgain(rt: Runtime, job: JobRow): Promise<Enqueued | NoCopy> {
  const { id, task, queue, options, priority, tags } = job;
  const input: Fetched<Json> = isCleared(job, rt.clock.now()) ? { kind: 'gone' } : await inputOfRow(rt, job);
  const recipe = { task, queue, options, priority, tags, input };
  const copy = await copyOf(rt, recipe, { source: 'retry', retryOf: id });
  return copy.kind === 'copy' ? commit(rt, { envelope: copy.envelope, mode: 'new' }) : copy;
}
