// Rate limits as text and as arithmetic: at most so many starts in any window of a period.

import { MAX_RATE } from './limits.ts';

/** At most `limit` starts in any window of `periodMs`, wherever the window begins. */
export interface Rate {
  readonly limit: number;
  readonly periodMs: number;
}

const PERIODS_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };
const RATE = /^(\d{1,6})\/(\d{1,4})?([smh])$/;

/** `100/m`, `10/s`, `5/30s`. Throws a RangeError for what is no rate. */
export function parseRate(text: string): Rate {
  const [, limit = '', periods = '1', unit = ''] = RATE.exec(text) ?? [];
  const rate = { limit: Number(limit), periodMs: Number(periods) * (PERIODS_MS[unit] ?? 0) };
  if (rate.limit >= 1 && rate.limit <= MAX_RATE && rate.periodMs > 0) return rate;
  throw new RangeError(
    `${JSON.stringify(text)} is no rate: say "10/s", "100/m", "1000/h" or "5/30s", at most ${String(MAX_RATE)} a period.`,
  );
}

/**
 * When whoever has `ahead` others before him may find a free slot, if everybody starts at once when he may. `frees`: when
 * each slot in use is free again (epoch ms), in order; the others are free at `now`.
 */
export function turnOf(ahead: number, frees: readonly number[], { limit, periodMs }: Rate, now: number): number {
  const idle = Math.max(0, limit - frees.length);
  const place = ahead % limit;
  const first = place < idle ? now : (frees[place - idle] ?? now);
  return first + Math.floor(ahead / limit) * periodMs;
}
