// Statements of the API that look at jobs.

import { MAX_ROWS_SCANNED } from '../core/limits.ts';
import type { Statement } from '../core/ports.ts';
import type { State } from '../core/states.ts';
import { pauseColumns } from './queue-controls.ts';
import { STANDING_COLUMNS } from './rows.ts';

export function selectJob(id: string, now: number): Statement {
  return { name: 'job', sql: `SELECT *, ${pauseColumns('?2')} FROM jobs WHERE id = ?1`, params: [id, now] };
}

export function selectStanding(id: string, now: number): Statement {
  const sql = `SELECT ${STANDING_COLUMNS}, ${pauseColumns('?2')} FROM jobs WHERE id = ?1`;
  return { name: 'standing', sql, params: [id, now] };
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

/** SQL that holds for the jobs a filter matches, its cursor apart; {@link matchParams} are the first nine parameters. */
export const MATCHES = `(?1 IS NULL OR iif(state = 'SCHEDULED' AND due_at <= ?8, 'PENDING', state) = ?1)
  AND (?2 IS NULL OR task = ?2) AND (?3 IS NULL OR queue = ?3)
  AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value = ?4))
  AND (?5 IS NULL OR created_at >= ?5) AND (?6 IS NULL OR created_at < ?6)
  AND (?7 IS NULL OR instr(id, ?7) OR instr(task, ?7) OR (?9 AND instr(input, ?7)) OR instr(coalesce(error, ''), ?7))`;

export function matchParams(filter: JobFilter, now: number): Statement['params'] {
  return [
    filter.state ?? null,
    filter.task ?? null,
    filter.queue ?? null,
    filter.tag ?? null,
    filter.since ?? null,
    filter.until ?? null,
    filter.q ?? null,
    now,
    filter.inInput === true ? 1 : 0,
  ];
}

/**
 * Two statements of one transaction: the jobs that match among the next {@link MAX_ROWS_SCANNED}, newest first, at most
 * `limit`; and how many rows that window has (`scanned`) and which id it ends at (`last`, NULL at the table's end).
 */
export function selectJobs(filter: JobFilter, limit: number, now: number): readonly Statement[] {
  const window = (before: string): string =>
    `SELECT id FROM jobs WHERE id < coalesce(${before}, '~') ORDER BY id DESC LIMIT ${String(MAX_ROWS_SCANNED)}`;
  const before = filter.before ?? null;
  return [
    {
      name: 'jobs',
      sql: `SELECT *, ${pauseColumns('?8')} FROM jobs WHERE id < coalesce(?10, '~')
  AND id >= (SELECT min(id) FROM (${window('?10')}))
  AND ${MATCHES}
ORDER BY id DESC LIMIT ?11`,
      params: [...matchParams(filter, now), before, limit],
    },
    {
      name: 'jobs',
      sql: `SELECT count(*) AS scanned, min(id) AS last FROM (${window('?1')})`,
      params: [before],
    },
  ];
}
