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

/** `promise`, or a rejection that says who (`The queue`) did not answer within `milliseconds`. */
export async function answerWithin<T>(
  clock: Clock,
  milliseconds: number,
  promise: Promise<T>,
  who: string,
): Promise<T> {
  const answer = await within(clock, milliseconds, promise);
  if (answer.inTime) return answer.value;
  throw new Error(`${who} did not answer in time.`);
}
