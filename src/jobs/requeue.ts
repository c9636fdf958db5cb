// Running dead letters again: the new job and the mark on its letter are one transaction, so that two requests of one
// moment make one run.

import type { Json } from '../core/json.ts';
import { insertJobIf } from '../store/accept.ts';
import {
  markRequeued,
  readDeadLetter,
  REQUEUE_GUARD,
  selectDeadLetter,
  selectDeadLetters,
  type DeadLetterFilter,
  type DeadLetterRow,
} from '../store/dead-letters.ts';
import { persist, query } from './database.ts';
import { sendMarked } from './hand-out.ts';
import { copyOf } from './inspect.ts';
import type { Fault } from './request.ts';
import type { Runtime } from './runtime.ts';

/** How long an outage is waited out. */
const PATIENCE_MS = 2_000;

export type Requeued =
  | {
      readonly kind: 'requeued';
      readonly letter: string;
      readonly jobId: string;
      readonly task: string;
      readonly queue: string;
    }
  | { readonly kind: 'refused'; readonly letter: string; readonly faults: readonly Fault[] };

/** Runs a letter's job again, with its own input or another. Undefined for an unknown letter. */
export async function requeue(rt: Runtime, letterId: string, input: Json | undefined): Promise<Requeued | undefined> {
  const [row] = await query(rt, selectDeadLetter(letterId));
  return row === undefined ? undefined : requeueLetter(rt, readDeadLetter(row), input);
}

/** What a bulk requeue would touch, or did: letters that match, newest first, at most `limit`. */
export async function requeueMany(
  rt: Runtime,
  filter: DeadLetterFilter,
  limit: number,
  dryRun: boolean,
): Promise<{ readonly matched: number; readonly outcomes: readonly Requeued[] }> {
  const rows = await query(rt, selectDeadLetters({ ...filter, open: true }, limit));
  const letters = rows.map(readDeadLetter);
  const outcomes: Requeued[] = [];
  if (!dryRun) for (const letter of letters) outcomes.push(await requeueLetter(rt, letter, undefined));
  return { matched: letters.length, outcomes };
}

async function requeueLetter(rt: Runtime, letter: DeadLetterRow, input: Json | undefined): Promise<Requeued> {
  const { id, task, queue, options, priority, tags, requeues, job_id: retryOf } = letter;
  if (options === null) {
    const message = 'its message could not be read, so nobody knows what to run';
    return { kind: 'refused', letter: id, faults: [{ path: '', message }] };
  }
  const recipe = { task, queue, options, priority, tags, input: input === undefined ? (letter.input as Json) : input };
  const envelope = copyOf(rt, recipe, { source: 'requeue', retryOf });
  if ('ok' in envelope) return { kind: 'refused', letter: id, faults: envelope.faults };
  const now = envelope.acceptedAt;
  const statements = [
    insertJobIf({ envelope, sentAt: now }, now, REQUEUE_GUARD, [id, requeues]),
    markRequeued(id, requeues, envelope.id),
  ];
  // Repeated by its id and its guard, it does nothing; whose run the letter has is then read from the letter.
  await persist(rt, statements, now + PATIENCE_MS);
  const [row] = await query(rt, selectDeadLetter(id));
  const jobId = row === undefined ? null : readDeadLetter(row).requeued_as;
  if (jobId === envelope.id) await sendMarked(rt, [envelope], now);
  if (jobId !== null) return { kind: 'requeued', letter: id, jobId, task, queue };
  return { kind: 'refused', letter: id, faults: [{ path: '', message: 'it was deleted meanwhile' }] };
}
