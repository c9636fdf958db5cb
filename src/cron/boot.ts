// A local restart empties every queue. The first tick of a new boot makes every open job owed a message.

import { query, transact } from '../jobs/database.ts';
import { logInfo } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { oweEverything, readMark, writeMark } from '../store/sweeps.ts';

const BOOT = 'boot.id';

/** Does its work once for each boot id. Production has none, and its queues keep what they hold. */
export async function oweAfterRestart(rt: Runtime, bootId: string): Promise<void> {
  const [mark] = await query(rt, readMark(BOOT));
  if (mark?.['value'] === bootId) return;
  const [owed] = await transact(rt, [oweEverything(QUEUE_NAMES), writeMark(BOOT, bootId)]);
  logInfo('boot.recovered', { boot: bootId, owed: owed?.changes ?? 0 });
}
