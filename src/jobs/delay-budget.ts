// How many delayed messages this isolate still hands to a queue in this minute: a queue chokes on too many of them.

import { MAX_DELAYED_PER_MINUTE } from '../core/limits.ts';

const MINUTE_MS = 60_000;

export class DelayBudget {
  #minute = -1;
  readonly #used = new Map<string, number>();

  /** Takes one delayed message of a queue; false where the row has to be owed instead. */
  take(queue: string, now: number): boolean {
    const minute = Math.floor(now / MINUTE_MS);
    if (minute !== this.#minute) {
      this.#minute = minute;
      this.#used.clear();
    }
    const used = this.#used.get(queue) ?? 0;
    if (used >= MAX_DELAYED_PER_MINUTE) return false;
    this.#used.set(queue, used + 1);
    return true;
  }
}
