// Statements of the API that read or revoke jobs.

import { MAX_ROWS_SCANNED } from '../core/limits.ts';
import type { Statement } from '../core/ports.ts';
import { guard, target, type State } from '../core/states.ts';
import { STANDING_COLUMNS } from './rows.ts';

export function selectJob(id: string): Statement {
  return { name: 'job', sql: `SELECT * FROM jobs WHERE id = ?1`, params: [id] };
}

export function selectStanding(id: string): Statement {
  return { name: 'standing', sql: `SELECT ${STANDING_COLUMNS} FROM jobs WHERE id = ?1`, params: [id] };
}

/** Every field narrows. Instants are epoch milliseconds. */
export interface JobFilter {
  readonly state?: State | undefined;
  readonly task?: string | undefined;
  readonly queue?: string | undefined;
  readonly tag?: string | undefined;
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  /** Part of the id, the task, the error, or (`inInput`) the input. */
  readonly q?: string | undefined;
  readonly inInput?: boolean;
  /** The cursor: ids older than it. */
  readonly before?: string | undefined;
}

/**
 * Two statements of one transaction: the jobs that match among the next {@link MAX_ROWS_SCANNED}, newest first, at most
 * `limit`; and how many rows that window has (`scanned`) and which id it ends at (`last`, NULL at the table's end).
 */
export function selectJobs(filter: JobFilter, limit: number, now: number): readonly Statement[] {
  const window = `SELECT id FROM jobs WHERE id < coalesce(?1, '~') ORDER BY id DESC LIMIT ${String(MAX_ROWS_SCANNED)}`;
  return [
    {
      name: 'jobs',
      sql: `SELECT * FROM jobs WHERE id < coalesce(?1, '~')
  AND id >= (SELECT min(id) FROM (${window}))
  AND (?2 IS NULL OR iif(state = 'SCHEDULED' AND due_at <= ?9, 'PENDING', state) = ?2)
  AND (?3 IS NULL OR task = ?3) AND (?4 IS NULL OR queue = ?4)
  AND (?5 IS NULL OR EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value = ?5))
  AND (?6 IS NULL OR created_at >= ?6) AND (?7 IS NULL OR created_at < ?7)
  AND (?8 IS NULL OR instr(id, ?8) OR instr(task, ?8) OR (?11 AND instr(input, ?8)) OR instr(coalesce(error, ''), ?8))
ORDER BY id DESC LIMIT ?10`,
      params: [
        filter.before ?? null,
        filter.state ?? null,
        filter.task ?? null,
        filter.queue ?? null,
        filter.tag ?? null,
        filter.since ?? null,
        filter.until ?? null,
        filter.q ?? null,
        now,
        limit,
        filter.inInput === true ? 1 : 0,
      ],
    },
    {
      name: 'jobs',
      sql: `SELECT count(*) AS scanned, min(id) AS last FROM (${window})`,
      params: [filter.before ?? null],
    },
  ];
}

/** What a job was before, the revocation of one that waits, and the request to one that runs. One transaction. */
export function revokeJob(id: string, terminate: boolean, now: number): readonly Statement[] {
  return [
    { name: 'job', sql: `SELECT * FROM jobs WHERE id = ?1`, params: [id] },
    {
      name: 'revoke',
      sql: `UPDATE jobs SET state = ${target('revoke')}, finished_at = ?2, waiting_for = NULL,
  error = json_object('code', 'revoked', 'message', 'Revoked before it started.', 'fingerprint', '')
WHERE id = ?1 AND finished_at IS NULL AND ${guard('revoke')}`,
      params: [id, now],
    },
    {
      name: 'revoke',
      sql: `UPDATE jobs SET revoke_requested = max(revoke_requested, ?2) WHERE id = ?1 AND ${guard('stop')}`,
      params: [id, terminate ? 2 : 1],
    },
  ];
}
