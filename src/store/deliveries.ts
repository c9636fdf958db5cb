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
    name: 'deliveries',
    sql: `UPDATE deliveries SET verdict = 'recovered', job_id = found.job_id
FROM (SELECT value ->> 'id' AS id, value ->> 'jobId' AS job_id FROM json_each(?1)) AS found
WHERE deliveries.id = found.id AND verdict = 'missed'`,
    params: [JSON.stringify(recovered)],
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
