// Statements of debug.effect: one row per run, counted from outside.

import { z } from 'zod';
import type { Row, Statement } from '../core/ports.ts';

export function insertEffect(effect: { key: string; jobId: string; attempt: number; at: number }): Statement {
  return {
    name: 'effect',
    sql: `INSERT INTO debug_effects (key, job_id, attempt, at) VALUES (?1, ?2, ?3, ?4)`,
    params: [effect.key, effect.jobId, effect.attempt, effect.at],
  };
}

/** How often each key that starts with `prefix` was written. */
export function countEffects(prefix: string): Statement {
  return {
    name: 'effects',
    sql: `SELECT key, count(*) AS count FROM debug_effects WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1
GROUP BY key ORDER BY key`,
    params: [prefix],
  };
}

const effectRow = z.object({ key: z.string(), count: z.int() });

export function readEffects(rows: readonly Row[]): { total: number; counts: Record<string, number> } {
  const counts = rows.map((row) => effectRow.parse(row));
  return {
    total: counts.reduce((sum, { count }) => sum + count, 0),
    counts: Object.fromEntries(counts.map(({ key, count }) => [key, count])),
  };
}
