// What people should look at: raised as often as it is noticed, one alert a trouble, and settled when it is over.

import { newId } from '../core/ids.ts';
import { KEEP_ALERTS_MS, RETENTION_PAGE } from '../core/limits.ts';
import { deleteAlerts, raiseAlert, settleAlert, type Alert } from '../store/alerts.ts';
import { query, transact } from './database.ts';
import { logError, logInfo } from './log.ts';
import type { Runtime } from './runtime.ts';

/** Opens an alert, or counts the one of its kind and target that is open. Rejects where the database does not answer. */
export async function raise(rt: Runtime, alert: Alert): Promise<void> {
  const now = rt.clock.now();
  const [row] = await query(rt, raiseAlert(newId(now, rt.random.bytes(9)), alert, now));
  const { kind, target, severity } = alert;
  // Once for each alert: a log is read for what is new.
  if (row?.['times'] === 1) logError('alert.opened', new Error(alert.message), { kind, target, severity });
}

/** Resolves the alert of this kind and target, where one is open. */
export async function settle(rt: Runtime, kind: string, target: string): Promise<void> {
  const resolved = await query(rt, settleAlert(kind, target, rt.clock.now()));
  if (resolved.length > 0) logInfo('alert.resolved', { kind, target });
}

/** Deletes a page of alerts that were resolved long ago. */
export async function retireAlerts(rt: Runtime): Promise<void> {
  await transact(rt, [deleteAlerts(rt.clock.now() - KEEP_ALERTS_MS, RETENTION_PAGE)]);
}
