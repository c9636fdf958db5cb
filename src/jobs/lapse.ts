// Attempts whose lease ran out without an outcome: counted as lost, and the job waits again or has failed for good.

import { MAX_LOST } from '../core/limits.ts';
import { loseJobs, readFinished, type Loss } from '../store/claims.ts';
import { recordFailures } from '../store/dead-letters.ts';
import { transact } from './database.ts';
import { logInfo } from './log.ts';
import type { Runtime } from './runtime.ts';
import { deadLetterId, errorOf } from './verdict.ts';

/**
 * Returns the ids that wait again, and how many were given up in all. Who waits counts as sent at `now`: whoever calls this
 * claims them or hands out their messages.
 */
export async function loseLapsed(
  rt: Runtime,
  lapsed: readonly { readonly id: string; readonly task: string; readonly claim: number }[],
  now: number,
): Promise<{ readonly waiting: readonly string[]; readonly lost: number }> {
  if (lapsed.length === 0) return { waiting: [], lost: 0 };
  const text = `Its attempts vanished without an outcome; after ${String(MAX_LOST + 1)} of them it is given up.`;
  const losses = lapsed.map(({ id, task, claim }): Loss => ({
    id,
    claim,
    error: errorOf(task, 'lost', new Error(text)),
    deadLetterId: deadLetterId(id),
  }));
  const [lost] = await transact(rt, [loseJobs(losses, now), recordFailures(losses)]);
  const states = (lost?.rows ?? []).map(readFinished);
  for (const { id, state } of states) logInfo('attempt.lost', { job: id, state });
  return { waiting: states.filter(({ state }) => state === 'PENDING').map(({ id }) => id), lost: states.length };
}
