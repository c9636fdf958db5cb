// A local restart empties every queue, and so does a hot reload. The first tick after either makes every open job owed
// a message.

import { newId } from '../core/ids.ts';
import { query, transact } from '../jobs/database.ts';
import { logInfo } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { oweEverything, readMark, writeMark } from '../store/sweeps.ts';

const BOOT = 'boot.id';

/** Does its work once for each boot id and isolate. Production has no boot id, and its queues keep what they hold. */
export async function oweAfterRestart(rt: Runtime, boot: string): Promise<void> {
  rt.isolate.name ??= newId(rt.clock.now(), rt.random.bytes(9));
  const bootId = `${boot}/${rt.isolate.name}`;
  const [mark] = await query(rt, readMark(BOOT));
  if (mark?.['value'] === bootId) return;
  const [owed] = await transact(rt, [oweEverything(QUEUE_NAMES), writeMark(BOOT, bootId)]);
  logInfo('boot.recovered', { boot: bootId, owed: owed?.changes ?? 0 });
}
