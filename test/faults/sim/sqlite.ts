// The database of the simulator: SQLite in memory, answering as D1 does, and telling of every row it changes.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { DatabaseError, type Answer, type Row, type Statement } from '../../../src/core/ports.ts';
import type { State } from '../../../src/core/states.ts';
import { migrationOf } from './mutants.ts';

const MIGRATIONS = join(import.meta.dirname, '../../../migrations');

/** A row of `jobs`, as far as the simulator looks at it. */
export interface JobSeen {
  readonly id: string;
  readonly state: State;
  readonly attempt: number;
  readonly claim: number;
  readonly lost: number;
  readonly lease_until: number | null;
  readonly due_at: number;
  readonly expires_at: number | null;
  readonly started_at: number | null;
  readonly finished_at: number | null;
  readonly revoke_requested: number;
  readonly sent_at: number | null;
  readonly source: string;
  readonly retry_of: string | null;
  readonly tags: string;
  readonly options: string;
  readonly result_key: string | null;
  readonly cleared_at: number | null;
  readonly result: string | null;
  readonly error: string | null;
  readonly attempts: string;
  readonly schedule: string | null;
  readonly turn: number;
  readonly parked_for: string | null;
}

/** A row of `schedules`, as far as the simulator looks at it. */
export interface ScheduleSeen {
  readonly name: string;
  readonly options: string;
  readonly cron: string | null;
  readonly every_ms: number | null;
  readonly ends_at: number | null;
  readonly catch_up: string;
  readonly catch_up_most: number;
  readonly paused_at: number | null;
  readonly revision: number;
  readonly decided_until: number;
  readonly next_at: number | null;
}

export interface FiringSeen {
  readonly schedule: string;
  readonly due_at: number;
  readonly outcome: string;
  readonly job_id: string | null;
}

export interface LetterSeen {
  readonly id: string;
  readonly job_id: string | null;
  readonly requeues: number;
  readonly requeued_as: string | null;
}

const JOB_COLUMNS = [
  'id',
  'state',
  'attempt',
  'claim',
  'lost',
  'lease_until',
  'due_at',
  'expires_at',
  'started_at',
  'finished_at',
  'revoke_requested',
  'sent_at',
  'source',
  'retry_of',
  'tags',
  'options',
  'result_key',
  'cleared_at',
  'result',
  'error',
  'attempts',
  'schedule',
  'turn',
  'parked_for',
] as const satisfies readonly (keyof JobSeen)[];
const LETTER_COLUMNS = ['id', 'job_id', 'requeues', 'requeued_as'] as const satisfies readonly (keyof LetterSeen)[];
const SCHEDULE_COLUMNS = [
  'name',
  'options',
  'cron',
  'every_ms',
  'ends_at',
  'catch_up',
  'catch_up_most',
  'paused_at',
  'revision',
  'decided_until',
  'next_at',
] as const satisfies readonly (keyof ScheduleSeen)[];
const FIRING_COLUMNS = ['schedule', 'due_at', 'outcome', 'job_id'] as const satisfies readonly (keyof FiringSeen)[];

export type Change =
  | { readonly kind: 'job-made'; readonly row: JobSeen }
  | { readonly kind: 'job-changed'; readonly row: JobSeen }
  | { readonly kind: 'job-deleted'; readonly id: string }
  | { readonly kind: 'letter-made'; readonly row: LetterSeen }
  | { readonly kind: 'letter-changed'; readonly row: LetterSeen }
  | { readonly kind: 'schedule-made' | 'schedule-changed'; readonly row: ScheduleSeen }
  | { readonly kind: 'schedule-deleted'; readonly name: string }
  | { readonly kind: 'firing-made' | 'firing-changed'; readonly row: FiringSeen };

/** What took effect together. */
export interface Committed {
  readonly answers: readonly Answer[];
  readonly changes: readonly Change[];
}

interface Prepared {
  readonly statement: StatementSync;
  readonly returnsRows: boolean;
}

const TABLES = ['jobs', 'dead_letters', 'marks', 'queue_controls', 'audit_log', 'alerts', 'schedules', 'firings'];

export class Sqlite {
  readonly #db = new DatabaseSync(':memory:');
  readonly #prepared = new Map<string, Prepared>();
  #changes: Change[] = [];

  constructor() {
    // Otherwise statements that write keep their journals in files.
    this.#db.exec('PRAGMA temp_store = MEMORY');
    for (const file of readdirSync(MIGRATIONS).sort()) {
      this.#db.exec(migrationOf(file, readFileSync(join(MIGRATIONS, file), 'utf8')));
    }
    // The net under the guards of the code: it is the guards that are tried here.
    this.#db.exec('DROP TRIGGER IF EXISTS jobs_final_is_final');
    this.#watch('jobs', 'INSERT', 'job-made', JOB_COLUMNS);
    this.#watch('jobs', 'UPDATE', 'job-changed', JOB_COLUMNS);
    this.#watch('dead_letters', 'INSERT', 'letter-made', LETTER_COLUMNS);
    this.#watch('dead_letters', 'UPDATE', 'letter-changed', LETTER_COLUMNS);
    this.#watch('schedules', 'INSERT', 'schedule-made', SCHEDULE_COLUMNS);
    this.#watch('schedules', 'UPDATE', 'schedule-changed', SCHEDULE_COLUMNS);
    this.#watch('firings', 'INSERT', 'firing-made', FIRING_COLUMNS);
    this.#watch('firings', 'UPDATE', 'firing-changed', FIRING_COLUMNS);
    this.#db.function('schedule_deleted', (name) => {
      this.#changes.push({ kind: 'schedule-deleted', name: String(name) });
      return null;
    });
    this.#db.exec(
      'CREATE TEMP TRIGGER watch_ends AFTER DELETE ON main.schedules BEGIN SELECT schedule_deleted(old.name); END',
    );
    this.#db.function('job_deleted', (id) => {
      this.#changes.push({ kind: 'job-deleted', id: String(id) });
      return null;
    });
    this.#db.exec('CREATE TEMP TRIGGER watch_deletes AFTER DELETE ON main.jobs BEGIN SELECT job_deleted(old.id); END');
  }

  /** Empty tables; what was prepared stays. */
  reset(): void {
    for (const table of TABLES) this.#db.exec(`DELETE FROM ${table}`);
    this.#changes = [];
  }

  /** How many alerts are open that the trigger has stopped. */
  get openAlerts(): number {
    const sql = `SELECT count(*) AS n FROM alerts WHERE kind = 'cron_stopped' AND resolved_at IS NULL`;
    return Number(this.#db.prepare(sql).get()?.['n']);
  }

  /** Runs all of them or none. Throws a DatabaseError. */
  commit(statements: readonly Statement[]): Committed {
    this.#changes = [];
    const together = statements.length > 1;
    if (together) this.#db.exec('BEGIN');
    try {
      const answers = statements.map((statement) => this.#run(statement));
      if (together) this.#db.exec('COMMIT');
      return { answers, changes: this.#changes };
    } catch (error) {
      if (together) this.#db.exec('ROLLBACK');
      throw databaseError(statements.map(({ name }) => name).join('+'), error);
    }
  }

  #run({ sql, params }: Statement): Answer {
    const { statement, returnsRows } = this.#prepare(sql);
    const values: SQLInputValue[] = [...params];
    if (!returnsRows) return { rows: [], changes: Number(statement.run(...values).changes) };
    const rows: readonly Row[] = statement.all(...values);
    return { rows, changes: sql.trimStart().startsWith('SELECT') ? 0 : rows.length };
  }

  #prepare(sql: string): Prepared {
    const known = this.#prepared.get(sql);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(sql);
    const prepared = { statement, returnsRows: statement.columns().length > 0 };
    this.#prepared.set(sql, prepared);
    return prepared;
  }

  #watch(
    table: string,
    event: string,
    kind: Exclude<Change['kind'], 'job-deleted' | 'schedule-deleted'>,
    columns: readonly string[],
  ): void {
    const name = kind.replace('-', '_');
    this.#db.function(name, { varargs: true }, (...values) => {
      const row: unknown = Object.fromEntries(columns.map((column, at) => [column, values[at]]));
      this.#changes.push({ kind, row } as Change);
      return null;
    });
    const values = columns.map((column) => `new.${column}`).join(', ');
    this.#db.exec(
      `CREATE TEMP TRIGGER watch_${name} AFTER ${event} ON main.${table} BEGIN SELECT ${name}(${values}); END`,
    );
  }
}

// ERROR, TOOBIG, CONSTRAINT, MISMATCH, AUTH, RANGE: what D1's adapter takes for a refusal.
const REFUSED: readonly unknown[] = [1, 18, 19, 20, 23, 25];

function databaseError(name: string, error: unknown): DatabaseError {
  const code: unknown = error instanceof Error && 'errcode' in error ? error.errcode : undefined;
  const refused = typeof code !== 'number' || REFUSED.includes(code & 0xff);
  const message = error instanceof Error ? error.message : String(error);
  return new DatabaseError(refused ? 'refused' : 'outage', `${name}: ${message}`, { cause: error });
}
