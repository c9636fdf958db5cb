// Statements that count uses of what may be used only so often.

import type { Statement } from '../core/ports.ts';

/** Counts one more use of `name`; returns no row where `most` have been counted. Instants are epoch milliseconds. */
export function countUse(name: string, most: number, expiresAt: number): Statement {
  return {
    name: 'use',
    sql: `INSERT INTO uses (name, count, expires_at) VALUES (?1, 1, ?3)
ON CONFLICT (name) DO UPDATE SET count = count + 1 WHERE count < ?2
RETURNING count`,
    params: [name, most, expiresAt],
  };
}

export function deleteUses(before: number, limit: number): Statement {
  return {
    name: 'use',
    sql: `DELETE FROM uses WHERE name IN (SELECT name FROM uses WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)`,
    params: [before, limit],
  };
}
