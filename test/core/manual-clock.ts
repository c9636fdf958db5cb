// Time that passes only when a test says so.

import type { Clock } from '../../src/core/ports.ts';

export interface ManualClock extends Clock {
  /** Moves time on and wakes whoever slept until then, in order. */
  advance(milliseconds: number): void;
  /** How many are asleep. */
  sleepers(): number;
}

export function manualClock(start: number): ManualClock {
  let now = start;
  const asleep = new Map<() => void, number>();
  return {
    now: () => now,
    sleep(milliseconds, signal) {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const wake = (): void => {
        asleep.delete(wake);
        resolve(undefined);
      };
      if (signal?.aborted === true) wake();
      else asleep.set(wake, now + milliseconds);
      signal?.addEventListener('abort', wake, { once: true });
      return promise;
    },
    advance(milliseconds) {
      now += milliseconds;
      const due = [...asleep].filter(([, at]) => at <= now).sort(([, a], [, b]) => a - b);
      for (const [wake] of due) wake();
    },
    sleepers: () => asleep.size,
  };
}
