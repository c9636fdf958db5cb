// Jobs that a pause has parked, of queues that are no longer paused or nearly so: they are sent, each for when it may run.

import { MAX_WOKEN_PER_TICK, SWEEP_PAGE, TICK_HORIZON_SECONDS } from '../core/limits.ts';
import { query } from '../jobs/database.ts';
import { sendMarked } from '../jobs/hand-out.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { readPause, selectParkedQueues, selectPauses, takeUnpaused } from '../store/queue-controls.ts';
import { readEnvelope } from '../store/rows.ts';

/** At most 5,000 messages a queue. Returns how many. */
export async function wakeResumed(rt: Runtime, queues: readonly string[] = QUEUE_NAMES): Promise<number> {
  const parked = await query(rt, selectParkedQueues(queues));
  if (parked.length === 0) return 0;
  const now = rt.clock.now();
  const pauses = new Map((await query(rt, selectPauses(now))).map(readPause).map((pause) => [pause.queue, pause]));
  let woken = 0;
  for (const { queue } of parked) {
    const pause = pauses.get(String(queue));
    const from = pause === undefined ? now : (pause.paused_until ?? Infinity);
    if (from - now <= TICK_HORIZON_SECONDS * 1_000) woken += await wakeQueue(rt, String(queue), from);
  }
  return woken;
}

/** Sends what waits in a queue, for `from` (epoch ms) at the earliest. */
async function wakeQueue(rt: Runtime, queue: string, from: number): Promise<number> {
  let woken = 0;
  while (woken < MAX_WOKEN_PER_TICK) {
    const now = rt.clock.now();
    const taken = (await query(rt, takeUnpaused(queue, now, SWEEP_PAGE))).map(readEnvelope);
    await sendMarked(
      rt,
      taken.map((envelope) => ({ ...envelope, dueAt: Math.max(envelope.dueAt, from) })),
      now,
    );
    woken += taken.length;
    if (taken.length < SWEEP_PAGE) break;
  }
  return woken;
}
