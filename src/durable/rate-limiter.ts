// One rate limit of one name: the single writer of its slots, whoever asks from wherever. It must never answer before a
// grant is stored.

import { DurableObject } from 'cloudflare:workers';
import { FORGET_AFTER_MS } from '../core/limits.ts';
import type { Clock } from '../core/ports.ts';
import type { Rate } from '../core/rate.ts';
import { RateWindow, type StartAnswer, type StartAsk } from './rate-window.ts';
import { systemClock } from './system-clock.ts';

export class RateLimiter extends DurableObject {
  /** Its own, so that machines whose clocks differ agree on what a window is. */
  clock: Pick<Clock, 'now'> = systemClock;
  #opened: RateWindow | undefined;

  /** Asks for jobs that want to start now; answers in their order. */
  async reserve(rate: Rate, asks: readonly StartAsk[]): Promise<readonly StartAnswer[]> {
    const answers = this.#window.reserve(rate, asks, this.clock.now());
    await this.#forgetLater();
    return answers;
  }

  /** Says which grants were used, and which will not be. */
  settle(rate: Rate, started: readonly number[], returned: readonly number[]): void {
    this.#window.settle(rate, started, returned, this.clock.now());
  }

  /** Nobody starts for so long: what somebody outside asked for. */
  async hold(forMs: number): Promise<void> {
    this.#window.hold(this.clock.now() + forMs);
    await this.#forgetLater();
  }

  override async alarm(): Promise<void> {
    const emptyAt = this.#window.forgetAll(this.clock.now());
    if (emptyAt !== undefined) {
      await this.ctx.storage.setAlarm(Math.max(emptyAt, this.clock.now() + FORGET_AFTER_MS));
      return;
    }
    this.#opened = undefined;
    await this.ctx.storage.deleteAll();
  }

  // Opened anew after its storage was given back.
  get #window(): RateWindow {
    return (this.#opened ??= new RateWindow(this.ctx.storage.sql));
  }

  // What is over is forgotten with the next call; the alarm is for a limit that nobody asks any more.
  async #forgetLater(): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) === null) {
      await this.ctx.storage.setAlarm(this.clock.now() + FORGET_AFTER_MS);
    }
  }
}
