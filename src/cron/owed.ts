// Jobs that are owed a message for certain: never sent, sent in vain, or due too far ahead until now.

import type { Envelope } from '../core/envelope.ts';
import { MAX_OWED_PER_TICK, SWEEP_PAGE, TICK_HORIZON_SECONDS } from '../core/limits.ts';
import { query } from '../jobs/database.ts';
import { sendMarked } from '../jobs/hand-out.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { readEnvelope } from '../store/rows.ts';
import { takeOwed } from '../store/sweeps.ts';

const MOST_PAGES = (MAX_OWED_PER_TICK * QUEUE_NAMES.length) / SWEEP_PAGE;

/** Sends what is due within the next 75 s, earliest first, at most 5,000 messages a queue. */
export async function sendOwed(rt: Runtime): Promise<void> {
  const sent = new Map<string, number>();
  const done = new Set<string>();
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const { taken, held } = await sendOwedPage(rt, SWEEP_PAGE, [...done]);
    if (taken.length < SWEEP_PAGE) return;
    for (const { queue } of taken) sent.set(queue, (sent.get(queue) ?? 0) + 1);
    for (const [queue, count] of sent) if (count >= MAX_OWED_PER_TICK) done.add(queue);
    // A queue that takes no more now is tried again by the next tick, not by the next page.
    for (const queue of held) done.add(queue);
  }
}

/** Marks one page as sent, then sends it. Returns what was marked, and the queues that did not take all of theirs. */
export async function sendOwedPage(
  rt: Runtime,
  limit: number,
  exceptQueues: readonly string[],
): Promise<{ readonly taken: readonly Envelope[]; readonly held: ReadonlySet<string> }> {
  const now = rt.clock.now();
  const rows = await query(rt, takeOwed(now + TICK_HORIZON_SECONDS * 1_000, now, limit, exceptQueues));
  const taken = rows.map((row) => {
    const envelope = readEnvelope(row);
    // A pause that is about to end: its message comes when it has.
    return { ...envelope, dueAt: Math.max(envelope.dueAt, Number(row['resumes_at'])) };
  });
  return { taken, held: await sendMarked(rt, taken, now) };
}
