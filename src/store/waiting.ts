// Statements of jobs that wait: what they wait for, and what they are owed.

import type { Statement } from '../core/ports.ts';
import { guard, target } from '../core/states.ts';

/** Ends jobs past `expires` that were never started. */
export function expireJobs(ids: readonly string[], now: number): Statement {
  return {
    name: 'expire',
    sql: `UPDATE jobs SET state = ${target('expire')}, finished_at = ?2, waiting_for = NULL,
  error = json_object('code', 'expired', 'message', 'It did not start before it expired.', 'fingerprint', '')
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('expire')}
  AND started_at IS NULL AND expires_at <= ?2`,
    params: [JSON.stringify(ids), now],
  };
}

/** Makes waiting jobs owed a message, whoever sent the last one: for jobs whose message is about to be acked. */
export function oweJobs(ids: readonly string[]): Statement {
  return {
    name: 'owe',
    sql: `UPDATE jobs SET sent_at = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND sent_at IS NOT NULL`,
    params: [JSON.stringify(ids)],
  };
}

/**
 * Says why jobs wait although they are due, and that their messages go round; returns since when each could have run.
 * Those that do not wait are left alone.
 */
export function explainWaiting(ids: readonly string[], reason: string, now: number): Statement {
  return {
    name: 'explain',
    sql: `UPDATE jobs SET waiting_for = ?2, sent_at = ?3
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('claim')}
RETURNING id, due_at`,
    params: [JSON.stringify(ids), reason, now],
  };
}
