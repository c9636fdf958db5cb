// Deliveries leave after 30 days, sooner where the database fills up. Their ids are made of when they came, so the oldest
// are the first of the table.

import { firstIdAt } from '../core/ids.ts';
import { DELIVERIES_PAGE, KEEP_DELIVERIES_FILLING_MS, KEEP_DELIVERIES_MS } from '../core/limits-outside.ts';
import { transact } from '../jobs/database.ts';
import { isFilling } from '../jobs/room.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deleteDeliveries } from '../store/deliveries.ts';

export async function retireDeliveries(rt: Runtime): Promise<void> {
  const keepMs = isFilling(rt) ? KEEP_DELIVERIES_FILLING_MS : KEEP_DELIVERIES_MS;
  await transact(rt, [deleteDeliveries(firstIdAt(rt.clock.now() - keepMs), DELIVERIES_PAGE)]);
}
