// Time in: what the one cron trigger does every minute. Safe to miss, to double and to run late. Never throws.

import { retireAlerts } from '../jobs/alerts.ts';
import { logError } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { oweAfterRestart } from './boot.ts';
import { clearSensitive } from './cleared.ts';
import { retireDeliveries } from './deliveries.ts';
import { fireSchedules } from './fire.ts';
import { retireFirings } from './firings.ts';
import { removeOrphans } from './orphans.ts';
import { repair } from './repair.ts';
import { retire } from './retention.ts';
import { syncSchedules } from './sync.ts';
import { forgetUses } from './uses.ts';

/** Runs every part of the tick; one that fails does not keep the others from running. */
export async function tick(rt: Runtime, bootId: string | undefined): Promise<void> {
  if (bootId !== undefined) await attempt('boot', () => oweAfterRestart(rt, bootId));
  await attempt('sync', () => syncSchedules(rt));
  // Before the sweep that sends what they fire.
  await attempt('schedules', () => fireSchedules(rt));
  await repair(rt);
  await attempt('sensitive', () => clearSensitive(rt));
  await attempt('retention', () => retire(rt));
  await attempt('deliveries', () => retireDeliveries(rt));
  await attempt('orphans', () => removeOrphans(rt));
  await attempt('firings', () => retireFirings(rt));
  await attempt('uses', () => forgetUses(rt));
  await attempt('alerts', () => retireAlerts(rt));
}

async function attempt(part: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    logError('tick.failed', error, { part });
  }
}
