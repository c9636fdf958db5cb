// Repair: whatever is owed, lost, expired or stuck is put right. Called by the tick, and in small by idle consumers.

import { IDLE_REPAIR_EVERY_MS, IDLE_REPAIR_ROWS } from '../core/limits.ts';
import { logError } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { expireOverdue } from './expired.ts';
import { recoverLapsed } from './lapsed.ts';
import { cancelOvertaken } from './overtaken.ts';
import { sendOwed, sendOwedPage } from './owed.ts';
import { wakeResumed } from './resumed.ts';
import { resendSuspects } from './suspects.ts';

const SWEEPS: Readonly<Record<string, (rt: Runtime) => Promise<unknown>>> = {
  expired: expireOverdue,
  lapsed: recoverLapsed,
  resumed: wakeResumed,
  overtaken: cancelOvertaken,
  owed: sendOwed,
  suspects: resendSuspects,
};

/** Every sweep in turn; one that fails does not keep the others from running. */
export async function repair(rt: Runtime): Promise<void> {
  for (const [sweep, run] of Object.entries(SWEEPS)) {
    try {
      await run(rt);
    } catch (error) {
      logError('sweep.failed', error, { sweep });
    }
  }
}

/** What a consumer with time on its hands does, now and then: send at most 100 messages that are owed. */
export async function repairIdle(rt: Runtime): Promise<void> {
  const now = rt.clock.now();
  if (now - rt.isolate.idleRepairAt < IDLE_REPAIR_EVERY_MS) return;
  rt.isolate.idleRepairAt = now;
  try {
    await sendOwedPage(rt, IDLE_REPAIR_ROWS, []);
  } catch (error) {
    logError('sweep.failed', error, { sweep: 'idle' });
  }
}
