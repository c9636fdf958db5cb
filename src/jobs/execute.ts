// The only way through: jobs of one delivered batch are claimed together, run side by side, and their ends written.
// It knows no queue messages: for each job it says, once, what shall become of its message.

import { z } from 'zod';
import type { Envelope } from '../core/envelope.ts';
import {
  APART_MAX_SECONDS,
  APART_MIN_SECONDS,
  APART_MS,
  BATCH_BUDGET_MS,
  EARLY_WAIT_MS,
  HEARTBEAT_MS,
  LAST_DELIVERY,
} from '../core/limits.ts';
import type { Won } from '../store/claims.ts';
import { limitsOf, prepareAttempt, runAttempt, type Attempt, type Outcome } from './attempt.ts';
import { isLimited, isPassFor } from './admit.ts';
import { claimAll } from './claim.ts';
import { Finisher, type Written } from './finisher.ts';
import { delaySecondsUntil } from './hand-out.ts';
import { beat, keepLeases } from './heartbeat.ts';
import { callHook } from './hooks.ts';
import { claimLimited } from './limited.ts';
import { crowdedOut, weigh } from './load.ts';
import { logError, logInfo } from './log.ts';
import { freeLocks, heed429, reportStarts, type Pass } from './passes.ts';
import { setResultAside } from './payloads.ts';
import { putBack } from './put-back.ts';
import { ACK, retryIn, type Delivery, type Settle, type Settlement } from './settlement.ts';
import { Discard, LeaseLost } from './outcome.ts';
import type { Runtime } from './runtime.ts';
import { defineTask, type Task } from './task.ts';
import { finishOf, type Moment } from './verdict.ts';

/** Runs a batch of jobs, each id once. Never rejects where the database answers; settles what it can in any case. */
export async function executeBatch(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<void> {
  const startedAt = rt.clock.now();
  await waitForTheNearlyDue(rt, deliveries);
  const { light, heavy } = weigh(deliveries);
  for (const { envelope } of heavy) settle(envelope.id, retryIn(secondsApart(rt)));
  const byId = new Map(deliveries.map((delivery) => [delivery.envelope.id, delivery]));
  const run = new BatchRun(rt, startedAt, byId, settle);
  const byWay = Map.groupBy(light, (delivery) => takesFromLimits(rt, delivery));
  // Side by side: who waits for a limit keeps nobody else waiting.
  const suspects = await Promise.all([
    run.claimAndRun(byWay.get(false) ?? []),
    run.claimAndRunLimited(byWay.get(true) ?? []),
  ]);
  await run.runApart(suspects.flat());
  run.end();
}

function takesFromLimits(rt: Runtime, { envelope }: Delivery): boolean {
  const task = rt.registry.find(envelope.task);
  return task !== undefined && isLimited(task, envelope);
}

// The clock of the machine that delivers may be ahead of the one that accepted.
async function waitForTheNearlyDue(rt: Runtime, deliveries: readonly Delivery[]): Promise<void> {
  const now = rt.clock.now();
  const early = deliveries.map(({ envelope }) => envelope.dueAt - now).filter((ms) => ms > 0 && ms < EARLY_WAIT_MS);
  if (early.length > 0) await rt.clock.sleep(Math.max(...early));
}

function secondsApart(rt: Runtime): number {
  return APART_MIN_SECONDS + Math.floor(rt.random.fraction() * (APART_MAX_SECONDS - APART_MIN_SECONDS));
}

class BatchRun {
  readonly #rt: Runtime;
  readonly #endsAt: number;
  readonly #deliveries: ReadonlyMap<string, Delivery>;
  readonly #settle: Settle;
  readonly #finisher: Finisher;
  readonly #crowded = new Set<Attempt>();
  /** Jobs that a later call has changed: they take from what nobody has asked. */
  readonly #unasked = new Set<Attempt>();
  #ran = 0;
  #succeeded = 0;

  constructor(rt: Runtime, startedAt: number, deliveries: ReadonlyMap<string, Delivery>, settle: Settle) {
    this.#rt = rt;
    this.#endsAt = startedAt + BATCH_BUDGET_MS;
    this.#deliveries = deliveries;
    this.#settle = settle;
    this.#finisher = new Finisher(rt, this.#endsAt);
  }

  /** Returns those that have to run apart from everybody else. */
  async claimAndRun(deliveries: readonly Delivery[], alone = this.#isSmall): Promise<readonly Delivery[]> {
    if (deliveries.length === 0) return [];
    const claimedAt = this.#rt.clock.now();
    const { won, suspects } = await claimAll(this.#rt, deliveries, this.#settle, undefined, alone);
    await this.#run(won, claimedAt, NO_PASSES);
    return suspects;
  }

  /** The same for jobs that take from rate limits and locks. */
  async claimAndRunLimited(deliveries: readonly Delivery[], alone = this.#isSmall): Promise<readonly Delivery[]> {
    const claimedAt = this.#rt.clock.now();
    const { won, suspects, passes } = await claimLimited(this.#rt, deliveries, this.#settle, alone);
    await this.#run(won, claimedAt, passes);
    return suspects;
  }

  // Nothing else is in its batch.
  get #isSmall(): boolean {
    return this.#deliveries.size === 1;
  }

  /** Side by side, highest priority first. They were claimed at `claimedAt` at the earliest. */
  async #run(won: readonly Won[], claimedAt: number, passes: ReadonlyMap<string, Pass>): Promise<void> {
    const attempts = won.flatMap((each) => this.#prepare(each, passes.get(each.id)));
    if (attempts.length === 0) return;
    attempts.sort((a, b) => b.envelope.priority - a.envelope.priority);
    const running = new Set(attempts);
    for (const attempt of crowdedOut(attempts)) this.#crowded.add(attempt);
    // Looking after those that were not won may have taken long: what was won is still ours, or it is not started.
    if (this.#rt.clock.now() - claimedAt > HEARTBEAT_MS && !(await beat(this.#rt, attempts))) {
      for (const attempt of attempts) attempt.abort(new LeaseLost('Nobody can say whether this job is still ours.'));
    }
    const over = new AbortController();
    const leases = keepLeases(this.#rt, running, over.signal);
    if (passes.size > 0) this.#rt.waitUntil(reportStarts(this.#rt, attempts));
    for (const _ of attempts) this.#finisher.expect();
    await Promise.all(attempts.map((attempt) => this.#runOne(attempt, running)));
    over.abort();
    await leases;
    this.#ran += attempts.length;
  }

  /**
   * One after another, each claimed only when the one before has ended: whichever of them ends the isolate, the others
   * are still waiting. Those that would hold up the queue for long come back at times of their own.
   */
  async runApart(suspects: readonly Delivery[]): Promise<void> {
    const until = this.#rt.clock.now() + APART_MS;
    for (const suspect of suspects) {
      if (this.#rt.clock.now() >= until) {
        await putBack(this.#rt, [suspect], () => secondsApart(this.#rt), this.#settle);
      } else if (takesFromLimits(this.#rt, suspect)) await this.claimAndRunLimited([suspect], true);
      else await this.claimAndRun([suspect], true);
    }
  }

  // A line for each job that went well would cost more than the job: the batch says how many they were.
  end(): void {
    if (this.#ran > 0) logInfo('batch.ended', { jobs: this.#ran, succeeded: this.#succeeded });
  }

  #prepare(won: Won, pass: Pass | undefined): readonly Attempt[] {
    const delivery = this.#deliveries.get(won.id);
    const task = delivery === undefined ? undefined : this.#rt.registry.find(delivery.envelope.task);
    if (delivery === undefined) return [];
    // A call that came after its message may have changed what it is.
    const envelope = won.revision ?? delivery.envelope;
    const attempt = prepareAttempt(this.#rt, task ?? unknownTask(envelope), envelope, won, pass);
    if (won.revision !== null && task !== undefined && !isPassFor(pass, task, envelope)) this.#unasked.add(attempt);
    return [attempt];
  }

  async #runOne(attempt: Attempt, running: Set<Attempt>): Promise<void> {
    const { won } = attempt;
    try {
      const ended = await this.#outcomeOf(attempt);
      if (ended.kind === 'failure') heed429(this.#rt, attempt, ended.error);
      const outcome = await setResultAside(this.#rt, attempt, ended, this.#endsAt);
      const finish = finishOf(attempt, outcome, this.#moment(attempt));
      const written = await this.#finisher.write(finish, attempt.envelope.options);
      this.#settle(won.id, settlementOf(written, finish.dueAt, finish.sentAt !== null, this.#rt.clock.now()));
      this.#note(attempt, written);
      await freeLocks(this.#rt, attempt);
      await callHook(this.#rt, attempt, outcome, written);
    } catch (error) {
      // The database stayed silent: the lease runs out, and the sweep counts the attempt as lost.
      logError('job.unwritten', error, { job: won.id, task: attempt.task.name });
      this.#settle(won.id, retryIn(60));
    } finally {
      attempt.begun.resolve(false);
      running.delete(attempt);
    }
  }

  async #outcomeOf(attempt: Attempt): Promise<Outcome> {
    const now = this.#rt.clock.now();
    if (this.#crowded.has(attempt)) {
      return { kind: 'deferred', until: now, reason: 'its batch had no room for its input' };
    }
    if (this.#unasked.has(attempt)) {
      return { kind: 'deferred', until: now, reason: 'a later call has changed what it takes from' };
    }
    const tooLate = now + limitsOf(attempt).hardMs > this.#endsAt;
    // Or its lease was lost before it began: another attempt has it, and whatever is written now hits no row.
    if (!tooLate && !attempt.job.signal.aborted) return runAttempt(this.#rt, attempt);
    return { kind: 'deferred', until: now, reason: 'its batch had no time left for it' };
  }

  #note({ won, task }: Attempt, written: Written): void {
    if (written === 'SUCCESS') this.#succeeded += 1;
    else logInfo('job.ended', { job: won.id, task: task.name, state: written, attempt: won.attempt });
  }

  #moment(attempt: Attempt): Moment {
    const { envelope } = attempt;
    const now = this.#rt.clock.now();
    // An old message would bring it the old way again; one of its row asks.
    const exhausted =
      this.#unasked.has(attempt) || (this.#deliveries.get(envelope.id)?.deliveries ?? 1) >= LAST_DELIVERY;
    return {
      now,
      fraction: this.#rt.random.fraction(),
      mayDelay: () => !exhausted && this.#rt.isolate.delays.take(envelope.queue, now),
    };
  }
}

const NO_PASSES: ReadonlyMap<string, Pass> = new Map();

// What is final or stale needs no message, and what is owed one gets a fresh one; the rest keeps the one it came with.
function settlementOf(written: Written, dueAt: number | null, carried: boolean, now: number): Settlement {
  if ((written !== 'RETRY' && written !== 'PENDING') || !carried) return ACK;
  return retryIn(delaySecondsUntil(dueAt ?? now, now));
}

// Stands in for a task that no deployment has known for a day, so that its job ends like any other.
const UNKNOWN_TASK = defineTask({
  name: 'unknown',
  queue: 'default',
  input: z.unknown(),
  run: (_input, job) => {
    throw new Discard(`No deployment knew the task ${job.task} for a day.`, 'unknown_task');
  },
});

function unknownTask(envelope: Envelope): Task {
  return { ...UNKNOWN_TASK, name: envelope.task };
}
