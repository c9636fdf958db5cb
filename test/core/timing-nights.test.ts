import { describe, expect, it } from 'vitest';
import { nextDues, parseEvery, timingOf } from '../../src/core/timing.ts';

// The nights in which clocks change, spelled out: what is due from the first time up to the second, both included.

/** `01:30-05:00` and the day it is on: as an instant. */
const on = (day: string, time: string): number => Date.parse(`${day}T${time}`);
const shown = (dues: readonly number[]): readonly string[] => dues.map((at) => new Date(at).toISOString());

function expectDues(timezone: string, day: string, when: string, times: string, span: string): void {
  const [from = '', to = ''] = span.split(' ');
  const [startsAt, endsAt] = [on(day, from), on(day, to)];
  const what = when.startsWith('every ') ? { everyMs: parseEvery(when.slice(6)) } : { cron: when };
  const timing = timingOf({ ...what, timezone, startsAt: null, endsAt });
  const expected = times.split(' ').map((time) => on(day, time));
  expect(shown(nextDues(timing, startsAt - 1, 1_000))).toEqual(shown(expected));
}

describe('New York, 8 March 2026: 02:00 -05:00 is 03:00 -04:00', () => {
  const day = '00:00-05:00 23:59:59-04:00';
  const hour = '01:30-05:00 03:30-04:00';
  const minute = '01:59:30-05:00 03:00:30-04:00';

  it.each([
    ['30 2 * * *', '03:00-04:00', day],
    ['30 1 * * *', '01:30-05:00', day],
    ['30 3 * * *', '03:30-04:00', day],
    ['0,30 2,3 * * *', '03:00-04:00 03:30-04:00', day],
    ['* 2 * * *', '03:00-04:00', day],
    ['0 */2 * * *', '00:00-05:00 03:00-04:00 04:00-04:00 06:00-04:00 08:00-04:00', '00:00-05:00 09:00-04:00'],
    ['*/15 * * * *', '01:30-05:00 01:45-05:00 03:00-04:00 03:15-04:00 03:30-04:00', hour],
    ['*/15 0-23 * * *', '01:30-05:00 01:45-05:00 03:00-04:00 03:15-04:00 03:30-04:00', hour],
    ['30 * * * *', '01:30-05:00 03:30-04:00', hour],
    ['every 30s', '01:59:30-05:00 03:00:00-04:00 03:00:30-04:00', minute],
    ['*/20 * * * * *', '01:59:40-05:00 03:00:00-04:00 03:00:20-04:00', minute],
    ['*/20 59 1,2 * * *', '01:59:40-05:00 03:00:00-04:00', minute],
  ])('%s', (when, times, span) => {
    expectDues('America/New_York', '2026-03-08', when, times, span);
  });
});

describe('New York, 1 November 2026: 02:00 -04:00 is 01:00 -05:00', () => {
  const day = '00:00-04:00 23:59:59-05:00';

  it.each([
    ['30 2 * * *', '02:30-05:00', day],
    ['30 1 * * *', '01:30-04:00', day],
    ['0 1 * * *', '01:00-04:00', day],
    ['0 2 * * *', '02:00-05:00', day],
    ['0,30 2,3 * * *', '02:00-05:00 02:30-05:00 03:00-05:00 03:30-05:00', day],
    ['*/30 1,2 * * *', '01:00-04:00 01:30-04:00 02:00-05:00 02:30-05:00', day],
    ['0 */2 * * *', '00:00-04:00 02:00-05:00 04:00-05:00 06:00-05:00 08:00-05:00', '00:00-04:00 09:00-05:00'],
    [
      '*/15 * * * *',
      '01:30-04:00 01:45-04:00 01:00-05:00 01:15-05:00 01:30-05:00 01:45-05:00 02:00-05:00',
      '01:30-04:00 02:00-05:00',
    ],
    ['30 * * * *', '00:30-04:00 01:30-04:00 01:30-05:00 02:30-05:00', '00:00-04:00 03:00-05:00'],
    ['every 30s', '01:59:30-04:00 01:00:00-05:00 01:00:30-05:00', '01:59:30-04:00 01:00:30-05:00'],
    ['*/20 * * * * *', '01:59:40-04:00 01:00:00-05:00 01:00:20-05:00', '01:59:30-04:00 01:00:30-05:00'],
    ['*/20 59,0 1 * * *', '01:59:20-04:00 01:59:40-04:00', '01:59:20-04:00 01:59:59-05:00'],
  ])('%s', (when, times, span) => {
    expectDues('America/New_York', '2026-11-01', when, times, span);
  });
});

describe('Berlin, 29 March 2026: 02:00 +01:00 is 03:00 +02:00', () => {
  const day = '00:00+01:00 23:59:59+02:00';

  it.each([
    ['30 2 * * *', '03:00+02:00', day],
    ['30 1 * * *', '01:30+01:00', day],
    ['0 */2 * * *', '00:00+01:00 03:00+02:00 04:00+02:00 06:00+02:00', '00:00+01:00 07:00+02:00'],
    [
      '*/15 * * * *',
      '01:30+01:00 01:45+01:00 03:00+02:00 03:15+02:00 03:30+02:00 03:45+02:00 04:00+02:00',
      '01:30+01:00 04:00+02:00',
    ],
    ['every 30s', '01:59:30+01:00 03:00:00+02:00 03:00:30+02:00', '01:59:30+01:00 03:00:30+02:00'],
    ['*/20 * * * * *', '01:59:40+01:00 03:00:00+02:00 03:00:20+02:00', '01:59:30+01:00 03:00:30+02:00'],
  ])('%s', (when, times, span) => {
    expectDues('Europe/Berlin', '2026-03-29', when, times, span);
  });
});

describe('Berlin, 25 October 2026: 03:00 +02:00 is 02:00 +01:00', () => {
  const day = '00:00+02:00 23:59:59+01:00';

  it.each([
    ['30 2 * * *', '02:30+02:00', day],
    ['30 1 * * *', '01:30+02:00', day],
    ['0 */2 * * *', '00:00+02:00 02:00+02:00 04:00+01:00 06:00+01:00', '00:00+02:00 07:00+01:00'],
    [
      '*/15 * * * *',
      '02:30+02:00 02:45+02:00 02:00+01:00 02:15+01:00 02:30+01:00 02:45+01:00 03:00+01:00',
      '02:30+02:00 03:00+01:00',
    ],
    ['every 30s', '02:59:30+02:00 02:00:00+01:00 02:00:30+01:00', '02:59:30+02:00 02:00:30+01:00'],
    ['*/20 * * * * *', '02:59:40+02:00 02:00:00+01:00 02:00:20+01:00', '02:59:30+02:00 02:00:30+01:00'],
  ])('%s', (when, times, span) => {
    expectDues('Europe/Berlin', '2026-10-25', when, times, span);
  });
});

describe('Lord Howe, 4 October 2026: 02:00 +10:30 is 02:30 +11:00, half an hour', () => {
  const day = '00:00+10:30 23:59:59+11:00';

  it.each([
    ['30 2 * * *', '02:30+11:00', day],
    ['15 2 * * *', '02:30+11:00', day],
    ['*/15 2 * * *', '02:30+11:00 02:45+11:00', day],
    ['30 1 * * *', '01:30+10:30', day],
    ['0 */2 * * *', '00:00+10:30 02:30+11:00 04:00+11:00 06:00+11:00', '00:00+10:30 07:00+11:00'],
    ['*/15 * * * *', '01:30+10:30 01:45+10:30 02:30+11:00 02:45+11:00 03:00+11:00', '01:30+10:30 03:00+11:00'],
    ['0 * * * *', '01:00+10:30 03:00+11:00 04:00+11:00', '01:00+10:30 04:00+11:00'],
    ['every 30s', '01:59:30+10:30 02:30:00+11:00 02:30:30+11:00', '01:59:30+10:30 02:30:30+11:00'],
    ['*/20 * * * * *', '01:59:40+10:30 02:30:00+11:00 02:30:20+11:00', '01:59:30+10:30 02:30:30+11:00'],
  ])('%s', (when, times, span) => {
    expectDues('Australia/Lord_Howe', '2026-10-04', when, times, span);
  });
});

describe('Lord Howe, 5 April 2026: 02:00 +11:00 is 01:30 +10:30, half an hour', () => {
  const day = '00:00+11:00 23:59:59+10:30';

  it.each([
    ['30 2 * * *', '02:30+10:30', day],
    ['30 1 * * *', '01:30+11:00', day],
    ['*/15 1 * * *', '01:00+11:00 01:15+11:00 01:30+11:00 01:45+11:00', day],
    ['0 */2 * * *', '00:00+11:00 02:00+10:30 04:00+10:30 06:00+10:30', '00:00+11:00 07:00+10:30'],
    [
      '*/15 * * * *',
      '01:30+11:00 01:45+11:00 01:30+10:30 01:45+10:30 02:00+10:30 02:15+10:30',
      '01:30+11:00 02:15+10:30',
    ],
    ['every 30s', '01:59:30+11:00 01:30:00+10:30 01:30:30+10:30', '01:59:30+11:00 01:30:30+10:30'],
    ['*/20 * * * * *', '01:59:40+11:00 01:30:00+10:30 01:30:20+10:30', '01:59:30+11:00 01:30:30+10:30'],
  ])('%s', (when, times, span) => {
    expectDues('Australia/Lord_Howe', '2026-04-05', when, times, span);
  });
});

describe('Kolkata, where no clock changes and an hour begins at half past', () => {
  it.each([
    ['30 2 * * *', '02:30+05:30', '00:00+05:30 23:59:59+05:30'],
    ['30 1 * * *', '01:30+05:30', '00:00+05:30 23:59:59+05:30'],
    ['0 */2 * * *', '00:00+05:30 02:00+05:30 04:00+05:30 06:00+05:30', '00:00+05:30 07:00+05:30'],
    ['*/15 * * * *', '01:30+05:30 01:45+05:30 02:00+05:30 02:15+05:30', '01:30+05:30 02:15+05:30'],
    ['every 30s', '01:59:30+05:30 02:00:00+05:30 02:00:30+05:30', '01:59:30+05:30 02:00:30+05:30'],
    ['*/20 * * * * *', '01:59:40+05:30 02:00:00+05:30 02:00:20+05:30', '01:59:30+05:30 02:00:30+05:30'],
  ])('%s', (when, times, span) => {
    expectDues('Asia/Kolkata', '2026-03-29', when, times, span);
  });
});

describe('clocks that do stranger things', () => {
  const next = (cron: string, timezone: string, after: string, count: number): readonly string[] =>
    shown(nextDues(timingOf({ cron, timezone, startsAt: null, endsAt: null }), Date.parse(after), count));
  const utc = (...instants: readonly string[]): readonly string[] => shown(instants.map((at) => Date.parse(at)));

  it('Apia had no 30 December 2011: what was due on it is due as the 31st begins', () => {
    expect(next('0 9 * * *', 'Pacific/Apia', '2011-12-29T08:00-10:00', 4)).toEqual(
      utc('2011-12-29T09:00-10:00', '2011-12-31T00:00+14:00', '2011-12-31T09:00+14:00', '2012-01-01T09:00+14:00'),
    );
    expect(next('0 9 30 12 *', 'Pacific/Apia', '2011-06-01T00:00Z', 2)).toEqual(
      utc('2011-12-31T00:00+14:00', '2012-12-30T09:00+14:00'),
    );
    expect(next('0 * 30 12 *', 'Pacific/Apia', '2011-06-01T00:00Z', 1)).toEqual(utc('2012-12-30T00:00+14:00'));
  });

  it('Havana repeats the hour before its midnight is over: the day that begins is not begun again', () => {
    // 1 November 2026: 01:00 -04:00 is 00:00 -05:00.
    expect(next('0 0 * * *', 'America/Havana', '2026-10-31T12:00Z', 2)).toEqual(
      utc('2026-11-01T00:00-04:00', '2026-11-02T00:00-05:00'),
    );
    expect(next('30 * 1 11 *', 'America/Havana', '2026-11-01T00:29-04:00', 3)).toEqual(
      utc('2026-11-01T00:30-04:00', '2026-11-01T00:30-05:00', '2026-11-01T01:30-05:00'),
    );
  });

  it('Beirut goes back from midnight to eleven: the last hour of the only day that matches runs again', () => {
    // 25 October 2026: 00:00 +03:00 is 23:00 +02:00 of the 24th.
    expect(next('15 * 24 10 *', 'Asia/Beirut', '2026-10-24T22:30+03:00', 3)).toEqual(
      utc('2026-10-24T23:15+03:00', '2026-10-24T23:15+02:00', '2027-10-24T00:15+03:00'),
    );
    expect(next('15 23 24 10 *', 'Asia/Beirut', '2026-10-24T22:30+03:00', 2)).toEqual(
      utc('2026-10-24T23:15+03:00', '2027-10-24T23:15+03:00'),
    );
  });

  it('São Paulo had no midnight on 4 November 2018: the day began at one', () => {
    expect(next('0 0 * * *', 'America/Sao_Paulo', '2018-11-03T12:00Z', 2)).toEqual(
      utc('2018-11-04T01:00-02:00', '2018-11-05T00:00-02:00'),
    );
  });

  it('Caracas changed for good, by half an hour', () => {
    // 1 May 2016: 02:30 -04:30 is 03:00 -04:00.
    expect(next('45 2 * * *', 'America/Caracas', '2016-04-30T00:00Z', 3)).toEqual(
      utc('2016-04-30T02:45-04:30', '2016-05-01T03:00-04:00', '2016-05-02T02:45-04:00'),
    );
  });

  it('in the second of two equal hours what names the hour waits for the next day, whatever the millisecond', () => {
    for (let at = on('2026-11-01', '01:00-05:00'); at < on('2026-11-01', '02:00-05:00'); at += 123_457) {
      const five = timingOf({ cron: '*/5 1 * * *', timezone: 'America/New_York', startsAt: null, endsAt: null });
      expect(nextDues(five, at, 1)).toEqual([on('2026-11-02', '01:00-05:00')]);
      const two = timingOf({ cron: '0 2 * * *', timezone: 'America/New_York', startsAt: null, endsAt: null });
      expect(nextDues(two, at, 1)).toEqual([on('2026-11-01', '02:00-05:00')]);
    }
  });
});
