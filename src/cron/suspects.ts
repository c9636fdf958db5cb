// Jobs whose message may be lost: due and sent long ago, and nobody has claimed them. Doubting a backlog that is merely
// long would send everything in it twice, so a message counts as lost only where its queue gives a reason.

import { within } from '../core/deadline.ts';
import {
  RESEND_AFTER_MS,
  MAX_SUSPECTS_PER_TICK,
  SUSPECT_AFTER_MS,
  STATEMENT_DEADLINE_MS,
  SUSPECT_GAP_MS,
  SWEEP_PAGE,
} from '../core/limits.ts';
import type { Backlog } from '../core/ports.ts';
import { query } from '../jobs/database.ts';
import { sendMarked } from '../jobs/hand-out.ts';
import { logError, logInfo } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { readEnvelope } from '../store/rows.ts';
import { readSuspect, selectSuspectQueues, selectSuspects, takeSuspects, type Suspect } from '../store/sweeps.ts';

export async function resendSuspects(rt: Runtime): Promise<void> {
  const before = rt.clock.now() - SUSPECT_AFTER_MS;
  const queues = await query(rt, selectSuspectQueues(QUEUE_NAMES, before));
  for (const { queue } of queues) {
    try {
      await resendOf(rt, String(queue), before);
    } catch (error) {
      logError('sweep.failed', error, { sweep: 'suspects', queue: String(queue) });
    }
  }
}

async function resendOf(rt: Runtime, queue: string, before: number): Promise<void> {
  const now = rt.clock.now();
  const rows = await query(rt, selectSuspects(queue, before, MAX_SUSPECTS_PER_TICK));
  const backlog = await within(rt.clock, STATEMENT_DEADLINE_MS, rt.queues.backlog(queue));
  if (!backlog.inTime) throw new Error('The queue did not say how much it holds.');
  const lost = rows.map(readSuspect).filter((suspect) => isLost(suspect, backlog.value, now));
  for (let from = 0; from < lost.length; from += SWEEP_PAGE) {
    const page = await query(rt, takeSuspects(lost.slice(from, from + SWEEP_PAGE), now));
    logInfo('message.resent', { queue, messages: page.length });
    await sendMarked(rt, page.map(readEnvelope), now);
  }
}

/** Whether the queue's own numbers say that a message sent then is no longer in it. */
export function isLost(
  { sent_at, resends, parked_for }: Suspect,
  { count, oldestSentAt }: Backlog,
  now: number,
): boolean {
  // It has no message at all, and has waited for its wake for long enough.
  if (count === 0 || parked_for !== null) return true;
  if (oldestSentAt !== undefined && sent_at < oldestSentAt - SUSPECT_GAP_MS) return true;
  return now - sent_at >= RESEND_AFTER_MS * 2 ** resends;
}
