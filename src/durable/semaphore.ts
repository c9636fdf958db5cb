// One lock of one name: the single writer of its leases and of the line that waits for them.

import { DurableObject } from 'cloudflare:workers';
import { FORGET_AFTER_MS, LINE_PAGE } from '../core/limits.ts';
import type { Clock } from '../core/ports.ts';
import { LockTable, type LeaseAnswer, type LeaseAsk } from './lock-table.ts';
import { systemClock } from './system-clock.ts';

/** Wakes whose turn it is, and whoever is next in the place of those who will not come. */
export type WakeUp = (
  turns: readonly string[],
  line: {
    next(): Promise<readonly string[]>;
    leave(jobs: readonly string[]): Promise<readonly string[]>;
  },
) => Promise<void>;

export class SemaphoreObject extends DurableObject {
  /** Its own, so that machines whose clocks differ agree on when a lease has run out. */
  clock: Pick<Clock, 'now'> = systemClock;
  readonly #wakeUp: WakeUp;
  #opened: LockTable | undefined;

  /** `wakeUp`: for leases and turns that run out while nobody asks. */
  constructor(state: DurableObjectState, env: Cloudflare.Env, wakeUp: WakeUp) {
    super(state, env);
    this.#wakeUp = wakeUp;
  }

  /** Leases for jobs of one invocation. Whoever gets none is woken later. `wake`: whom the caller has to wake now. */
  async acquire(
    size: number,
    token: string,
    asks: readonly LeaseAsk[],
  ): Promise<{ readonly answers: readonly LeaseAnswer[]; readonly wake: readonly string[] }> {
    const answer = this.#table.acquire(size, token, asks, this.clock.now());
    await this.#lookLater();
    return answer;
  }

  /** For a job that was claimed while its lease was another invocation's; false where there is no room for it now. */
  async take(size: number, token: string, ask: LeaseAsk): Promise<boolean> {
    const taken = this.#table.take(size, token, ask, this.clock.now());
    await this.#lookLater();
    return taken;
  }

  /** Returns the jobs whose lease is lost. */
  renew(token: string, jobs: readonly string[]): readonly string[] {
    return this.#table.renew(token, jobs, this.clock.now());
  }

  /** Returns whom the caller has to wake. */
  async release(token: string, jobs: readonly string[]): Promise<readonly string[]> {
    const next = this.#table.release(token, jobs, this.clock.now());
    await this.#lookLater();
    return next;
  }

  /** Who is next, as far as they are looked at together. */
  line(): readonly string[] {
    return this.#table.line(LINE_PAGE);
  }

  /** Jobs that will not come. Returns whom to wake instead. */
  async leave(jobs: readonly string[]): Promise<readonly string[]> {
    const next = this.#table.leave(jobs, this.clock.now());
    await this.#lookLater();
    return next;
  }

  /** Who has a lease, and how many wait before a job. */
  standing(job: string): { readonly holders: readonly string[]; readonly ahead: number } {
    return this.#table.standing(job);
  }

  override async alarm(): Promise<void> {
    try {
      await this.#wakeUp(this.#table.nextTurns(this.clock.now()), {
        next: () => Promise.resolve(this.line()),
        leave: (jobs) => Promise.resolve(this.#table.leave(jobs, this.clock.now())),
      });
    } catch (error) {
      // Their turns run out, and the next alarm tries again.
      console.error(JSON.stringify({ event: 'lock.wake_failed', error: String(error) }));
    }
    if (this.#table.isEmpty) {
      this.#opened = undefined;
      await this.ctx.storage.deleteAll();
    } else await this.#lookLater();
  }

  // Opened anew after its storage was given back.
  get #table(): LockTable {
    return (this.#opened ??= new LockTable(this.ctx.storage.sql));
  }

  async #lookLater(): Promise<void> {
    const now = this.clock.now();
    const at = this.#table.wakesAt(now) ?? now + FORGET_AFTER_MS;
    const set = await this.ctx.storage.getAlarm();
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }
}
