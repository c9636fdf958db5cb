// Who holds which lease and which handlers run: judged by the writes that took effect, not by what anybody believes.

import type { Invocation } from './machines.ts';
import { MAX_SKEW_MS } from './machines.ts';
import type { JobSeen } from './sqlite.ts';
import type { Violate } from './violation.ts';

/** Two clocks may differ by this. */
export const SKEW_MS = 2 * MAX_SKEW_MS;

/** One invocation's hold on one claim of a job. */
interface Holding {
  readonly job: string;
  readonly claim: number;
  readonly caller: Invocation;
  readonly takenAt: number;
  readonly dueAt: number;
  /** When it expires, for a job that had never been started. */
  readonly expiresAt: number | null;
  leaseUntil: number;
  released: boolean;
  runs: number;
}

/** One call of a handler. */
export interface Run {
  readonly id: number;
  readonly job: string;
  readonly attempt: number;
  readonly claim: number;
  readonly caller: Invocation;
  readonly startedAt: number;
  end: 'running' | 'returned' | 'threw' | 'deferred';
}

export class Leases {
  readonly runs: Run[] = [];
  /** Handlers that started although their claim was no longer the row's. */
  blindStarts = 0;
  readonly #holdings = new Map<string, Holding[]>();
  readonly #runsOf = new Map<string, Run[]>();
  readonly #violate: Violate;

  constructor(violate: Violate) {
    this.#violate = violate;
  }

  /** A row that is STARTED was written with another lease or claim. */
  taken(before: JobSeen, row: JobSeen, names: readonly string[], caller: Invocation, now: number): void {
    const { id: job, claim, lease_until: leaseUntil } = row;
    const holding = this.#find(job, claim, caller);
    if (holding !== undefined) {
      holding.leaseUntil = Math.max(holding.leaseUntil, leaseUntil ?? 0);
      return;
    }
    if (!names.includes('claim')) {
      this.#violate('fencing', job, `${caller.name} wrote a lease of claim ${String(claim)}, which is not its own`);
    }
    listIn(this.#holdings, job).push({
      job,
      claim,
      caller,
      takenAt: now,
      dueAt: row.due_at,
      expiresAt: before.started_at === null ? row.expires_at : null,
      leaseUntil: leaseUntil ?? 0,
      released: false,
      runs: 0,
    });
  }

  /** A row that was STARTED no longer is. */
  ended(before: JobSeen, row: JobSeen, names: readonly string[], caller: Invocation, now: number): void {
    const { id: job, claim } = before;
    const holders = listIn(this.#holdings, job).filter((each) => each.claim === claim);
    if (names.includes('lose')) {
      const live = holders.find((each) => each.caller.alive && each.leaseUntil > now + SKEW_MS);
      if (live !== undefined) this.#violate('lease', job, `the live lease of ${live.caller.name} was broken`);
      const forgotten = holders.find(isForgotten);
      if (forgotten !== undefined) {
        this.#violate('lease', job, `${forgotten.caller.name} was answered that it has no claim, and it had one`);
      }
      return;
    }
    const own = holders.find((each) => each.caller === caller);
    if (own === undefined) {
      this.#violate('fencing', job, `${caller.name} made claim ${String(claim)} ${row.state}, which is not its own`);
    } else own.released = true;
  }

  /** A handler starts. Returns the run, for its end. */
  start(row: JobSeen | undefined, job: string, attempt: number, caller: Invocation, now: number): Run {
    const claim = caller.won.get(job) ?? 0;
    const run: Run = {
      id: this.runs.length + 1,
      job,
      attempt,
      claim,
      caller,
      startedAt: now,
      end: 'running',
    };
    const holding = this.#find(job, claim, caller);
    if (holding === undefined) this.#violate('attempts', job, `${caller.name} started a handler without a claim`);
    else this.#checkStart(row, holding, run);
    this.runs.push(run);
    listIn(this.#runsOf, job).push(run);
    return run;
  }

  runsFor(job: string): readonly Run[] {
    return listIn(this.#runsOf, job);
  }

  #checkStart(row: JobSeen | undefined, holding: Holding, run: Run): void {
    const { job, claim, startedAt: now } = run;
    holding.runs += 1;
    if (holding.runs > 1) this.#violate('attempts', job, `claim ${String(claim)} started its handler twice`);
    if (holding.dueAt > now + SKEW_MS) this.#violate('due', job, 'it started before it was due');
    // A statement counts as given when it was sent, and may be answered ten seconds later.
    if (holding.expiresAt !== null && holding.takenAt > holding.expiresAt + 80_000 + SKEW_MS) {
      this.#violate('expires', job, 'it started although it had expired');
    }
    if (row?.state !== 'STARTED' || row.claim !== claim) {
      this.blindStarts += 1;
      if (row?.state === 'REVOKED') this.#violate('revoke', job, 'it started after it had been revoked');
    }
    for (const other of listIn(this.#runsOf, job)) {
      if (other.end !== 'running' || !other.caller.alive) continue;
      const theirs = this.#find(job, other.claim, other.caller);
      if (theirs === undefined || theirs === holding) continue;
      if (isLive(theirs, now) && isLive(holding, now)) {
        this.#violate('lease', job, `${other.caller.name} and ${run.caller.name} run it, and both hold a lease`);
      }
    }
  }

  #find(job: string, claim: number, caller: Invocation): Holding | undefined {
    return this.#holdings.get(job)?.find((each) => each.claim === claim && each.caller === caller);
  }
}

/** The list that a map has under a key, made where there is none. */
function listIn<T>(map: Map<string, T[]>, key: string): T[] {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made: T[] = [];
  map.set(key, made);
  return made;
}

// Whoever lives, and was answered in time after its claim took effect, starts what it has claimed.
function isForgotten({ job, caller, takenAt, runs }: Holding): boolean {
  return caller.alive && caller.isolate.frozenMs === 0 && runs === 0 && (caller.answered.get(job) ?? 0) > takenAt;
}

function isLive(holding: Holding, now: number): boolean {
  return !holding.released && holding.leaseUntil > now + SKEW_MS;
}
