// Running jobs whose lease ran out: their attempts are counted as lost, and those that wait again are sent.

import { SWEEP_PAGE } from '../core/limits.ts';
import { query } from '../jobs/database.ts';
import { sendMarked } from '../jobs/hand-out.ts';
import { loseLapsed } from '../jobs/lapse.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { readEnvelope } from '../store/rows.ts';
import { readLapsed, selectLapsed, selectOpen } from '../store/sweeps.ts';

export async function recoverLapsed(rt: Runtime): Promise<void> {
  for (;;) {
    const now = rt.clock.now();
    const lapsed = (await query(rt, selectLapsed(QUEUE_NAMES, now, SWEEP_PAGE))).map(readLapsed);
    const { waiting, lost } = await loseLapsed(rt, lapsed, now);
    if (waiting.length > 0) {
      const rows = await query(rt, selectOpen(waiting));
      await sendMarked(rt, rows.map(readEnvelope), now);
    }
    if (lapsed.length < SWEEP_PAGE || lost === 0) return;
  }
}
