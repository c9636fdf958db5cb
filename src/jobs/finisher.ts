// Writes how attempts ended: as they come, many in one statement, each fenced by its claim.

import type { JobOptions, ScheduledRun } from '../core/envelope.ts';
import { byteLength } from '../core/json.ts';
import { FINISH_LINGER_MS, MAX_BOUND_BYTES } from '../core/limits.ts';
import { DatabaseError, type Statement } from '../core/ports.ts';
import { isFinal, type State } from '../core/states.ts';
import { finishJobs, readFinished, readUnwon, selectUnwon, type Finish } from '../store/claims.ts';
import { recordFailures } from '../store/dead-letters.ts';
import { sendCallbacks } from './callbacks.ts';
import { sendNextRuns } from './overlap.ts';
import { persist, query } from './database.ts';
import type { Runtime } from './runtime.ts';

/** The state a job is in after its finish was written; `stale` where the claim no longer held and nothing was. */
export type Written = State | 'stale';

/** Of the options of a job: what triggers make with a final state, and what gets its message then. */
type FollowUps = Pick<JobOptions, 'callback' | 'schedule'>;

interface Pending {
  readonly finish: Finish;
  readonly options: FollowUps;
  readonly bytes: number;
  readonly settle: (written: Written) => void;
  readonly fail: (error: unknown) => void;
}

// No run of a schedule that allows overlaps waits for another; but one by hand is waited for.
function mayBeAwaited(run: ScheduledRun | undefined): run is ScheduledRun {
  return run !== undefined && (run.overlap !== 'allow' || run.cause === 'run');
}

export class Finisher {
  readonly #rt: Runtime;
  readonly #giveUpAt: number;
  #pending: Pending[] = [];
  #running = 0;
  #flushing = false;

  /** Repeats through outages until `giveUpAt` (epoch ms). */
  constructor(rt: Runtime, giveUpAt: number) {
    this.#rt = rt;
    this.#giveUpAt = giveUpAt;
  }

  /** Says that one more attempt is under way; while the last one ends there is nothing to wait for. */
  expect(): void {
    this.#running += 1;
  }

  /**
   * Resolves once the outcome is committed. Rejects only where the database was silent to the end. What triggers made of
   * a final state (a callback, the turn of the next run) gets its message then.
   */
  async write(finish: Finish, options: FollowUps = {}): Promise<Written> {
    const { promise, resolve, reject } = Promise.withResolvers<Written>();
    this.#running -= 1;
    const bytes = 2 * byteLength(JSON.stringify(finish));
    this.#pending.push({ finish, options, bytes, settle: resolve, fail: reject });
    if (!this.#flushing) void this.#flush();
    return promise;
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    while (this.#pending.length > 0) {
      if (this.#running > 0) await this.#rt.clock.sleep(FINISH_LINGER_MS);
      await this.#commitGroup(this.#take());
    }
    this.#flushing = false;
  }

  async #commitGroup(group: readonly Pending[]): Promise<void> {
    try {
      const written = await this.#commit(group.map(({ finish }) => finish));
      for (const { finish, settle } of group) settle(written.get(finish.id) ?? 'stale');
      this.#sendWhatFollows(group, written);
    } catch (error) {
      const refused = error instanceof DatabaseError && error.kind === 'refused';
      // One outcome the database will not have must not spoil the others: each by itself.
      if (refused && group.length > 1) for (const each of group) await this.#commitGroup([each]);
      else for (const { fail } of group) fail(error);
    }
  }

  // Nobody waits for it: what it misses is owed.
  #sendWhatFollows(group: readonly Pending[], written: ReadonlyMap<string, Written>): void {
    const over = group.filter(({ finish }) => {
      const state = written.get(finish.id) ?? 'stale';
      return state !== 'stale' && isFinal(state);
    });
    const callbacks = over.flatMap(({ options: { callback } }) => (callback === undefined ? [] : [callback.id]));
    const schedules = over.flatMap(({ options: { schedule } }) => (mayBeAwaited(schedule) ? [schedule.name] : []));
    if (callbacks.length > 0) this.#rt.waitUntil(sendCallbacks(this.#rt, callbacks));
    if (schedules.length > 0) this.#rt.waitUntil(sendNextRuns(this.#rt, [...new Set(schedules)]));
  }

  #take(): readonly Pending[] {
    let bytes = 0;
    const fits = this.#pending.findIndex((each, at) => (bytes += each.bytes) > MAX_BOUND_BYTES && at > 0);
    return this.#pending.splice(0, fits === -1 ? this.#pending.length : fits);
  }

  async #commit(finishes: readonly Finish[]): Promise<ReadonlyMap<string, Written>> {
    const statements: Statement[] = [finishJobs(finishes)];
    const failures = finishes.filter(({ state }) => state === 'FAILURE');
    if (failures.length > 0) {
      statements.push(recordFailures(failures.map(({ id, claim, deadLetterId }) => ({ id, claim, deadLetterId }))));
    }
    const [answer] = await persist(this.#rt, statements, this.#giveUpAt);
    const written = new Map<string, Written>(
      (answer?.rows ?? []).map(readFinished).map(({ id, state }) => [id, state]),
    );
    const missed = finishes.filter(({ id }) => !written.has(id));
    if (missed.length > 0) for (const [id, state] of await this.#readBack(missed)) written.set(id, state);
    return written;
  }

  // A finish that hit no row may be our own, committed by a try whose answer was lost: then the row still has our claim.
  async #readBack(missed: readonly Finish[]): Promise<readonly (readonly [string, Written])[]> {
    const claims = new Map(missed.map(({ id, claim }) => [id, claim]));
    const rows = await query(this.#rt, selectUnwon([...claims.keys()], this.#rt.clock.now()));
    return rows.map(readUnwon).map(({ id, claim, state }) => {
      const ours = claims.get(id) === claim && state !== 'STARTED';
      return [id, ours ? state : 'stale'] as const;
    });
  }
}
