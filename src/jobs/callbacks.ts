// Callbacks: what a job is told to call when it ends, and the messages of the jobs that do so.

import type { JobOptions } from '../core/envelope.ts';
import { followUpId } from '../core/ids.ts';
import { takeCallbacks } from '../store/callbacks.ts';
import { sendTaken } from './hand-out.ts';
import type { Runtime } from './runtime.ts';

/** The callback of a job: its id is known from the start, since a trigger makes its row and SQL has no hash. */
export function callbackOf(jobId: string, url: string): NonNullable<JobOptions['callback']> {
  return { id: followUpId(jobId, 'callback', 0), url };
}

/** The options of a copy: what it calls is the same, but it calls for itself. */
export function withOwnCallback(options: JobOptions, jobId: string): JobOptions {
  return options.callback === undefined ? options : { ...options, callback: callbackOf(jobId, options.callback.url) };
}

/** Sends the messages of callbacks whose rows were just committed. Never rejects: those it misses are owed one. */
export async function sendCallbacks(rt: Runtime, ids: readonly string[]): Promise<void> {
  const missed = { event: 'callback.unsent', fields: { callbacks: ids.length } };
  await sendTaken(rt, (now) => takeCallbacks(ids, now), missed);
}
