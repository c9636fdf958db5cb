// How full the database is, as its own answers say: what is refused and what is kept less long depends on it.

import { ACCEPT_DEADLINE_MS, DEFAULT_DATABASE_LIMIT_MB, FILLING, FULL } from '../core/limits.ts';
import { query } from './database.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/** Size and limit of the database in bytes; 0 until this isolate has had an answer from it. */
export function roomOf({ isolate, env }: Runtime): { readonly bytes: number; readonly limitBytes: number } {
  const configured = Number(env.DATABASE_LIMIT_MB ?? '');
  const megabytes = Number.isFinite(configured) && configured > 0 ? configured : DEFAULT_DATABASE_LIMIT_MB;
  return { bytes: isolate.size.bytes, limitBytes: megabytes * 1_000_000 };
}

function fill(rt: Runtime): number {
  const { bytes, limitBytes } = roomOf(rt);
  return bytes / limitBytes;
}

/** Whether finished jobs have to leave sooner. */
export function isFilling(rt: Runtime): boolean {
  return fill(rt) >= FILLING;
}

/** Whether no more may be accepted. Never rejects: a database that does not answer is not known to be full. */
export async function isFull(rt: Runtime): Promise<boolean> {
  if (fill(rt) < FULL) return false;
  try {
    // What this isolate heard last may be long ago, and rows have left since.
    await query(rt, { name: 'size', sql: 'SELECT 1', params: [] }, ACCEPT_DEADLINE_MS);
  } catch (error) {
    logError('database.size_unknown', error, {});
    return false;
  }
  const full = fill(rt) >= FULL;
  if (full) logError('database.full', new Error('No more jobs are accepted.'), { ...roomOf(rt) });
  return full;
}
