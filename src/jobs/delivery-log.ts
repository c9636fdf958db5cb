// What came in from providers, written down after it was answered: all of a moment in one statement. Requests that were
// refused are counted here, in this isolate, and cost nothing else.

import { answerWithin } from '../core/deadline.ts';
import { MAX_GROUP_ITEMS, STATEMENT_DEADLINE_MS } from '../core/limits.ts';
import { DELIVERY_LOG_TERM_MS, MAX_UNWRITTEN_DELIVERIES, REFUSALS_LOGGED_EVERY_MS } from '../core/limits-outside.ts';
import { insertDeliveries, type NewDelivery } from '../store/deliveries.ts';
import { logError, logInfo } from './log.ts';
import type { Runtime } from './runtime.ts';

export class DeliveryLog {
  #waiting: NewDelivery[] = [];
  /** Until then a request writes for all; 0 where none does. */
  #writingUntil = 0;
  readonly #refused = new Map<string, Map<string, number>>();
  #saidAt = 0;

  /** Written soon, by this request or by the one that is writing already; nobody waits for it. */
  write(rt: Runtime, delivery: NewDelivery): void {
    if (this.#waiting.length < MAX_UNWRITTEN_DELIVERIES) this.#waiting.push(delivery);
    if (rt.clock.now() >= this.#writingUntil) rt.waitUntil(this.#writeAll(rt));
  }

  /** How many requests of a provider were refused, and why, since this isolate started. */
  refused(): Record<string, Record<string, number>> {
    return Object.fromEntries([...this.#refused].map(([provider, reasons]) => [provider, Object.fromEntries(reasons)]));
  }

  refuse(rt: Runtime, provider: string, reason: string): void {
    const reasons = this.#refused.get(provider) ?? new Map<string, number>();
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    this.#refused.set(provider, reasons);
    // Whoever sends nonsense by the thousand must not fill the log either.
    const now = rt.clock.now();
    if (now - this.#saidAt < REFUSALS_LOGGED_EVERY_MS) return;
    this.#saidAt = now;
    logInfo('webhooks.refused', { provider, reason, so_far: JSON.stringify(this.refused()) });
  }

  // Its request is kept alive for half a minute at most; whoever comes after that writes on.
  async #writeAll(rt: Runtime): Promise<void> {
    this.#writingUntil = rt.clock.now() + DELIVERY_LOG_TERM_MS;
    while (this.#waiting.length > 0 && rt.clock.now() < this.#writingUntil) {
      await writeDown(rt, this.#waiting.splice(0, MAX_GROUP_ITEMS));
    }
    this.#writingUntil = 0;
  }
}

async function writeDown(rt: Runtime, deliveries: readonly NewDelivery[]): Promise<void> {
  try {
    await answerWithin(rt.clock, STATEMENT_DEADLINE_MS, rt.db.run(insertDeliveries(deliveries)), 'The database');
  } catch (error) {
    // Their jobs are durable; only what is told of them is not.
    logError('deliveries.unwritten', error, { deliveries: deliveries.length });
  }
}
