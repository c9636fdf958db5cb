// Statements of deliveries: what came in from providers, and what became of it.

import { z } from 'zod';
import { MAX_ROWS_SCANNED } from '../core/limits.ts';
import type { Row, Statement } from '../core/ports.ts';

export const VERDICTS = ['accepted', 'duplicate', 'ignored', 'handshake', 'missed', 'recovered'] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Instants are epoch milliseconds. */
const deliveryRow = z
  .object({
    v: z.literal(1),
    id: z.string(),
    provider: z.string(),
    event: z.string(),
    /** The provider's own id of it; null where it sent none. */
    event_id: z.string().nullable(),
    verdict: z.enum(VERDICTS),
    job_id: z.string().nullable(),
    bytes: z.int(),
    latency_ms: z.int(),
    received_at: z.number(),
    redelivered_as: z.string().nullable(),
  })
  .readonly();
export type DeliveryRow = z.infer<typeof deliveryRow>;
export type NewDelivery = Omit<DeliveryRow, 'v' | 'redelivered_as'>;

export function readDelivery(row: Row): DeliveryRow {
  return deliveryRow.parse(row);
}

/** Safe to repeat: what is there already stays as it is. */
export function insertDeliveries(deliveries: readonly NewDelivery[]): Statement {
  return {
    name: 'deliveries',
    sql: `INSERT INTO deliveries (id, v, provider, event, event_id, verdict, job_id, bytes, latency_ms, received_at)
SELECT value ->> 'id', 1, value ->> 'provider', value ->> 'event', value ->> 'event_id', value ->> 'verdict',
       value ->> 'job_id', value ->> 'bytes', value ->> 'latency_ms', value ->> 'received_at' FROM json_each(?1)
WHERE true ON CONFLICT (id) DO NOTHING`,
    params: [JSON.stringify(deliveries)],
  };
}

/** Says that missed deliveries have become jobs after all. */
export function markRecovered(recovered: readonly { readonly id: string; readonly jobId: string }[]): Statement {
  return {
    name: 'recovered',
    sql: `UPDATE deliveries SET verdict = 'recovered', job_id = found.job_id
FROM (SELECT value ->> 'id' AS id, value ->> 'jobId' AS job_id FROM json_each(?1)) AS found
WHERE deliveries.id = found.id AND verdict = 'missed'`,
    params: [JSON.stringify(recovered)],
  };
}

const missedRow = z.object({ id: z.string(), event_id: z.string() }).readonly();
export type MissedRow = z.infer<typeof missedRow>;

export function readMissed(row: Row): MissedRow {
  return missedRow.parse(row);
}

/** Deliveries of a provider that are still missed, of those sent since `since` (epoch ms). Oldest first. */
export function selectMissed(provider: string, since: number, limit: number): Statement {
  return {
    name: 'missed',
    sql: `SELECT id, event_id FROM deliveries
WHERE verdict = 'missed' AND provider = ?1 AND received_at >= ?2 AND event_id IS NOT NULL
ORDER BY received_at LIMIT ?3`,
    params: [provider, since, limit],
  };
}

/** When a delivery may have come: the ids of all that came then are between these. */
export interface Window {
  readonly eventId: string;
  readonly from: string;
  readonly until: string;
}

const takenRow = z.object({ event_id: z.string(), job_id: z.string() }).readonly();

export function readTaken(row: Row): { readonly eventId: string; readonly jobId: string } {
  const { event_id: eventId, job_id: jobId } = takenRow.parse(row);
  return { eventId, jobId };
}

/** Which of these deliveries were written down with a job that is there. Reads only what came in their windows. */
export function selectTaken(provider: string, windows: readonly Window[]): Statement {
  return {
    name: 'missed',
    // CROSS JOIN, so that the windows are walked and not the table.
    sql: `SELECT DISTINCT event_id, job_id FROM json_each(?1) AS came CROSS JOIN deliveries
WHERE deliveries.id BETWEEN came.value ->> 'from' AND came.value ->> 'until'
  AND provider = ?2 AND event_id = came.value ->> 'eventId'
  AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = deliveries.job_id)`,
    params: [JSON.stringify(windows), provider],
  };
}

export function markRedelivered(id: string, jobId: string): Statement {
  return {
    name: 'deliveries',
    sql: `UPDATE deliveries SET redelivered_as = ?2 WHERE id = ?1`,
    params: [id, jobId],
  };
}

export function selectDelivery(id: string): Statement {
  return { name: 'deliveries', sql: `SELECT * FROM deliveries WHERE id = ?1`, params: [id] };
}

/** Every field narrows. Instants are epoch milliseconds. */
export interface DeliveryFilter {
  readonly provider?: string | undefined;
  readonly event?: string | undefined;
  readonly verdict?: Verdict | undefined;
  readonly jobId?: string | undefined;
  readonly eventId?: string | undefined;
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  /** The cursor: ids older than it. */
  readonly before?: string | undefined;
}

/** Like the list of jobs: two statements, what matches in the next window of rows, and how far that window reaches. */
export function selectDeliveries(filter: DeliveryFilter, limit: number): readonly Statement[] {
  const window = `SELECT id FROM deliveries WHERE id < coalesce(?1, '~') ORDER BY id DESC LIMIT ${String(MAX_ROWS_SCANNED)}`;
  return [
    {
      name: 'deliveries',
      sql: `SELECT * FROM deliveries WHERE id < coalesce(?1, '~') AND id >= (SELECT min(id) FROM (${window}))
  AND (?2 IS NULL OR provider = ?2) AND (?3 IS NULL OR event = ?3) AND (?4 IS NULL OR verdict = ?4)
  AND (?5 IS NULL OR job_id = ?5) AND (?6 IS NULL OR event_id = ?6)
  AND (?7 IS NULL OR received_at >= ?7) AND (?8 IS NULL OR received_at < ?8)
ORDER BY id DESC LIMIT ?9`,
      params: [
        filter.before ?? null,
        filter.provider ?? null,
        filter.event ?? null,
        filter.verdict ?? null,
        filter.jobId ?? null,
        filter.eventId ?? null,
        filter.since ?? null,
        filter.until ?? null,
        limit,
      ],
    },
    {
      name: 'deliveries',
      sql: `SELECT count(*) AS scanned, min(id) AS last FROM (${window})`,
      params: [filter.before ?? null],
    },
  ];
}

/** Deletes the oldest deliveries, at most `limit`, whose id is below `before`. */
export function deleteDeliveries(before: string, limit: number): Statement {
  return {
    name: 'deliveries',
    sql: `DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE id < ?1 ORDER BY id LIMIT ?2)`,
    params: [before, limit],
  };
}
