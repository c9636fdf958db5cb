// Watches the one cron trigger: the single writer of when it ticked last. Its alarm is another clock than the trigger's, and
// goes on by itself for as long as no tick comes. It must never be left without an alarm.

import { DurableObject } from 'cloudflare:workers';
import { within } from '../core/deadline.ts';
import { MAX_TICK_MS, TAKE_OVER_EVERY_MS } from '../core/limits.ts';
import type { Clock } from '../core/ports.ts';
import { beaten, lookedAfter, readPulse, type Pulse } from '../core/pulse.ts';
import { systemClock } from './system-clock.ts';

/** Does the work of the tick that did not come. `silentSince`: when the last one came, epoch ms. */
export type TakeOver = (silence: { readonly silentSince: number }) => Promise<void>;

/** What a tick is told. `silentSince`: when the tick before it came, where its work was taken over since; else null. */
export interface Beat {
  readonly silentSince: number | null;
}

const PULSE = 'pulse';

export class WatchdogObject extends DurableObject {
  /** Its own, so that it measures a silence by one clock. */
  clock: Clock = systemClock;
  readonly #takeOver: TakeOver;
  /** A take-over is at work, or hangs; from then on nobody waits for it. */
  #busyUntil = 0;

  constructor(state: DurableObjectState, env: Cloudflare.Env, takeOver: TakeOver) {
    super(state, env);
    this.#takeOver = takeOver;
  }

  /** The trigger has ticked. */
  async beat(): Promise<Beat> {
    const before = this.#pulse();
    await this.#keep(beaten(this.clock.now()));
    return { silentSince: before?.phase === 'silent' ? before.beatAt : null };
  }

  /** When it ticked last, epoch ms; null where it never has. */
  lastBeatAt(): number | null {
    return this.#pulse()?.beatAt ?? null;
  }

  /** Throws only where no next alarm could be set: then the platform repeats this one, up to six times. */
  override async alarm(): Promise<void> {
    const now = this.clock.now();
    // Where nothing is known of a tick, the silence begins now.
    const { pulse, isDue } = lookedAfter(this.#pulse() ?? beaten(now), now);
    // Before the work: whatever becomes of that, the next alarm comes.
    await this.#keep(pulse);
    if (!isDue || now < this.#busyUntil) return;
    this.#busyUntil = now + MAX_TICK_MS;
    // The platform holds the next alarm back until this one is over; a work that takes longer goes on beside it.
    await within(this.clock, TAKE_OVER_EVERY_MS, this.#work(pulse.beatAt));
  }

  async #work(silentSince: number): Promise<void> {
    const mine = this.#busyUntil;
    try {
      await this.#takeOver({ silentSince });
    } catch (error) {
      console.error(JSON.stringify({ event: 'watchdog.failed', error: String(error) }));
    }
    // One that was given up must not end the wait for the one begun after it.
    if (this.#busyUntil === mine) this.#busyUntil = 0;
  }

  #pulse(): Pulse | undefined {
    return readPulse(this.ctx.storage.kv.get(PULSE));
  }

  async #keep(pulse: Pulse): Promise<void> {
    this.ctx.storage.kv.put(PULSE, pulse);
    await this.ctx.storage.setAlarm(pulse.looksAt);
  }
}
