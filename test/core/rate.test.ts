import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRate, turnOf } from '../../src/core/rate.ts';

describe('a rate as text', () => {
  it('is so many a second, minute or hour, or in so many of them', () => {
    expect(parseRate('10/s')).toEqual({ limit: 10, periodMs: 1_000 });
    expect(parseRate('100/m')).toEqual({ limit: 100, periodMs: 60_000 });
    expect(parseRate('1000/h')).toEqual({ limit: 1_000, periodMs: 3_600_000 });
    expect(parseRate('5/30s')).toEqual({ limit: 5, periodMs: 30_000 });
  });

  it('is refused by name where it is none', () => {
    for (const text of ['', '10', '0/s', '-1/s', '1.5/m', '10/d', '10/0s', '10001/s', '10 /s', '10/s ', '1e3/s']) {
      expect(() => parseRate(text), text).toThrow(JSON.stringify(text));
    }
  });
});

describe('the turn of whoever waits', () => {
  const rates = fc.record({
    limit: fc.integer({ min: 1, max: 20 }),
    periodMs: fc.integer({ min: 1_000, max: 60_000 }),
  });
  const now = 1_000_000;

  it('is never before a slot is free, and never later than it must be', () => {
    fc.assert(
      fc.property(
        rates,
        fc.array(fc.integer({ min: 1, max: 60_000 }), { maxLength: 20 }),
        fc.nat(200),
        (rate, after, ahead) => {
          const frees = after
            .slice(0, rate.limit)
            .map((ms) => now + Math.min(ms, rate.periodMs))
            .sort((a, b) => a - b);
          const turns = Array.from({ length: ahead + 1 }, (_, at) => turnOf(at, frees, rate, now));
          // In order of the line, and everybody uses his slot at once and keeps it for a period.
          const slots = [...Array.from({ length: rate.limit - frees.length }, () => now), ...frees];
          for (const turn of turns) {
            const first = Math.min(...slots);
            expect(turn).toBe(first);
            slots[slots.indexOf(first)] = first + rate.periodMs;
          }
        },
      ),
    );
  });

  it('spreads a long line so that no window of a period is promised to more than may start in it', () => {
    fc.assert(
      fc.property(rates, (rate) => {
        const turns = Array.from({ length: 10 * rate.limit }, (_, at) => turnOf(at, [], rate, now));
        for (const turn of turns) {
          expect(turns.filter((at) => at >= turn && at < turn + rate.periodMs).length).toBeLessThanOrEqual(rate.limit);
        }
        expect(Math.max(...turns) - now).toBe(9 * rate.periodMs);
      }),
    );
  });
});
