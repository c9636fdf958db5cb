// Statements of the alert that a schedule is due and cannot be run. It is open exactly while the row of the schedule says so:
// each belongs into the transaction that writes that row, after it.

import type { Statement } from '../core/ports.ts';
import { raiseAlerts, type Alert } from './alerts.ts';

const FAILING = 'schedule_failing';

const IS_FAILING = (name: string): string =>
  `EXISTS (SELECT 1 FROM schedules WHERE schedules.name = ${name} AND failing = 1)`;

/** What is wrong with a schedule, for people. */
export function failingAlert(name: string, task: string, trouble: string): Alert {
  const message = `The schedule ${name} is due and cannot be run: ${trouble}.`;
  return { kind: FAILING, target: name, severity: 'warning', message, detail: { task } };
}

export function raiseFailing(alerts: readonly (Alert & { readonly id: string })[], now: number): Statement {
  return raiseAlerts(alerts, now, IS_FAILING(`value ->> 'target'`));
}

/** Returns the targets of what it resolved. */
export function settleFailing(names: readonly string[], now: number): Statement {
  return {
    name: 'alert',
    sql: `UPDATE alerts SET resolved_at = ?2 WHERE kind = '${FAILING}' AND resolved_at IS NULL
  AND target IN (SELECT value FROM json_each(?1)) AND NOT ${IS_FAILING('alerts.target')} RETURNING target`,
    params: [JSON.stringify(names), now],
  };
}
