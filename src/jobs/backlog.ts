// How much a queue holds, as it says itself: for people, who do not wait long for it.

import { within } from '../core/deadline.ts';
import { BACKLOG_DEADLINE_MS } from '../core/limits.ts';
import type { Runtime } from './runtime.ts';

/** Messages a queue holds; null where it does not say so within a second. Never rejects. */
export async function backlogOf(rt: Runtime, queue: string): Promise<number | null> {
  try {
    const backlog = await within(rt.clock, BACKLOG_DEADLINE_MS, rt.queues.backlog(queue));
    return backlog.inTime ? backlog.value.count : null;
  } catch {
    return null;
  }
}
