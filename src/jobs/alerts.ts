// What people should look at: raised as often as it is noticed, one alert a trouble, and settled when it is over.

import { newId } from '../core/ids.ts';
import { KEEP_ALERTS_MS, RETENTION_PAGE } from '../core/limits.ts';
import type { Row } from '../core/ports.ts';
import { deleteAlerts, raiseAlerts, settleAlert, type Alert } from '../store/alerts.ts';
import { query, transact } from './database.ts';
import { logError, logInfo } from './log.ts';
import type { Runtime } from './runtime.ts';

/** Opens an alert, or counts the one of its kind and target that is open. Rejects where the database does not answer. */
export async function raise(rt: Runtime, alert: Alert): Promise<void> {
  const now = rt.clock.now();
  logOpened(await query(rt, raiseAlerts([withId(rt, alert, now)], now)));
}

/** An alert as it would be opened now. */
export function withId(rt: Runtime, alert: Alert, now: number): Alert & { readonly id: string } {
  return { ...alert, id: newId(now, rt.random.bytes(9)) };
}

/** `rows`: of alerts that were raised. Each is said once, when it is opened: a log is read for what is new. */
export function logOpened(rows: readonly Row[]): void {
  for (const row of rows.filter(({ times }) => times === 1)) {
    const [kind, target, severity] = [String(row['kind']), String(row['target']), String(row['severity'])];
    logError('alert.opened', new Error(String(row['message'])), { kind, target, severity });
  }
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
