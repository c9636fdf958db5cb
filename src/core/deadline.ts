// Waiting with an end: what has not answered in time is treated as an outage, whatever it does later.

import type { Clock } from './ports.ts';

export type Timed<T> = { readonly inTime: true; readonly value: T } | { readonly inTime: false };

/** `promise`, or `inTime: false` after `milliseconds`. A rejection in time is passed on; a late one is swallowed. */
export async function within<T>(clock: Clock, milliseconds: number, promise: Promise<T>): Promise<Timed<T>> {
  const stop = new AbortController();
  const answer = promise.then((value): Timed<T> => ({ inTime: true, value }));
  const late = clock.sleep(milliseconds, stop.signal).then((): Timed<T> => ({ inTime: false }));
  try {
    return await Promise.race([answer, late]);
  } finally {
    stop.abort();
  }
}
