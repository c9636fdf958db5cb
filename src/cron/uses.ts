// Counts of what can no longer be used anyway.

import { RETENTION_PAGE } from '../core/limits.ts';
import { transact } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deleteUses } from '../store/uses.ts';

export async function forgetUses(rt: Runtime): Promise<void> {
  await transact(rt, [deleteUses(rt.clock.now(), RETENTION_PAGE)]);
}
