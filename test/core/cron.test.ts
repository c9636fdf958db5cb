import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { calendarOf } from '../../src/core/cron.ts';
import { MAX_CRON_CHARS } from '../../src/core/limits-schedules.ts';
import { somePattern } from './patterns.ts';
import { duesInUtc, matcher, ruleOf, EVERY_HOUR } from './wall-clock.ts';

const DAY_MS = 86_400_000;

/** The first times of a pattern in 2026, as far as they matter: `01-31` or `01-01T00:15`. */
function first(pattern: string, count = 3): readonly string[] {
  const { next } = calendarOf(pattern);
  const times: string[] = [];
  let wall: number | undefined = Date.UTC(2026, 0, 1) - 1;
  while (times.length < count && (wall = next(wall)) !== undefined) {
    times.push(new Date(wall).toISOString().replace(':00.000Z', '').replace('T00:00', '').replace('2026-', ''));
  }
  return times;
}

describe('a cron pattern', () => {
  it.each([
    [
      'five fields: minute, hour, day of the month, month, day of the week',
      '30 9 2 1,2 *',
      ['01-02T09:30', '02-02T09:30'],
    ],
    ['six: seconds first', '5 30 9 * * *', ['01-01T09:30:05.000Z', '01-02T09:30:05.000Z']],
    ['a list', '0 0 3,1,2 * *', ['01-01', '01-02', '01-03', '02-01']],
    ['a range', '0 0 28-31 * *', ['01-28', '01-29', '01-30', '01-31', '02-28', '03-28']],
    ['a step', '*/20 * * * *', ['01-01', '01-01T00:20', '01-01T00:40', '01-01T01:00']],
    [
      'a step that does not divide the hour begins again with it',
      '*/40 * * * *',
      ['01-01', '01-01T00:40', '01-01T01:00'],
    ],
    ['a step of a range', '0 0 10-20/5 * *', ['01-10', '01-15', '01-20', '02-10']],
    ['a step of a list', '0 0 1-5/4,*/30 * *', ['01-01', '01-05', '01-31', '02-01']],
    ['names of months, in either case', '0 0 1 FEB,apr-Jun *', ['02-01', '04-01', '05-01', '06-01', '2027-02-01']],
    ['names of weekdays', '0 0 * * mon', ['01-05', '01-12']],
    ['0 is Sunday', '0 0 * * 0', ['01-04', '01-11']],
    ['7 is Sunday', '0 0 * * 7', ['01-04', '01-11']],
    ['Friday to Sunday', '0 0 * * FRI-SUN', ['01-02', '01-03', '01-04', '01-09']],
    ['either day matches where both are restricted', '0 0 13 * FRI', ['01-02', '01-09', '01-13', '01-16']],
    ['a step is a restriction too', '0 0 */10 * FRI', ['01-01', '01-02', '01-09', '01-11']],
    ['the last day of the month', '0 0 L * *', ['01-31', '02-28', '03-31']],
    ['the last workday of the month', '0 0 LW * *', ['01-30', '02-27', '03-31']],
    ['the workday nearest to the 15th', '0 0 15W * *', ['01-15', '02-16', '03-16']],
    ['the last Friday of the month', '0 0 * * 5L', ['01-30', '02-27']],
    ['the second Monday of the month', '0 0 * * MON#2', ['01-12', '02-09']],
    ['29 February', '0 0 29 2 *', ['2028-02-29', '2032-02-29']],
    ['white space of any kind and amount', '  0\t0  1   *\n* ', ['01-01', '02-01']],
    ['@hourly', '@hourly', ['01-01', '01-01T01:00']],
    ['@daily', '@daily', ['01-01', '01-02']],
    ['@midnight', '@midnight', ['01-01', '01-02']],
    ['@weekly', ' @Weekly', ['01-04', '01-11']],
    ['@monthly', '@monthly', ['01-01', '02-01']],
    ['@yearly', '@yearly', ['01-01', '2027-01-01']],
    ['@annually', '@annually', ['01-01', '2027-01-01']],
  ])('%s', (_, pattern, times) => {
    expect(first(pattern, times.length)).toEqual(times);
  });

  it('knows whether it allows every hour, however it says so', () => {
    for (const hours of ['*', '*/1', '0-23', '0-11,12-23', '*,5', '0-23/1', '1-23,0']) {
      expect(calendarOf(`0 ${hours} * * *`).everyHour, hours).toBe(true);
    }
    for (const hours of ['0', '*/2', '1-23', '0-22', '0-10,12-23', '*/23', '0-23/2']) {
      expect(calendarOf(`0 ${hours} * * *`).everyHour, hours).toBe(false);
    }
    expect(calendarOf('@hourly').everyHour).toBe(true);
    expect(calendarOf('0 0 * * * *').everyHour).toBe(true);
    expect(calendarOf('* * 0 * * *').everyHour).toBe(false);
  });
});

describe('what is no cron pattern', () => {
  it.each([
    ['61 * * * *', 'In the cron pattern "61 * * * *" the minute is "61". It may be 0–59;'],
    ['61 * * * * *', 'the second is "61". It may be 0–59;'],
    ['0 24 * * *', 'the hour is "24". It may be 0–23;'],
    ['0 0 0 * *', 'the day of the month is "0". It may be 1–31,'],
    ['0 0 1 13 *', 'the month is "13". It may be 1–12 or JAN–DEC;'],
    ['0 0 * * 8', 'the day of the week is "8". It may be 0–7 or SUN–SAT,'],
    ['0 0 * * MONDAY', 'the day of the week is "MONDAY".'],
    ['0 0 ? * *', 'the day of the month is "?".'],
    ['? * * * *', 'the minute is "?".'],
    ['*/0 * * * *', 'the minute is "*/0".'],
    ['*/90 * * * *', 'the minute is "*/90".'],
    ['5/15 * * * *', 'the minute is "5/15".'],
    ['30-10 * * * *', 'the minute is "30-10". It may be 0–59; a range upwards (1-5), a list'],
    ['1.5 * * * *', 'the minute is "1.5".'],
    ['-1 * * * *', 'the minute is "-1".'],
    ['1,,2 * * * *', 'the minute is "1,,2".'],
    ['0 L * * *', 'the hour is "L".'],
    ['0 0 MON * *', 'the day of the month is "MON".'],
    ['0 0 * * +MON', 'the day of the week is "+MON".'],
    ['0 0 * * 1#6', 'the day of the week is "1#6".'],
    ['0 0 32W * *', 'the day of the month is "32W".'],
    ['', 'The cron pattern "" does not have five fields'],
    ['* * * *', 'The cron pattern "* * * *" does not have five fields (minute, hour, day of the month, month, day of'],
    ['0 0 0 1 1 * 2027', 'does not have five fields'],
    ['2027-01-01T00:00:00', 'does not have five fields'],
    ['@reboot', '"@reboot" is no nickname of a cron pattern: these are @hourly, @daily,'],
    ['@every 5m', '"@every 5m" is no nickname'],
    ['constructor', 'The cron pattern "constructor" does not have five fields'],
    ['__proto__', 'does not have five fields'],
    ['0 0 31 2 *', 'The cron pattern "0 0 31 2 *" never comes'],
    ['0 0 30-31 FEB *', 'never comes'],
    ['0 0 31 4,6,9,11 *', 'never comes'],
    ['0 0 30W 2 *', 'never comes'],
  ])('%s', (pattern, message) => {
    expect(() => calendarOf(pattern)).toThrow(RangeError);
    expect(() => calendarOf(pattern)).toThrow(message);
  });

  it('is longer than a pattern that has every minute and every second in a list', () => {
    const all = Array.from({ length: 60 }, (_, value) => String(value)).join(',');
    expect(calendarOf(`${all} ${all} * * * *`).everyHour).toBe(true);
    const long = `${'0,'.repeat(MAX_CRON_CHARS)}0 * * * *`;
    expect(() => calendarOf(long)).toThrow('A cron pattern has at most 512 characters; this one begins "0,0,');
    expect(() => calendarOf(`0 0 1 1 *${' '.repeat(MAX_CRON_CHARS - 9)}`)).not.toThrow();
  });
});

describe('any text', () => {
  const letter = fc.constantFrom(...Array.from('0123456789*/,-LWw#? @:TZ+\t'), 'MON', 'JAN', 'SUN');
  /** A pattern with a slip of the hand. */
  const slip = fc
    .tuple(somePattern, fc.nat(30), fc.nat(2), letter)
    .map(([pattern, at, gone, typed]) => pattern.slice(0, at) + typed + pattern.slice(at + gone));
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 600 }),
    fc.string({ unit: letter, maxLength: 20 }),
    fc.array(letter, { minLength: 4, maxLength: 7 }).map((fields) => fields.join(' ')),
    { weight: 3, arbitrary: slip },
  );

  it('is a pattern that comes, or a RangeError, at once', () => {
    let patterns = 0;
    fc.assert(
      fc.property(text, (pattern) => {
        try {
          const { next } = calendarOf(pattern);
          patterns += 1;
          const wall = next(Date.UTC(2026, 0, 1));
          expect(wall).toBeGreaterThan(Date.UTC(2026, 0, 1));
          expect(matcher(pattern.trim().startsWith('@') ? '* * * * *' : pattern)(wall ?? NaN)).toBe(true);
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
        }
      }),
      { numRuns: 3_000 },
    );
    expect(patterns).toBeGreaterThan(100);
  });
});

describe('any pattern', () => {
  it('comes on the days and at the times that its fields say, over years, and at no others', () => {
    const begin = fc.integer({ min: Date.UTC(1990, 0, 1) / DAY_MS, max: Date.UTC(2090, 0, 1) / DAY_MS });
    fc.assert(
      fc.property(somePattern, begin, (pattern, day) => {
        const from = day * DAY_MS;
        const expected = duesInUtc(pattern, from, from + 1_500 * DAY_MS, 200);
        let calendar;
        try {
          calendar = calendarOf(pattern);
        } catch {
          expect(duesInUtc(pattern, from, from + 3_000 * DAY_MS, 1)).toEqual([]);
          return;
        }
        expect(calendar.everyHour).toBe(ruleOf(pattern) === EVERY_HOUR);
        let wall = from;
        for (const due of expected) {
          wall = calendar.next(wall) ?? NaN;
          expect(new Date(wall)).toEqual(new Date(due));
        }
      }),
      { numRuns: 300 },
    );
  });
});
