// The leases of one lock and who waits for one. A lease belongs to a job, and is in the hands of the invocation that runs
// it. Whoever is next is given a turn: a lease kept for him while his message is under way.

import { z } from 'zod';
import { LEASE_MS, MAX_TURN_DOUBLINGS, TURN_MS } from '../core/limits.ts';
import type { Sql } from './sql.ts';

/** A job that wants a lease. */
export interface LeaseAsk {
  readonly job: string;
  /** Higher goes first. */
  readonly priority: number;
  /** Epoch ms: of two of one priority the older goes first. */
  readonly since: number;
}

export type LeaseAnswer =
  | { readonly job: string; readonly kind: 'granted' }
  /** Another invocation has the lease of this very job: whether it still runs it is for the claim to say. */
  | { readonly job: string; readonly kind: 'elsewhere' }
  /** Held by others; the job is woken when it is its turn. */
  | { readonly job: string; readonly kind: 'wait'; readonly holders: readonly string[] };

const leaseRow = z.object({ job: z.string(), token: z.string(), until: z.number() });
type Lease = z.infer<typeof leaseRow>;

export class LockTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    sql.exec(
      `CREATE TABLE IF NOT EXISTS leases (job TEXT PRIMARY KEY, token TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID`,
    );
    // turn_until: NULL until it is woken for the first time. again_at: when it is woken next, should it miss its turn.
    sql.exec(`CREATE TABLE IF NOT EXISTS waiters (job TEXT PRIMARY KEY, priority INTEGER NOT NULL, since INTEGER NOT NULL,
      turn_until INTEGER, again_at INTEGER, turns INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID`);
    sql.exec(`CREATE INDEX IF NOT EXISTS waiters_next ON waiters (turn_until, priority DESC, since, job)`);
    sql.exec(`CREATE INDEX IF NOT EXISTS waiters_again ON waiters (again_at) WHERE again_at IS NOT NULL`);
    sql.exec(`CREATE TABLE IF NOT EXISTS size (one INTEGER PRIMARY KEY CHECK (one = 1), leases INTEGER NOT NULL)`);
  }

  /** Leases for jobs of one invocation; who gets none waits in line. `wake`: whose turn it is besides. */
  acquire(
    size: number,
    token: string,
    asks: readonly LeaseAsk[],
    now: number,
  ): { readonly answers: readonly LeaseAnswer[]; readonly wake: readonly string[] } {
    this.#sql.exec(
      `INSERT INTO size (one, leases) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET leases = excluded.leases
      WHERE leases <> excluded.leases`,
      size,
    );
    // Before anybody new: what is free belongs to whoever waits for it.
    const wake = this.nextTurns(now);
    const order = asks.toSorted((a, b) => b.priority - a.priority || a.since - b.since);
    const answers = new Map(order.map((ask) => [ask.job, this.#lease(size, token, ask, now)]));
    return {
      answers: asks.map(({ job }) => answers.get(job) ?? { job, kind: 'wait', holders: [] }),
      wake: wake.filter((job) => answers.get(job)?.kind !== 'granted'),
    };
  }

  /** Takes over the lease of a job that this invocation has claimed, or a free one; false where there is none. */
  take(size: number, token: string, ask: LeaseAsk, now: number): boolean {
    // Whoever had it before has lost the job itself.
    this.#sql.exec(`UPDATE leases SET token = ? WHERE job = ?`, token, ask.job);
    return this.#lease(size, token, ask, now).kind === 'granted';
  }

  /** Renews leases; returns the jobs whose lease is no longer this invocation's. */
  renew(token: string, jobs: readonly string[], now: number): readonly string[] {
    return jobs.filter((job) => {
      const lease = this.#find(job);
      // One that ran out and that nobody has taken meanwhile is still good.
      if (lease?.token !== token) return true;
      this.#sql.exec(`UPDATE leases SET until = ? WHERE job = ?`, now + LEASE_MS, job);
      return false;
    });
  }

  /** Gives back leases of this invocation; returns whose turn it is now. Safe to repeat. */
  release(token: string, jobs: readonly string[], now: number): readonly string[] {
    for (const job of jobs) this.#sql.exec(`DELETE FROM leases WHERE job = ? AND token = ?`, job, token);
    return this.nextTurns(now);
  }

  /** Those who have not been woken, next first, and then those who were. */
  line(limit: number): readonly string[] {
    return [
      ...this.#sql.exec(
        `SELECT job FROM waiters ORDER BY turn_until IS NOT NULL, turn_until, priority DESC, since, job LIMIT ?`,
        limit,
      ),
    ].map(({ job }) => String(job));
  }

  /** Jobs that will not come: they have ended, or were put off. Returns whose turn it is instead. */
  leave(jobs: readonly string[], now: number): readonly string[] {
    for (const job of jobs) this.#sql.exec(`DELETE FROM waiters WHERE job = ?`, job);
    return this.nextTurns(now);
  }

  /** Gives every free lease to whoever is next: highest priority, then oldest; then, ever more rarely, those whose turn has passed unused. */
  nextTurns(now: number): readonly string[] {
    this.#sql.exec(`DELETE FROM leases WHERE until <= ?`, now);
    const free = this.#size() - this.#leases() - this.#turns(now);
    if (free <= 0) return [];
    const next = [
      ...this.#sql.exec(
        `SELECT job FROM waiters WHERE turn_until IS NULL ORDER BY priority DESC, since, job LIMIT ?`,
        free,
      ),
    ];
    const missed =
      next.length === free
        ? []
        : [
            ...this.#sql.exec(
              `SELECT job FROM waiters WHERE turn_until <= ?1 AND again_at <= ?1
                 ORDER BY turn_until, priority DESC, since LIMIT ?2`,
              now,
              free - next.length,
            ),
          ];
    const jobs = [...next, ...missed].map(({ job }) => String(job));
    // Where the queue is far behind every turn is missed, and each would be one more message in it.
    for (const job of jobs) {
      this.#sql.exec(
        `UPDATE waiters SET turn_until = ?1 + ?2, again_at = ?1 + (?2 << min(turns, ?3)), turns = turns + 1 WHERE job = ?4`,
        now,
        TURN_MS,
        MAX_TURN_DOUBLINGS,
        job,
      );
    }
    return jobs;
  }

  /** When a lease or a turn runs out; undefined where nobody waits, since nobody is to be woken then. */
  wakesAt(now: number): number | undefined {
    if (!this.#hasAny('waiters')) return undefined;
    const [row] = this.#sql.exec(
      `SELECT min(at) AS at FROM (SELECT min(until) AS at FROM leases
         UNION ALL SELECT min(turn_until) FROM waiters WHERE turn_until > ?1
         UNION ALL SELECT min(again_at) FROM waiters WHERE again_at > ?1)`,
      now,
    );
    return typeof row?.['at'] === 'number' ? row['at'] : now + TURN_MS;
  }

  /** Whether a job has a lease that has not run out. */
  isHeldBy(job: string, now: number): boolean {
    return (this.#find(job)?.until ?? 0) > now;
  }

  get isEmpty(): boolean {
    return !this.#hasAny('leases') && !this.#hasAny('waiters');
  }

  /** Who has a lease, and how many wait before a job. */
  standing(job: string): { readonly holders: readonly string[]; readonly ahead: number } {
    const [own] = this.#sql.exec(`SELECT priority, since FROM waiters WHERE job = ?`, job);
    const ahead =
      own === undefined
        ? []
        : this.#sql.exec(
            `SELECT count(*) AS ahead FROM waiters WHERE priority > ?1 OR (priority = ?1 AND (since, job) < (?2, ?3))`,
            Number(own['priority']),
            Number(own['since']),
            job,
          );
    const [count] = ahead;
    return { holders: this.#holders(), ahead: Number(count?.['ahead'] ?? 0) };
  }

  #lease(size: number, token: string, { job, priority, since }: LeaseAsk, now: number): LeaseAnswer {
    const own = this.#find(job);
    if (own !== undefined && own.token !== token) return { job, kind: 'elsewhere' };
    const [place] = this.#sql.exec(`SELECT turn_until FROM waiters WHERE job = ?`, job);
    const wasWoken = typeof place?.['turn_until'] === 'number';
    // Who was woken once takes any lease that nobody has: the message of whoever has the turn may come much later.
    const kept = wasWoken ? 0 : this.#turns(now);
    if (own !== undefined || this.#leases() + kept < size) {
      this.#sql.exec(`INSERT OR REPLACE INTO leases (job, token, until) VALUES (?, ?, ?)`, job, token, now + LEASE_MS);
      if (place !== undefined) this.#sql.exec(`DELETE FROM waiters WHERE job = ?`, job);
      return { job, kind: 'granted' };
    }
    // Back in line where it was, to be woken again.
    this.#sql.exec(
      `INSERT OR REPLACE INTO waiters (job, priority, since, turn_until) VALUES (?, ?, ?, NULL)`,
      job,
      priority,
      since,
    );
    return { job, kind: 'wait', holders: this.#holders() };
  }

  #find(job: string): Lease | undefined {
    const [row] = this.#sql.exec(`SELECT job, token, until FROM leases WHERE job = ?`, job);
    return row === undefined ? undefined : leaseRow.parse(row);
  }

  #holders(): readonly string[] {
    return [...this.#sql.exec(`SELECT job FROM leases LIMIT 5`)].map(({ job }) => String(job));
  }

  #turns(now: number): number {
    const [row] = this.#sql.exec(`SELECT count(*) AS count FROM waiters WHERE turn_until > ?`, now);
    return Number(row?.['count'] ?? 0);
  }

  // Never counted: thousands may wait.
  #hasAny(table: 'leases' | 'waiters'): boolean {
    return [...this.#sql.exec(`SELECT 1 FROM ${table} LIMIT 1`)].length > 0;
  }

  #leases(): number {
    const [row] = this.#sql.exec(`SELECT count(*) AS count FROM leases`);
    return Number(row?.['count'] ?? 0);
  }

  #size(): number {
    const [row] = this.#sql.exec(`SELECT leases FROM size`);
    return Number(row?.['leases'] ?? 0);
  }
}
