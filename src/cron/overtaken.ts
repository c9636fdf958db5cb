// Runs of schedules whose next run is due and is to have their place. Its consumer sees to that as well, but a queue that
// takes one job at a time does not bring it before the run that is in its way has ended.

import { SWEEP_PAGE } from '../core/limits.ts';
import { query, transact } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { cancelBefore, selectOvertaking } from '../store/overlap.ts';

export async function cancelOvertaken(rt: Runtime): Promise<void> {
  const now = rt.clock.now();
  const overtaking = (await query(rt, selectOvertaking(now, SWEEP_PAGE))).map(({ id }) => String(id));
  if (overtaking.length > 0) await transact(rt, cancelBefore(overtaking, now));
}
