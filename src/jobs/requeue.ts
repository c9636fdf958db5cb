// Running dead letters again: the new job and the mark on its letter are one transaction, so that two requests of one
// moment make one run.

import type { Envelope } from '../core/envelope.ts';
import type { Json } from '../core/json.ts';
import { insertJobsIf } from '../store/accept.ts';
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
import { copyOf } from './copy.ts';
import { inputOfRow } from './payloads.ts';
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
  | { readonly kind: 'refused'; readonly letter: string; readonly faults: readonly Fault[] }
  /** Its stored input cannot be read or kept now: nothing was done, try again. */
  | { readonly kind: 'silent'; readonly letter: string };

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
  for (const letter of dryRun ? [] : letters) {
    const outcome = await requeueLetter(rt, letter, undefined);
    outcomes.push(outcome);
    // Its store would keep every other waiting as long.
    if (outcome.kind === 'silent') break;
  }
  return { matched: letters.length, outcomes };
}

async function requeueLetter(rt: Runtime, letter: DeadLetterRow, input: Json | undefined): Promise<Requeued> {
  const { id, task, queue, options, priority, tags, job_id: retryOf } = letter;
  if (options === null) return refused(id, '', 'its message could not be read, so nobody knows what to run');
  const given = input === undefined ? await inputOfRow(rt, letter) : { kind: 'value' as const, value: input };
  const copy = await copyOf(rt, { task, queue, options, priority, tags, input: given }, { source: 'requeue', retryOf });
  switch (copy.kind) {
    case 'silent':
      return { kind: 'silent', letter: id };
    case 'gone':
      return refused(id, 'input', 'is gone from its store; give another');
    case 'refused':
      return { kind: 'refused', letter: id, faults: copy.faults };
    case 'copy':
      return commitRequeue(rt, letter, copy.envelope);
  }
}

async function commitRequeue(rt: Runtime, letter: DeadLetterRow, envelope: Envelope): Promise<Requeued> {
  const { id, task, queue, requeues } = letter;
  const now = envelope.acceptedAt;
  const statements = [
    insertJobsIf([{ envelope, sentAt: now }], now, REQUEUE_GUARD, [id, requeues]),
    markRequeued(id, requeues, envelope.id),
  ];
  // Repeated by its id and its guard, it does nothing; whose run the letter has is then read from the letter.
  await persist(rt, statements, now + PATIENCE_MS);
  const [row] = await query(rt, selectDeadLetter(id));
  const jobId = row === undefined ? null : readDeadLetter(row).requeued_as;
  if (jobId === envelope.id) await sendMarked(rt, [envelope], now);
  if (jobId !== null) return { kind: 'requeued', letter: id, jobId, task, queue };
  return refused(id, '', 'it was deleted meanwhile');
}

function refused(letter: string, path: string, message: string): Requeued {
  return { kind: 'refused', letter, faults: [{ path, message }] };
}
