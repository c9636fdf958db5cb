import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatInstant, parseInstant } from '../../src/core/instant.ts';

const YEAR_0 = Date.UTC(2000, 0, 1) - 2000 * 365.2425 * 86_400_000;
const anInstant = fc.integer({ min: YEAR_0 + 86_400_000, max: Date.UTC(9999, 11, 31) });
const two = (value: number): string => String(value).padStart(2, '0');

describe('an instant', () => {
  it('reads back as it was written, to the millisecond', () => {
    fc.assert(
      fc.property(anInstant, (at) => {
        expect(parseInstant(formatInstant(at))).toBe(at);
      }),
    );
  });

  it('is the same moment in every zone it is written in', () => {
    const offset = fc.integer({ min: -14 * 60, max: 14 * 60 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4e12 }), offset, fc.boolean(), (at, minutes, colon) => {
        const local = new Date(at + minutes * 60_000).toISOString().slice(0, -1);
        const size = Math.abs(minutes);
        const zone = `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}${colon ? ':' : ''}${two(size % 60)}`;
        expect(parseInstant(local + zone)).toBe(at);
      }),
    );
  });

  it.each([
    ['2026-08-15T12:30Z', Date.UTC(2026, 7, 15, 12, 30)],
    ['2026-08-15T12:30:05Z', Date.UTC(2026, 7, 15, 12, 30, 5)],
    ['2026-08-15T12:30:05.5Z', Date.UTC(2026, 7, 15, 12, 30, 5, 500)],
    ['2026-08-15T12:30:05.123000000Z', Date.UTC(2026, 7, 15, 12, 30, 5, 123)],
    ['2026-08-15T12:30:05.123456789Z', Date.UTC(2026, 7, 15, 12, 30, 5, 124)],
    ['2026-12-31T23:59:59.999000001Z', Date.UTC(2027, 0, 1)],
    ['2026-08-15T14:30:05+02:00', Date.UTC(2026, 7, 15, 12, 30, 5)],
    ['2026-08-15T18:00:05+0530', Date.UTC(2026, 7, 15, 12, 30, 5)],
    ['2026-08-15t12:30:05z', Date.UTC(2026, 7, 15, 12, 30, 5)],
    ['2024-02-29T00:00:00Z', Date.UTC(2024, 1, 29)],
  ])('%s is understood', (text, at) => {
    expect(parseInstant(text)).toBe(at);
  });

  it.each([
    '2026-08-15T12:30:05',
    '2026-08-15',
    '2026',
    'Tue',
    'now',
    '',
    '12345',
    '1786796105000',
    'Sat, 15 Aug 2026 12:30:05 GMT',
    '2026-08-15 12:30:05Z',
    ' 2026-08-15T12:30:05Z',
    '2026-08-15T12:30:05Z ',
    '2026-08-15T12:30:05Z\n',
    '2026-08-15T12:30:05Z (noon)',
    '2026-08-15T12Z',
    '2026-08-15T12:30:05,5Z',
    '2026-08-15T12:30:05+2',
    '2026-08-15T12:30:05+02:0',
    '2026-08-15T12:30:05 Europe/Berlin',
    '2026-08-15T12:30:05+02:00[Europe/Berlin]',
    '2026-13-01T00:00:00Z',
    '2026-00-01T00:00:00Z',
    '2026-01-32T00:00:00Z',
    '2026-01-01T25:00:00Z',
    '2026-01-01T00:60:00Z',
    '2026-01-01T00:00:61Z',
    '2026-01-01T00:00:00+99:99',
    '+02026-01-01T00:00:00Z',
  ])('%j is none', (text) => {
    expect(parseInstant(text)).toBeUndefined();
  });

  it('is refused on a day that is not in the calendar, never moved to the next month', () => {
    const daysIn = (year: number, month: number): number => new Date(Date.UTC(year, month, 0)).getUTCDate();
    const date = fc.record({
      year: fc.integer({ min: 1970, max: 2400 }),
      month: fc.integer({ min: 1, max: 12 }),
      day: fc.integer({ min: 28, max: 31 }),
    });
    fc.assert(
      fc.property(date, ({ year, month, day }) => {
        const read = parseInstant(`${String(year)}-${two(month)}-${two(day)}T12:00:00Z`);
        expect(read).toBe(day <= daysIn(year, month) ? Date.UTC(year, month - 1, day, 12) : undefined);
      }),
      { examples: [[{ year: 2026, month: 2, day: 30 }], [{ year: 2026, month: 4, day: 31 }]] },
    );
  });

  it('never throws, and is a whole number of milliseconds or nothing', () => {
    const almost = fc
      .tuple(anInstant.map(formatInstant), fc.nat({ max: 23 }), fc.string({ maxLength: 3 }))
      .map(([text, at, noise]) => text.slice(0, at) + noise + text.slice(at + 1));
    fc.assert(
      fc.property(fc.oneof(fc.string(), almost), (text) => {
        const at = parseInstant(text);
        expect(at === undefined || Number.isSafeInteger(at)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});
