// Jobs past `expires` that never started: they end, without waiting for their message to say so.

import { SWEEP_PAGE } from '../core/limits.ts';
import { query, transact } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { expireJobs } from '../store/waiting.ts';
import { selectExpired } from '../store/sweeps.ts';

export async function expireOverdue(rt: Runtime): Promise<void> {
  const now = rt.clock.now();
  for (;;) {
    const rows = await query(rt, selectExpired(now, SWEEP_PAGE));
    if (rows.length === 0) return;
    const ids = rows.map(({ id }) => String(id));
    await transact(rt, [expireJobs(ids, now)]);
    if (rows.length < SWEEP_PAGE) return;
  }
}
