// What became of due times leaves after 30 days.

import { RETENTION_PAGE } from '../core/limits.ts';
import { KEEP_FIRINGS_MS } from '../core/limits-schedules.ts';
import { transact } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deleteFirings } from '../store/firings.ts';

export async function retireFirings(rt: Runtime): Promise<void> {
  await transact(rt, [deleteFirings(rt.clock.now() - KEEP_FIRINGS_MS, RETENTION_PAGE)]);
}
