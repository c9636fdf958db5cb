// What a far side asks for with `Retry-After`: seconds, or an HTTP date.

import { MAX_RETRY_AFTER_SECONDS } from './limits-outside.ts';

const SECONDS = /^\d{1,10}$/;
// IMF-fixdate, the only form that may be sent (RFC 9110, 5.6.7). Date.parse alone takes almost anything.
const HTTP_DATE =
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/** Whole seconds from `now` (epoch ms), at most a day; 0 for a date that has passed; undefined for anything else. */
export function parseRetryAfter(header: string | null, now: number): number | undefined {
  const text = header?.trim() ?? '';
  const seconds = SECONDS.test(text) ? Number(text) : secondsUntil(text, now);
  return seconds === undefined ? undefined : Math.min(seconds, MAX_RETRY_AFTER_SECONDS);
}

function secondsUntil(text: string, now: number): number | undefined {
  const at = HTTP_DATE.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - now) / 1_000));
}
