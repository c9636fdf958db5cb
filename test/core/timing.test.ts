import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_EVERY_MS, MIN_EVERY_MS } from '../../src/core/limits-schedules.ts';
import {
  formatEvery,
  latestDues,
  nextDue,
  nextDues,
  parseEvery,
  timingOf,
  type Timing,
  type TimingSpec,
} from '../../src/core/timing.ts';
import { someFrequentPattern, somePattern } from './patterns.ts';
import { changesOf, duesOf, EVERY_HOUR, ruleOf, walk, type Walk } from './wall-clock.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const BEGIN = Date.UTC(2026, 0, 1);

function timing(spec: Partial<TimingSpec>): Timing {
  return timingOf({ timezone: 'UTC', startsAt: null, endsAt: null, ...spec });
}

const shown = (dues: readonly number[]): readonly string[] => dues.map((at) => new Date(at).toISOString());

describe('the time of a schedule', () => {
  it.each<[string, Partial<TimingSpec>, string]>([
    ['needs a pattern or an interval', {}, 'A schedule needs a cron pattern or an interval.'],
    ['and not nothing for both', { cron: null, everyMs: null }, 'A schedule needs a cron pattern or an interval.'],
    [
      'has not both',
      { cron: '* * * * *', everyMs: MINUTE_MS },
      'A schedule has a cron pattern or an interval, not both.',
    ],
    ['has a pattern that is one', { cron: '61 * * * *' }, 'the minute is "61".'],
    ['not an empty one', { cron: '' }, 'The cron pattern "" does not have five fields'],
    ['has an interval that is one', { everyMs: 1_500 }, '1.5 is no interval of a schedule: say "30s", "5m",'],
    ['has a zone that there is', { cron: '* * * * *', timezone: 'Mars/Olympus' }, '"Mars/Olympus" is no time zone'],
    ['also where it goes by intervals', { everyMs: MINUTE_MS, timezone: '' }, '"" is no time zone'],
    [
      'does not end before it starts',
      { everyMs: MINUTE_MS, startsAt: BEGIN, endsAt: BEGIN - 1 },
      'A schedule from 2026-01-01T00:00:00.000Z to 2025-12-31T23:59:59.999Z ends before it starts.',
    ],
  ])('%s', (_, spec, message) => {
    expect(() => timing(spec)).toThrow(RangeError);
    expect(() => timing(spec)).toThrow(message);
  });

  it('may start and end in the same moment', () => {
    const once = timing({ cron: '0 0 * * *', startsAt: BEGIN, endsAt: BEGIN });
    expect(nextDues(once, BEGIN - DAY_MS, 5)).toEqual([BEGIN]);
  });
});

describe('an interval as text', () => {
  it('is written as the shortest text that is read as the same', () => {
    expect([30_000, 300_000, 5_400_000, 93_784_000].map(formatEvery)).toEqual(['30s', '5m', '1h30m', '1d2h3m4s']);
    const some = fc.integer({ min: 1, max: MAX_EVERY_MS / SECOND_MS }).map((seconds) => seconds * SECOND_MS);
    fc.assert(fc.property(some, (everyMs) => parseEvery(formatEvery(everyMs)) === everyMs));
  });

  it('is so many days, hours, minutes and seconds, or a number of seconds', () => {
    expect(parseEvery('30s')).toBe(30_000);
    expect(parseEvery('5m')).toBe(300_000);
    expect(parseEvery('2h')).toBe(7_200_000);
    expect(parseEvery('1d')).toBe(86_400_000);
    expect(parseEvery('1h30m')).toBe(5_400_000);
    expect(parseEvery('1d2h3m4s')).toBe(93_784_000);
    expect(parseEvery('90m')).toBe(5_400_000);
    expect(parseEvery(90)).toBe(90_000);
    expect([parseEvery('1s'), parseEvery(1)]).toEqual([MIN_EVERY_MS, MIN_EVERY_MS]);
    expect([parseEvery('365d'), parseEvery(365 * 86_400)]).toEqual([MAX_EVERY_MS, MAX_EVERY_MS]);
  });

  it('is refused by name where it is none, too short or too long', () => {
    for (const text of [
      '',
      ' ',
      '30',
      's',
      '0s',
      '0d0h',
      '-5m',
      '1.5h',
      '5 m',
      '5m ',
      '5M',
      '30m1h',
      '1w',
      '366d',
      '1e3s',
      '99999999d',
    ]) {
      expect(() => parseEvery(text), text).toThrow(RangeError);
      expect(() => parseEvery(text), text).toThrow(
        `${JSON.stringify(text)} is no interval of a schedule: say "30s", "5m"`,
      );
    }
    for (const seconds of [0, -1, 0.5, 1.5, 365 * 86_400 + 1, NaN, Infinity]) {
      expect(() => parseEvery(seconds)).toThrow(RangeError);
      expect(() => parseEvery(seconds)).toThrow(`${String(seconds)} is no interval of a schedule`);
    }
  });

  it('is not repeated in full where somebody sends a book', () => {
    expect(() => parseEvery('5m'.repeat(1_000_000))).toThrow(/^.{0,250}$/);
  });
});

describe('every so often', () => {
  it('is at multiples of the interval, in UTC', () => {
    const every = timing({ everyMs: 15 * MINUTE_MS, timezone: 'Asia/Kathmandu' });
    expect(shown(nextDues(every, BEGIN + 1, 2))).toEqual(['2026-01-01T00:15:00.000Z', '2026-01-01T00:30:00.000Z']);
    expect(nextDue(timing({ everyMs: DAY_MS, timezone: 'America/New_York' }), BEGIN - 1)).toBe(BEGIN);
  });

  it('is not at the moment it is asked about, but after it', () => {
    const every = timing({ everyMs: MINUTE_MS });
    expect(nextDue(every, BEGIN)).toBe(BEGIN + MINUTE_MS);
    expect(nextDue(every, BEGIN - 0.5)).toBe(BEGIN);
    expect(nextDue(every, BEGIN + MINUTE_MS - 0.5)).toBe(BEGIN + MINUTE_MS);
  });

  it('counts from its start where it has one, which is the first', () => {
    const startsAt = BEGIN + 7 * SECOND_MS;
    const every = timing({ everyMs: MINUTE_MS, startsAt });
    expect(nextDues(every, 0, 2)).toEqual([startsAt, startsAt + MINUTE_MS]);
    expect(nextDue(every, startsAt)).toBe(startsAt + MINUTE_MS);
    expect(nextDue(every, BEGIN + DAY_MS)).toBe(BEGIN + DAY_MS + 7 * SECOND_MS);
  });

  it('is on a whole second, the first that is not before its start', () => {
    expect(nextDues(timing({ everyMs: 2_000, startsAt: BEGIN + 1 }), 0, 2)).toEqual([BEGIN + 1_000, BEGIN + 3_000]);
    expect(nextDue(timing({ everyMs: 2_000, startsAt: BEGIN + 999.5 }), 0)).toBe(BEGIN + 1_000);
  });

  it('goes on before 1970', () => {
    expect(nextDues(timing({ everyMs: DAY_MS }), -DAY_MS - 1, 3)).toEqual([-DAY_MS, 0, DAY_MS]);
  });
});

describe('a start and an end', () => {
  it('are included', () => {
    const hourly = timing({ cron: '0 * * * *', startsAt: BEGIN, endsAt: BEGIN + 2 * HOUR_MS });
    expect(nextDues(hourly, 0, 10)).toEqual([BEGIN, BEGIN + HOUR_MS, BEGIN + 2 * HOUR_MS]);
    const every = timing({ everyMs: HOUR_MS, startsAt: BEGIN, endsAt: BEGIN + 2 * HOUR_MS });
    expect(nextDues(every, 0, 10)).toEqual([BEGIN, BEGIN + HOUR_MS, BEGIN + 2 * HOUR_MS]);
  });

  it('leave out what is a millisecond before or after them', () => {
    const hourly = timing({ cron: '0 * * * *', startsAt: BEGIN + 1, endsAt: BEGIN + 2 * HOUR_MS - 1 });
    expect(nextDues(hourly, 0, 10)).toEqual([BEGIN + HOUR_MS]);
    expect(nextDue(hourly, BEGIN + HOUR_MS)).toBeUndefined();
    expect(nextDue(timing({ cron: '0 0 * * *', startsAt: BEGIN + 1, endsAt: BEGIN + 2 }), 0)).toBeUndefined();
  });

  it('are as exact where what was asked is not a whole millisecond, before 1970 as well', () => {
    for (const when of [{ cron: '* * * * *' }, { cron: '0 0,1 * * *' }, { everyMs: HOUR_MS }]) {
      expect(nextDue(timing(when), -0.5)).toBe(0);
      expect(nextDue(timing(when), BEGIN - 0.5)).toBe(BEGIN);
      expect(nextDue(timing(when), BEGIN + 0.5)).toBeGreaterThan(BEGIN + 0.5);
    }
  });

  it('do not hold back what was asked for between them', () => {
    const hourly = timing({ cron: '0 * * * *', startsAt: BEGIN, endsAt: BEGIN + DAY_MS });
    expect(nextDue(hourly, BEGIN + 90 * MINUTE_MS)).toBe(BEGIN + 2 * HOUR_MS);
  });
});

// Days in which clocks go on by half an hour to a day, or back, or do not change, for properties.
const NIGHTS: readonly (readonly [string, number])[] = [
  'America/New_York',
  'Europe/Berlin',
  'Australia/Lord_Howe',
  'America/Havana',
  'Asia/Beirut',
  'Africa/Casablanca',
  'Antarctica/Troll',
].flatMap((zone) => changesOf(zone, BEGIN, BEGIN + 365 * DAY_MS).map((at) => [zone, at] as const));
const someNight = fc.constantFrom(
  ...NIGHTS,
  ['Asia/Kolkata', BEGIN] as const,
  ['Pacific/Apia', Date.UTC(2011, 11, 30, 10)] as const,
  ['Pacific/Kwajalein', Date.UTC(1993, 7, 21, 12)] as const,
);
const someWhen = fc.oneof(
  { weight: 3, arbitrary: someFrequentPattern.map((cron) => ({ cron })) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('* * * * * *', '*/20 * * * * *', '*/7 */3 1-3 * * *').map((cron) => ({ cron })),
  },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 100_000 }).map((seconds) => ({ everyMs: seconds * SECOND_MS })) },
);
/** A schedule, and two days around a change of its clock. */
const scene = fc
  .tuple(someNight, someWhen, fc.integer({ min: -30 * HOUR_MS, max: 0 }), fc.integer({ min: 0, max: 30 * HOUR_MS }))
  .map(([[timezone, change], when, before, after]) => ({
    spec: { ...when, timezone },
    from: change + before,
    to: change + after,
  }));

/** All that is due in (from, to], or so many of it that it does not matter. */
function allDues(spec: Partial<TimingSpec>, from: number, to: number): readonly number[] {
  return nextDues(timing({ ...spec, endsAt: to }), from, 2_000);
}

describe('what is due', () => {
  it('is on whole seconds, in order, never twice, and after what was asked', () => {
    fc.assert(
      fc.property(scene, ({ spec, from, to }) => {
        const dues = allDues(spec, from, to);
        expect(dues.filter((due, at) => due <= (dues[at - 1] ?? from))).toEqual([]);
        expect(dues.filter((due) => due % SECOND_MS !== 0)).toEqual([]);
      }),
      { numRuns: 200 },
    );
  }, 60_000);

  it('is the same one after the other and many at once', () => {
    fc.assert(
      fc.property(scene, fc.nat(20), ({ spec, from }, count) => {
        const one = timing(spec);
        const found: number[] = [];
        for (let at = from; found.length < count; at = found.at(-1) ?? NaN) found.push(nextDue(one, at) ?? NaN);
        expect(nextDues(one, from, count)).toEqual(found);
      }),
      { numRuns: 100 },
    );
  });

  it('is the same from wherever one asks', () => {
    fc.assert(
      fc.property(scene, fc.array(fc.double({ min: 0, max: 1, noNaN: true })), ({ spec, from, to }, shares) => {
        const dues = allDues(spec, from, to);
        const end = dues.length === 2_000 ? (dues.at(-1) ?? NaN) : to;
        for (const share of shares) {
          const at = from + share * (end - from);
          const next = nextDue(timing({ ...spec, endsAt: end }), at);
          expect(next).toBe(dues.find((due) => due > at));
        }
      }),
      { numRuns: 200 },
    );
  }, 60_000);

  it('is never twice on the same clock time where hours are named, and never further apart than by elapsed time else', () => {
    const quarters = { cron: '*/15 * * * *' };
    const halves = { cron: '*/30 0-22 * * *' };
    for (const [timezone, change] of NIGHTS) {
      const dues = allDues({ ...quarters, timezone }, change - DAY_MS, change + DAY_MS);
      expect(dues).toHaveLength((2 * DAY_MS) / (15 * MINUTE_MS));
      const { readings } = walk(timezone, change - DAY_MS, change + DAY_MS);
      const walls = new Map(readings.map(({ at, wall }) => [at, wall]));
      const named = allDues({ ...halves, timezone }, change - DAY_MS, change + DAY_MS).map((at) => walls.get(at));
      expect(new Set(named).size).toBe(named.length);
    }
  });
});

describe('the latest that were due', () => {
  it('are the end of all that were, and say whether there were more', () => {
    fc.assert(
      fc.property(scene, fc.integer({ min: 0, max: 40 }), ({ spec, from, to }, most) => {
        const dues = allDues(spec, from, to);
        const end = dues.length === 2_000 ? (dues.at(-1) ?? NaN) : to;
        const latest = latestDues(timing(spec), from, end, most);
        expect(latest.dues).toEqual(dues.slice(Math.max(0, dues.length - most)));
        expect(latest.more).toBe(dues.length > most);
      }),
      { numRuns: 300 },
    );
  }, 60_000);

  it('include one at the end of the range and not one at its beginning', () => {
    const hourly = timing({ cron: '0 * * * *' });
    expect(latestDues(hourly, BEGIN, BEGIN + 2 * HOUR_MS, 5)).toEqual({
      dues: [BEGIN + HOUR_MS, BEGIN + 2 * HOUR_MS],
      more: false,
    });
    expect(latestDues(hourly, BEGIN, BEGIN + 2 * HOUR_MS, 1)).toEqual({ dues: [BEGIN + 2 * HOUR_MS], more: true });
    expect(latestDues(hourly, BEGIN, BEGIN + HOUR_MS - 1, 5)).toEqual({ dues: [], more: false });
    expect(latestDues(hourly, BEGIN, BEGIN, 5)).toEqual({ dues: [], more: false });
    expect(latestDues(hourly, BEGIN, BEGIN - DAY_MS, 5)).toEqual({ dues: [], more: false });
    expect(latestDues(hourly, BEGIN, BEGIN + HOUR_MS, 0)).toEqual({ dues: [], more: true });
    expect(latestDues(hourly, BEGIN + 0.5, BEGIN + HOUR_MS + 0.5, 5).dues).toEqual([BEGIN + HOUR_MS]);
  });

  it('end with the schedule and begin with it', () => {
    const some = timing({ everyMs: MINUTE_MS, startsAt: BEGIN, endsAt: BEGIN + 3 * MINUTE_MS });
    const minutes = [0, 1, 2, 3].map((minute) => BEGIN + minute * MINUTE_MS);
    expect(latestDues(some, 0, BEGIN + 10_000 * DAY_MS, 9)).toEqual({ dues: minutes, more: false });
    expect(latestDues(some, 0, BEGIN + 10_000 * DAY_MS, 2)).toEqual({ dues: minutes.slice(2), more: true });
    expect(latestDues(some, BEGIN + 3 * MINUTE_MS, BEGIN + DAY_MS, 2)).toEqual({ dues: [], more: false });
  });

  it.each([
    ['every second of a month', '* * * * * *', 30 * DAY_MS],
    ['every second of the first day of a year, at the end of the tenth', '* * * 1 1 *', 3_652 * DAY_MS],
    ['at nine for ten years', '0 9 * * *', 3_652 * DAY_MS],
    ['office hours of a year', '*/15 9-17 * * MON-FRI', 365 * DAY_MS],
  ])('do not cost what all would: %s', (_, cron, silenceMs) => {
    const silent = timing({ cron, timezone: 'Europe/Berlin' });
    const asked = { count: 0 };
    const counted: Timing = {
      ...silent,
      next: (after) => {
        asked.count += 1;
        return silent.next(after);
      },
    };
    const { dues, more } = latestDues(counted, BEGIN, BEGIN + silenceMs, 100);
    expect([dues.length, more]).toEqual([100, true]);
    // Twice each, and some to find the end.
    expect(asked.count).toBeLessThan(300);
  });
});

describe('a schedule on any clock', () => {
  /** What is due within the walk, but for its edges: what led to them was not seen. */
  function expectAsWalked(cron: string, timezone: string, seen: Walk): void {
    const [first, last] = [seen.readings[0]?.at ?? NaN, seen.readings.at(-1)?.at ?? NaN];
    const dues = nextDues(timing({ cron, timezone, endsAt: last }), first, seen.readings.length);
    // Compared first as text: a long list that differs is shown only where it does.
    if (String(dues) !== String(duesOf(cron, seen))) {
      expect({ cron, timezone, dues: shown(dues) }).toEqual({ cron, timezone, dues: shown(duesOf(cron, seen)) });
    }
  }

  const YEAR = [Date.UTC(2026, 0, 1), Date.UTC(2027, 0, 1)] as const;
  // Those that differ in what clocks do to them: by the hour, over midnight, over a date, and by minutes and days.
  const PATTERNS = [
    '30 2 * * *',
    '0 0 * * *',
    '*/20 1-3 * * SUN',
    '0 */2 * * *',
    '*/15 * * * *',
    '15 * 1 11 *',
    '* 23 * * *',
  ];

  it('is due as somebody finds who looks at the clock every minute, in every zone that changed it in 2026', () => {
    let changes = 0;
    for (const timezone of Intl.supportedValuesOf('timeZone')) {
      for (const change of changesOf(timezone, ...YEAR)) {
        const seen = walk(timezone, change - 5 * HOUR_MS, change + 7 * HOUR_MS);
        for (const cron of PATTERNS) expectAsWalked(cron, timezone, seen);
        changes += 1;
      }
    }
    expect(changes).toBeGreaterThan(200);
  }, 60_000);

  it('is due so in zones that did not', () => {
    for (const timezone of ['UTC', 'Asia/Kolkata', 'Asia/Kathmandu', 'Pacific/Kiritimati', 'Pacific/Marquesas']) {
      const seen = walk(timezone, BEGIN, BEGIN + DAY_MS);
      for (const cron of PATTERNS) expectAsWalked(cron, timezone, seen);
    }
  });

  it('is due so every second, too', () => {
    const seconds = ['*/20 * * * * *', '*/25 */7 1,2,3 * * *', '59 59 * * * *'];
    for (const [timezone, change] of NIGHTS) {
      const seen = walk(timezone, change - HOUR_MS, change + HOUR_MS, SECOND_MS);
      for (const cron of seconds) {
        // What an hour shows for the second time it showed before the walk began, if that was an hour before.
        if (ruleOf(cron) === EVERY_HOUR || timezone !== 'Antarctica/Troll') expectAsWalked(cron, timezone, seen);
      }
    }
  }, 60_000);

  it('is due so in nights of long ago, when clocks went on by a day or half an hour, or for good', () => {
    const nights: readonly (readonly [string, string])[] = [
      ['Pacific/Apia', '2011-12-30T10:00Z'],
      ['Pacific/Kwajalein', '1993-08-21T12:00Z'],
      ['America/Caracas', '2007-12-09T07:00Z'],
      ['America/Caracas', '2016-05-01T07:00Z'],
      ['Asia/Pyongyang', '2015-08-14T15:00Z'],
      ['Asia/Pyongyang', '2018-05-04T15:00Z'],
      ['America/Sao_Paulo', '2018-11-04T03:00Z'],
      ['America/Sao_Paulo', '2019-02-17T02:00Z'],
      ['Europe/Moscow', '2014-10-25T22:00Z'],
      ['Asia/Kathmandu', '1985-12-31T18:30Z'],
      ['Europe/Istanbul', '2015-11-08T01:00Z'],
      ['Asia/Tehran', '2022-03-21T20:30Z'],
    ];
    for (const [timezone, night] of nights) {
      const change = Date.parse(night);
      expect(changesOf(timezone, change - 3 * HOUR_MS, change + 3 * HOUR_MS)).toEqual([change]);
      const seen = walk(timezone, change - 26 * HOUR_MS, change + 26 * HOUR_MS);
      for (const cron of [...PATTERNS, '0 9 * * *', '45 2 30,31 12 *']) expectAsWalked(cron, timezone, seen);
    }
  });

  it('is due so whatever its pattern', () => {
    const seen = NIGHTS.map(([timezone, at]) => walk(timezone, at - 6 * HOUR_MS, at + 30 * HOUR_MS));
    fc.assert(
      fc.property(fc.nat(NIGHTS.length - 1), someFrequentPattern, (night, cron) => {
        expectAsWalked(cron, NIGHTS[night]?.[0] ?? '', seen[night] ?? { stepMs: MINUTE_MS, readings: [] });
      }),
      { numRuns: 400 },
    );
  }, 60_000);

  it('is due at a time that a clock shows, years away', () => {
    fc.assert(
      fc.property(
        somePattern.filter((cron) => !cron.includes('W')),
        fc.constantFrom(...NIGHTS),
        (cron, [timezone, at]) => {
          let found: Timing;
          try {
            found = timing({ cron, timezone });
          } catch {
            return;
          }
          const due = nextDue(found, at) ?? NaN;
          const seen = walk(
            timezone,
            due - 4 * HOUR_MS,
            due,
            cron.split(' ').length === 5 ? MINUTE_MS : 10 * SECOND_MS,
          );
          if (due % seen.stepMs === 0) expect(duesOf(cron, seen).at(-1)).toBe(due);
        },
      ),
      { numRuns: 50 },
    );
  }, 60_000);
});
