import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseRetryAfter } from '../../src/core/retry-after.ts';

const NOW = Date.UTC(2026, 7, 15, 12, 0, 0, 500);

it.each([
  ['0', 0],
  ['7', 7],
  [' 120 ', 120],
  ['86400', 86_400],
  ['86401', 86_400],
  ['9999999999', 86_400],
  ['Sat, 15 Aug 2026 12:00:10 GMT', 10],
  ['Sat, 15 Aug 2026 12:00:01 GMT', 1],
  ['Sat, 15 Aug 2026 12:00:00 GMT', 0],
  ['Fri, 14 Aug 2020 12:00:00 GMT', 0],
  ['Sun, 15 Aug 2027 12:00:00 GMT', 86_400],
])('a Retry-After of %j is %i s', (header, seconds) => {
  expect(parseRetryAfter(header, NOW)).toBe(seconds);
});

it.each([
  null,
  '',
  'soon',
  '-1',
  '1.5',
  '1e3',
  '0x10',
  '10, 20',
  '99999999999',
  '2026-08-15T12:00:10Z',
  'Sat, 99 Aug 2026 12:00:10 GMT',
  'Sat, 15 Aug 2026 12:00:10 CET',
])('a Retry-After of %j says nothing', (header) => {
  expect(parseRetryAfter(header, NOW)).toBeUndefined();
});

it('is whole seconds up to a day or nothing, whatever it is given', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
      ),
      (header) => {
        const seconds = parseRetryAfter(header, NOW);
        if (seconds === undefined) return;
        expect(Number.isInteger(seconds) && seconds >= 0 && seconds <= 86_400).toBe(true);
      },
    ),
  );
});
