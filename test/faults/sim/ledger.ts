// The simulator's own books: every row as it was last written, checked against what it may become next.

import { z } from 'zod';
import type { Statement } from '../../../src/core/ports.ts';
import type { State } from '../../../src/core/states.ts';
import { Leases, SKEW_MS } from './leases.ts';
import type { Invocation } from './machines.ts';
import type { Change, JobSeen, LetterSeen } from './sqlite.ts';
import type { Violate } from './violation.ts';

// Written out again, not taken from the state table that is tried here.
const NEXT: Readonly<Record<State, readonly State[]>> = {
  PENDING: ['STARTED', 'REVOKED'],
  SCHEDULED: ['PENDING', 'STARTED', 'REVOKED'],
  RETRY: ['STARTED', 'REVOKED'],
  STARTED: ['SUCCESS', 'FAILURE', 'RETRY', 'PENDING', 'REVOKED'],
  SUCCESS: [],
  FAILURE: [],
  REVOKED: [],
};

export function isOver(state: State): boolean {
  return NEXT[state].length === 0;
}

// The tag of its plan: copies of a job keep it, and it is in the row wherever the input is.
const tags = z.tuple([z.coerce.number().int()]);
const options = z.object({ maxRetries: z.int(), resultTtlSeconds: z.int(), sensitive: z.literal(true).optional() });
const resultOf = z.object({ n: z.int(), run: z.int() });
export type Result = z.infer<typeof resultOf>;

/** What is known of a row beside its columns. */
export interface Known {
  row: JobSeen;
  /** The number of its plan. */
  readonly n: number;
  readonly maxRetries: number;
  /** How long after its end its payload leaves, in ms; undefined where it stays. */
  readonly secretFor: number | undefined;
}

export class Ledger {
  readonly jobs = new Map<string, Known>();
  readonly letters = new Map<string, LetterSeen>();
  readonly leases: Leases;
  readonly #violate: Violate;
  #open = 0;

  constructor(violate: Violate) {
    this.#violate = violate;
    this.leases = new Leases(violate);
  }

  /** Rows that are not final. */
  get open(): number {
    return this.#open;
  }

  /** The row of a job, as it is now. */
  row(id: string): JobSeen | undefined {
    return this.jobs.get(id)?.row;
  }

  /** The jobs that statements name, for the trace. */
  idsIn(statements: readonly Statement[]): readonly string[] {
    const text = statements.map(({ params }) => params.join(' ')).join(' ');
    return [...new Set(text.match(/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g))];
  }

  /** Books what one commit did. */
  apply(changes: readonly Change[], names: readonly string[], caller: Invocation, now: number): void {
    for (const change of changes) {
      switch (change.kind) {
        case 'job-made':
          this.#made(change.row);
          break;
        case 'job-changed':
          this.#changed(change.row, names, caller, now);
          break;
        case 'job-deleted':
          this.#violate('accepted', change.id, 'its row was deleted');
          break;
        case 'letter-made':
          this.letters.set(change.row.id, change.row);
          break;
        case 'letter-changed':
          this.#letterChanged(change.row);
          break;
        // See agenda.ts.
        case 'schedule-made':
        case 'schedule-changed':
        case 'schedule-deleted':
        case 'firing-made':
        case 'firing-changed':
      }
    }
    for (const change of changes) if (change.kind === 'letter-made') this.#checkLetter(change.row);
  }

  #made(row: JobSeen): void {
    const [n] = tags.parse(JSON.parse(row.tags));
    const { maxRetries, sensitive, resultTtlSeconds } = options.parse(JSON.parse(row.options));
    const secretFor = sensitive === true ? resultTtlSeconds * 1_000 : undefined;
    this.jobs.set(row.id, { row, n, maxRetries, secretFor });
    this.#open += 1;
    if (row.state !== 'PENDING' && row.state !== 'SCHEDULED') {
      this.#violate('transition', row.id, `it came into being as ${row.state}`);
    }
  }

  #changed(row: JobSeen, names: readonly string[], caller: Invocation, now: number): void {
    const known = this.jobs.get(row.id);
    if (known === undefined) {
      this.#violate('internal', row.id, 'a row was changed that nobody made');
      return;
    }
    const before = known.row;
    known.row = row;
    this.#checkFinal(before, known, names, now);
    if (before.state !== row.state && !NEXT[before.state].includes(row.state)) {
      this.#violate('transition', row.id, `${names.join('+')} made ${before.state} ${row.state}`);
    }
    if (isOver(row.state) && !isOver(before.state)) this.#open -= 1;
    if (!isOver(row.state) && isOver(before.state)) this.#open += 1;
    if (isOver(row.state) !== (row.finished_at !== null)) {
      this.#violate('final', row.id, `it is ${row.state} and finished_at is ${String(row.finished_at)}`);
    }
    this.#checkClaim(before, row, names, caller, now);
    if (row.attempt > known.maxRetries + 1) {
      this.#violate('attempts', row.id, `attempt ${String(row.attempt)} of ${String(known.maxRetries + 1)}`);
    }
    if (row.state === 'SUCCESS' && before.state !== 'SUCCESS') this.#checkResult(known);
  }

  #checkFinal(before: JobSeen, { row, secretFor }: Known, names: readonly string[], now: number): void {
    if (before.finished_at === null) return;
    const clears = before.cleared_at === null && row.cleared_at !== null;
    if (clears && !(now + SKEW_MS >= before.finished_at + (secretFor ?? Infinity))) {
      this.#violate('secret', row.id, 'its payload left before its time');
    }
    const same =
      before.state === row.state &&
      before.finished_at === row.finished_at &&
      (before.result === row.result || clears) &&
      before.error === row.error &&
      before.attempts === row.attempts;
    if (!same) this.#violate('final', row.id, `${names.join('+')} changed a job that was ${before.state}`);
  }

  #checkClaim(before: JobSeen, row: JobSeen, names: readonly string[], caller: Invocation, now: number): void {
    const taken = row.state === 'STARTED' && (row.claim !== before.claim || row.lease_until !== before.lease_until);
    const claims = row.claim - before.claim;
    if (claims !== 0 && (claims !== 1 || before.state === 'STARTED' || row.state !== 'STARTED')) {
      this.#violate('lease', row.id, `${names.join('+')} counted ${String(claims)} claims of a ${before.state} job`);
    }
    if (taken || names.includes('claim')) this.leases.taken(before, row, names, caller, now);
    else if (before.state === 'STARTED' && row.state !== 'STARTED') this.leases.ended(before, row, names, caller, now);
  }

  #checkResult({ row, n }: Known): void {
    // One that is kept elsewhere is looked at when everything is over.
    if (row.result === null) return;
    this.checkRun(row, n, parseResult(row.result));
  }

  /** Whether a result is the one of the attempt whose claim is in the row. */
  checkRun(row: JobSeen, n: number, result: Result): void {
    const run = this.leases.runs[result.run - 1];
    if (run?.job !== row.id || result.n !== n) {
      this.#violate('fencing', row.id, 'its result is that of another job');
    } else if (run.claim !== row.claim) {
      const theirs = `claim ${String(run.claim)}`;
      this.#violate('fencing', row.id, `its result is that of ${theirs}, and the row has ${String(row.claim)}`);
    }
  }

  #checkLetter({ id, job_id: job }: LetterSeen): void {
    if (job === null) return;
    if (this.row(job)?.state !== 'FAILURE') {
      this.#violate('dead letter', job, `letter ${id} is of a job that is ${String(this.row(job)?.state)}`);
    }
    const others = [...this.letters.values()].filter((each) => each.job_id === job);
    if (others.length > 1) this.#violate('dead letter', job, 'it has two dead letters');
  }

  #letterChanged(row: LetterSeen): void {
    const before = this.letters.get(row.id);
    this.letters.set(row.id, row);
    if (before === undefined || row.requeues - before.requeues > 1) {
      this.#violate('requeue', row.job_id ?? undefined, 'one requeue was counted twice');
    }
  }
}

export function parseResult(text: string): Result {
  return resultOf.parse(JSON.parse(text));
}
