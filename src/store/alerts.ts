// Statements of alerts: what people should look at.

import { z } from 'zod';
import type { Json } from '../core/json.ts';
import { MAX_ROWS_SCANNED } from '../core/limits.ts';
import type { Row, Statement } from '../core/ports.ts';
import { json } from './rows.ts';

const ROW_VERSION = 1;
export const SEVERITIES = ['warning', 'critical'] as const;
export const ALERT_STATES = ['open', 'resolved'] as const;

export interface Alert {
  /** What kind of trouble: `cron_stopped`. */
  readonly kind: string;
  /** What it is about. Of one kind and target at most one alert is open. */
  readonly target: string;
  readonly severity: (typeof SEVERITIES)[number];
  /** For people: what is wrong, since when, and what to do. */
  readonly message: string;
  readonly detail: Readonly<Record<string, Json>>;
}

/** Of the row that is returned: `times` 1 says that it has just been opened. */
const NOTICED = `ON CONFLICT (kind, target) WHERE resolved_at IS NULL DO UPDATE SET severity = excluded.severity,
  message = excluded.message, detail = excluded.detail, seen_at = excluded.seen_at, times = times + 1
RETURNING kind, target, severity, message, times`;

/** Opens each alert under its id, or counts the one that is open and says anew what is wrong. `condition`: of its target. */
export function raiseAlerts(
  alerts: readonly (Alert & { readonly id: string })[],
  now: number,
  condition = 'true',
): Statement {
  return {
    name: 'alert',
    sql: `INSERT INTO alerts (id, v, kind, target, severity, message, detail, opened_at, seen_at, times)
SELECT value ->> 'id', ${String(ROW_VERSION)}, value ->> 'kind', value ->> 'target', value ->> 'severity',
  value ->> 'message', value -> 'detail', ?2, ?2, 1
FROM json_each(?1) WHERE ${condition} ${NOTICED}`,
    params: [JSON.stringify(alerts), now],
  };
}

/** Resolves the alert that is open, and returns its id. */
export function settleAlert(kind: string, target: string, now: number): Statement {
  return {
    name: 'alert',
    sql: `UPDATE alerts SET resolved_at = ?3 WHERE kind = ?1 AND target = ?2 AND resolved_at IS NULL RETURNING id`,
    params: [kind, target, now],
  };
}

/** Every field narrows. */
export interface AlertFilter {
  readonly state?: (typeof ALERT_STATES)[number] | undefined;
  readonly kind?: string | undefined;
  /** The cursor: ids older than it. */
  readonly before?: string | undefined;
}

/**
 * Newest first. The few that are open have an index of their own; else it is as with the list of jobs: what matches in the
 * next window of rows, and how far that window reaches.
 */
export function selectAlerts({ state, kind, before }: AlertFilter, limit: number): readonly Statement[] {
  const narrowed = `id < coalesce(?1, '~') AND (?2 IS NULL OR kind = ?2)`;
  if (state === 'open') {
    const sql = `SELECT * FROM alerts INDEXED BY alerts_open WHERE resolved_at IS NULL AND ${narrowed}
ORDER BY id DESC LIMIT ?3`;
    return [{ name: 'alerts', sql, params: [before ?? null, kind ?? null, limit] }];
  }
  const window = `SELECT id FROM alerts WHERE id < coalesce(?1, '~') ORDER BY id DESC LIMIT ${String(MAX_ROWS_SCANNED)}`;
  return [
    {
      name: 'alerts',
      sql: `SELECT * FROM alerts WHERE ${narrowed} AND id >= (SELECT min(id) FROM (${window}))
  AND (?4 IS NULL OR resolved_at IS NOT NULL) ORDER BY id DESC LIMIT ?3`,
      params: [before ?? null, kind ?? null, limit, state ?? null],
    },
    {
      name: 'alerts',
      sql: `SELECT count(*) AS scanned, min(id) AS last FROM (${window})`,
      params: [before ?? null],
    },
  ];
}

/** Instants are epoch milliseconds. */
const alertRow = z
  .object({
    v: z.literal(ROW_VERSION),
    id: z.string(),
    kind: z.string(),
    target: z.string(),
    severity: z.enum(SEVERITIES),
    message: z.string(),
    detail: json,
    opened_at: z.number(),
    seen_at: z.number(),
    times: z.int(),
    resolved_at: z.number().nullable(),
  })
  .readonly();
export type AlertRow = z.infer<typeof alertRow>;

export function readAlert(row: Row): AlertRow {
  return alertRow.parse(row);
}

/** Deletes alerts that were resolved before `before`, at most `limit`. */
export function deleteAlerts(before: number, limit: number): Statement {
  return {
    name: 'alerts',
    sql: `DELETE FROM alerts WHERE id IN
  (SELECT id FROM alerts WHERE resolved_at < ?1 ORDER BY resolved_at LIMIT ?2)`,
    params: [before, limit],
  };
}
