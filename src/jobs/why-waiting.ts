// Why a job waits, asked of those who know it better than its row: how much its queue holds, and who has the lock.

import { within } from '../core/deadline.ts';
import { LOOK_DEADLINE_MS } from '../core/limits.ts';
import { isFinal } from '../core/states.ts';
import { PAUSE } from '../store/queue-controls.ts';
import type { JobRow } from '../store/rows.ts';
import { heldBy, locksOf } from './limits.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/** For `waiting_for` of one job; null where its row says all there is, or nobody answers within a second. */
export async function askWhyWaiting(rt: Runtime, job: JobRow, now: number): Promise<string | null> {
  if (isFinal(job.state) || job.state === 'STARTED' || job.due_at > now || job.paused === 1) return null;
  if (job.parked_for !== null && job.parked_for !== PAUSE) return lockReason(rt, job, job.parked_for);
  if (job.sent_at === null || job.waiting_for !== null || job.parked_for !== null) return null;
  const backlog = await backlogOf(rt, job.queue);
  return backlog === null ? null : `a consumer of the queue ${job.queue} (backlog ${String(backlog)})`;
}

/** Messages a queue holds; null where it does not say so within a second. Never rejects. */
export async function backlogOf(rt: Runtime, queue: string): Promise<number | null> {
  return look(rt, 'queue', async () => (await rt.queues.backlog(queue)).count);
}

// The row says who had it when the job was parked.
async function lockReason(rt: Runtime, job: JobRow, name: string): Promise<string | null> {
  const task = rt.registry.find(job.task);
  const lock = task === undefined ? undefined : locksOf(task, job).find((each) => each.name === name);
  const standing = lock === undefined ? null : await look(rt, 'lock', () => rt.locks.standing(name, job.id));
  if (lock === undefined || standing === null) return null;
  const { holders, ahead } = standing;
  return `${heldBy(lock, holders)}${ahead === 0 ? '' : ` (${String(ahead)} before it)`}`;
}

async function look<T>(rt: Runtime, what: string, ask: () => Promise<T>): Promise<T | null> {
  try {
    const answer = await within(rt.clock, LOOK_DEADLINE_MS, ask());
    return answer.inTime ? answer.value : null;
  } catch (error) {
    logError('look.failed', error, { of: what });
    return null;
  }
}
