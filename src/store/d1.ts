// The database port on D1. The only file that knows how D1 answers and fails.

import { DatabaseError, type Answer, type Database, type Row, type Statement } from '../core/ports.ts';

/** Statements sent and rows written since the isolate started, by the name of the statement. Exact. */
export interface StatementCount {
  statements: number;
  rowsWritten: number;
  rowsRead: number;
}

export type StatementCounts = Map<string, StatementCount>;

/** What the database said last of its size: pages in use, without those that deletions have freed. */
export interface DatabaseSize {
  bytes: number;
}

/** Counts what it does in `counts`, and keeps `size` up to date. */
export function d1Database(binding: D1Database, counts: StatementCounts, size: DatabaseSize = { bytes: 0 }): Database {
  const prepare = (statement: Statement): D1PreparedStatement =>
    binding.prepare(statement.sql).bind(...statement.params);
  const answer = (statement: Statement, result: D1Result<Row>): Answer => {
    count(counts, statement.name, result.meta);
    size.bytes = result.meta.size_after;
    return { rows: result.results, changes: result.meta.changes };
  };
  return {
    async run(statement) {
      try {
        return answer(statement, await prepare(statement).all<Row>());
      } catch (error) {
        throw databaseError(statement.name, error);
      }
    },
    async batch(statements) {
      try {
        const results = await binding.batch<Row>(statements.map(prepare));
        return statements.map((statement, at) => {
          const result = results[at];
          if (result === undefined) throw new Error('D1 answered fewer results than statements.');
          return answer(statement, result);
        });
      } catch (error) {
        throw databaseError(statements.map(({ name }) => name).join('+'), error);
      }
    },
  };
}

function count(counts: StatementCounts, name: string, meta: D1Meta): void {
  const entry = counts.get(name) ?? { statements: 0, rowsWritten: 0, rowsRead: 0 };
  entry.statements += 1;
  entry.rowsWritten += meta.rows_written;
  entry.rowsRead += meta.rows_read;
  counts.set(name, entry);
}

// What SQLite or the client says of the statement itself. Everything else (lost connections, resets, overload, text
// that is not documented yet) is an outage: treating an outage as a refusal would lose work, the reverse only time.
const REFUSED =
  /SQLITE_(?:CONSTRAINT|ERROR|MISMATCH|TOOBIG|RANGE|AUTH)|D1_(?:TYPE|COLUMN_NOTFOUND|DUMP|EXEC)_?ERROR|a final state never changes/;

function databaseError(name: string, error: unknown): DatabaseError {
  const message = error instanceof Error ? error.message : String(error);
  return new DatabaseError(REFUSED.test(message) ? 'refused' : 'outage', `${name}: ${message}`, { cause: error });
}
