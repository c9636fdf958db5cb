import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  businessHours,
  isBusinessTime,
  nextBusinessTime,
  type BusinessHours,
  type Weekday,
} from '../../src/core/business-hours.ts';
import { BUSINESS_HORIZON_DAYS, MAX_ZONES_KEPT } from '../../src/core/limits.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const EVERY_DAY: readonly Weekday[] = [1, 2, 3, 4, 5, 6, 7];
const BERLIN = 'Europe/Berlin';
const NEW_YORK = 'America/New_York';
const LORD_HOWE = 'Australia/Lord_Howe';
const APIA = 'Pacific/Apia';

/** When it is next business time after `at`, which has an offset: `open` where it is already. */
function next(hours: BusinessHours, at: string): number | 'open' {
  const found = nextBusinessTime(Date.parse(at), businessHours(hours));
  return found === Date.parse(at) ? 'open' : found;
}

const instant = (text: string): number | 'open' => (text === 'open' ? text : Date.parse(text));
const dateIn = (at: number): string => new Date(at).toISOString().slice(0, 10);

describe('business hours: the week', () => {
  const office: BusinessHours = { timeZone: BERLIN };
  const early: BusinessHours = { timeZone: BERLIN, days: [6], from: '06:15', to: '07:45' };
  const always: BusinessHours = { timeZone: BERLIN, days: EVERY_DAY, from: '00:00', to: '24:00' };
  const pentecost: BusinessHours = { timeZone: BERLIN, holidays: ['2026-05-25'] };

  it.each<[string, BusinessHours, string, string]>([
    ['Friday evening waits for Monday at nine', office, '2026-01-09T18:30+01:00', '2026-01-12T09:00+01:00'],
    ['Sunday waits for Monday at nine', office, '2026-01-11T23:59:59.999+01:00', '2026-01-12T09:00+01:00'],
    ['early morning waits for nine', office, '2026-01-13T03:00+01:00', '2026-01-13T09:00+01:00'],
    ['the last millisecond before nine is closed', office, '2026-01-13T08:59:59.999+01:00', '2026-01-13T09:00+01:00'],
    ['nine is open', office, '2026-01-13T09:00+01:00', 'open'],
    ['the last millisecond before five is open', office, '2026-01-13T16:59:59.999+01:00', 'open'],
    ['five is closed', office, '2026-01-13T17:00+01:00', '2026-01-14T09:00+01:00'],
    ['midnight waits for nine of the day that begins', office, '2026-01-13T00:00+01:00', '2026-01-13T09:00+01:00'],
    ['other days and times hold as they are written', early, '2026-01-13T12:00+01:00', '2026-01-17T06:15+01:00'],
    ['their end does so too', early, '2026-01-17T07:45+01:00', '2026-01-24T06:15+01:00'],
    ['a holiday Monday waits for Tuesday', pentecost, '2026-05-25T10:00+02:00', '2026-05-26T09:00+02:00'],
    ['Friday before it does so too', pentecost, '2026-05-22T17:00+02:00', '2026-05-26T09:00+02:00'],
    ['round the clock includes midnight', always, '2026-01-13T00:00+01:00', 'open'],
    ['and the last of the day', always, '2026-01-13T23:59:59.999+01:00', 'open'],
    ['before 1970 weeks go on', { timeZone: 'UTC' }, '1969-12-26T17:00Z', '1969-12-29T09:00Z'],
  ])('%s', (_, hours, at, expected) => {
    expect(next(hours, at)).toBe(instant(expected));
  });

  it('29 February is a day of its own, and may be a holiday', () => {
    const leap: BusinessHours = { timeZone: BERLIN, holidays: ['2028-02-29'] };
    expect(next(office, '2028-02-28T17:00+01:00')).toBe(Date.parse('2028-02-29T09:00+01:00'));
    expect(next(leap, '2028-02-28T17:00+01:00')).toBe(Date.parse('2028-03-01T09:00+01:00'));
    expect(next(office, '2027-02-26T17:00+01:00')).toBe(Date.parse('2027-03-01T09:00+01:00'));
  });

  it('a holiday is a local date: Sydney has its own while it is yesterday in UTC', () => {
    const sydney: BusinessHours = { timeZone: 'Australia/Sydney', holidays: ['2026-01-26'] };
    expect(next(sydney, '2026-01-25T22:30Z')).toBe(Date.parse('2026-01-26T22:00Z'));
  });

  it('a part of a millisecond neither hangs nor is early', () => {
    const opening = Date.parse('2026-01-13T09:00+01:00');
    expect(nextBusinessTime(opening - 0.25, businessHours(office))).toBe(opening);
    const change = Date.parse('2026-03-29T01:00Z');
    const sunday = businessHours({ timeZone: BERLIN, days: [7], from: '02:30' });
    expect(nextBusinessTime(change - 0.25, sunday)).toBe(change);
  });
});

describe('business hours: clocks that change', () => {
  const sundays = (timeZone: string, from: string, to: string): BusinessHours => ({ timeZone, days: [7], from, to });
  const daily = (timeZone: string): BusinessHours => ({ timeZone, days: EVERY_DAY });
  const saoPaulo = sundays('America/Sao_Paulo', '00:00', '24:00');

  it.each<[string, BusinessHours, string, string]>([
    // New York, 8 March 2026: 02:00 -05:00 is 03:00 -04:00.
    [
      'New York: a weekend that loses an hour still ends on Monday at nine',
      { timeZone: NEW_YORK },
      '2026-03-06T17:00-05:00',
      '2026-03-09T09:00-04:00',
    ],
    [
      'New York: an opening time in the gap is the end of the gap',
      sundays(NEW_YORK, '02:30', '05:00'),
      '2026-03-08T00:00-05:00',
      '2026-03-08T03:00-04:00',
    ],
    [
      'New York: hours that lie in the gap are not held',
      sundays(NEW_YORK, '02:15', '02:45'),
      '2026-03-08T00:00-05:00',
      '2026-03-15T02:15-04:00',
    ],
    [
      'New York: hours that end where the gap does are not held',
      sundays(NEW_YORK, '02:00', '03:00'),
      '2026-03-08T00:00-05:00',
      '2026-03-15T02:00-04:00',
    ],
    [
      'New York: an opening time after the gap is that time',
      sundays(NEW_YORK, '03:30', '05:00'),
      '2026-03-08T01:59-05:00',
      '2026-03-08T03:30-04:00',
    ],
    // New York, 1 November 2026: 02:00 -04:00 is 01:00 -05:00.
    [
      'New York: a weekend that gains an hour still ends on Monday at nine',
      { timeZone: NEW_YORK },
      '2026-10-30T17:00-04:00',
      '2026-11-02T09:00-05:00',
    ],
    [
      'New York: a repeated opening time is its first',
      sundays(NEW_YORK, '01:15', '01:45'),
      '2026-11-01T00:00-04:00',
      '2026-11-01T01:15-04:00',
    ],
    [
      'New York: repeated hours are held again',
      sundays(NEW_YORK, '01:15', '01:45'),
      '2026-11-01T01:45-04:00',
      '2026-11-01T01:15-05:00',
    ],
    [
      'New York: and are then over',
      sundays(NEW_YORK, '01:15', '01:45'),
      '2026-11-01T01:45-05:00',
      '2026-11-08T01:15-05:00',
    ],
    [
      'New York: hours that are open when the clock goes back close until their time comes again',
      sundays(NEW_YORK, '01:30', '03:00'),
      '2026-11-01T01:00-05:00',
      '2026-11-01T01:30-05:00',
    ],
    // Berlin, 29 March 2026: 02:00 +01:00 is 03:00 +02:00.
    [
      'Berlin: an opening time in the gap is the end of the gap',
      sundays(BERLIN, '02:00', '04:00'),
      '2026-03-29T01:59:59.999+01:00',
      '2026-03-29T03:00+02:00',
    ],
    [
      'Berlin: hours that lie in the gap are not held',
      sundays(BERLIN, '02:00', '02:59'),
      '2026-03-28T12:00+01:00',
      '2026-04-05T02:00+02:00',
    ],
    // Berlin, 25 October 2026: 03:00 +02:00 is 02:00 +01:00.
    [
      'Berlin: the clock goes back into hours that were over',
      sundays(BERLIN, '01:00', '02:30'),
      '2026-10-25T02:45+02:00',
      '2026-10-25T02:00+01:00',
    ],
    [
      'Berlin: a repeated hour is open the first time',
      sundays(BERLIN, '02:00', '03:00'),
      '2026-10-25T02:30+02:00',
      'open',
    ],
    ['Berlin: and the second', sundays(BERLIN, '02:00', '03:00'), '2026-10-25T02:30+01:00', 'open'],
    // Lord Howe moves by half an hour. 4 October 2026: 02:00 +10:30 is 02:30 +11:00.
    [
      'Lord Howe: an opening time in the gap of half an hour is its end',
      sundays(LORD_HOWE, '02:10', '04:00'),
      '2026-10-04T01:00+10:30',
      '2026-10-04T02:30+11:00',
    ],
    // 5 April 2026: 02:00 +11:00 is 01:30 +10:30.
    [
      'Lord Howe: half an hour that is repeated is held again',
      sundays(LORD_HOWE, '01:30', '01:45'),
      '2026-04-05T01:50+11:00',
      '2026-04-05T01:30+10:30',
    ],
    [
      'Lord Howe: a weekend that gains half an hour still ends on Monday at nine',
      { timeZone: LORD_HOWE },
      '2026-04-03T17:00+11:00',
      '2026-04-06T09:00+10:30',
    ],
    // Sao Paulo, 4 November 2018: 00:00 -03:00 is 01:00 -02:00.
    ['São Paulo: a day without a midnight begins at one', saoPaulo, '2018-11-03T20:00-03:00', '2018-11-04T01:00-02:00'],
    // Apia had no 30 December 2011, a Friday: it went from -10:00 to +14:00.
    [
      'Apia: a day that is skipped is waited for by nobody',
      daily(APIA),
      '2011-12-29T17:00-10:00',
      '2011-12-31T09:00+14:00',
    ],
    [
      'Apia: Friday is a week later where this one is skipped',
      { timeZone: APIA, days: [5] },
      '2011-12-29T17:00-10:00',
      '2012-01-06T09:00+14:00',
    ],
    [
      'Apia: hours round the clock are not interrupted by it',
      { ...daily(APIA), from: '00:00', to: '24:00' },
      '2011-12-31T00:00+14:00',
      'open',
    ],
    [
      'Kathmandu: zones with 45 minutes open on time',
      daily('Asia/Kathmandu'),
      '2026-01-13T03:14:59Z',
      '2026-01-13T03:15Z',
    ],
    ['Kolkata: zones with 30 minutes open on time', daily('Asia/Kolkata'), '2026-01-13T03:29:59Z', '2026-01-13T03:30Z'],
  ])('%s', (_, hours, at, expected) => {
    expect(next(hours, at)).toBe(instant(expected));
  });

  it('Tokyo opens at midnight UTC all year: it has no daylight saving time', () => {
    const tokyo = businessHours({ timeZone: 'Asia/Tokyo', days: EVERY_DAY });
    for (let day = Date.UTC(2026, 0, 1); day < Date.UTC(2027, 0, 1); day += DAY_MS) {
      expect(nextBusinessTime(day - 1, tokyo)).toBe(day);
    }
  });
});

describe('business hours: what is refused', () => {
  it.each<[string, Partial<BusinessHours>, RegExp]>([
    ['a zone that is none', { timeZone: 'Europe/Berlim' }, /^"Europe\/Berlim" is no time zone that this runtime knows/],
    ['no zone', { timeZone: '' }, /^"" is no time zone/],
    ['an hour that is none', { to: '25:00' }, /^"25:00" is no time of the day/],
    ['a minute that is none', { from: '09:60' }, /^"09:60" is no time of the day/],
    ['a time with one digit', { from: '9:00' }, /^"9:00" is no time of the day/],
    ['a time with seconds', { from: '09:00:00' }, /^"09:00:00" is no time of the day/],
    ['more than the whole day', { to: '24:01' }, /^"24:01" is no time of the day/],
    ['a time with more after it', { from: '09:00\n' }, /^"09:00\\n" is no time of the day/],
    ['hours over midnight', { from: '22:00', to: '06:00' }, /from 22:00 to 06:00 do not end after they begin/],
    ['hours that end as they begin', { from: '09:00', to: '09:00' }, /do not end after they begin/],
    ['hours that begin as the day ends', { from: '24:00', to: '24:00' }, /do not end after they begin/],
    ['no day at all', { days: [] }, /at least one day of the week/],
    ['Sunday as JavaScript has it', { days: [0 as Weekday] }, /^0 is not in 1–7/],
    ['an eighth day', { days: [1, 8 as Weekday] }, /^8 is not in 1–7/],
    ['half a day', { days: [1.5 as Weekday] }, /^1.5 is not in 1–7/],
    ['a date that is not in the calendar', { holidays: ['2026-02-29'] }, /^"2026-02-29" is no date of the calendar/],
    ['a date in another order', { holidays: ['25.12.2026'] }, /^"25.12.2026" is no date of the calendar/],
    ['a date with a time', { holidays: ['2026-12-25T00:00Z'] }, /is no date of the calendar/],
  ])('%s', (_, wrong, message) => {
    const read = (): unknown => businessHours({ timeZone: BERLIN, ...wrong });
    expect(read).toThrow(RangeError);
    expect(read).toThrow(message);
  });

  it('an instant that is none', () => {
    const hours = businessHours({ timeZone: BERLIN });
    for (const at of [NaN, Infinity, -Infinity, 8.64e15 + 1])
      expect(() => nextBusinessTime(at, hours)).toThrow(RangeError);
  });

  it('holidays for longer than the horizon, and no sooner', () => {
    const at = Date.UTC(2026, 0, 1);
    const closedFor = (days: number): BusinessHours => ({
      timeZone: 'UTC',
      days: EVERY_DAY,
      from: '00:00',
      holidays: Array.from({ length: days }, (_, day) => dateIn(at + day * DAY_MS)),
    });
    const found = nextBusinessTime(at, businessHours(closedFor(BUSINESS_HORIZON_DAYS)));
    expect(found).toBe(at + BUSINESS_HORIZON_DAYS * DAY_MS);
    const never = businessHours(closedFor(BUSINESS_HORIZON_DAYS + 1));
    expect(() => nextBusinessTime(at, never)).toThrow(/^No business time within 400 days/);
    expect(nextBusinessTime(at + DAY_MS, never)).toBe(at + (BUSINESS_HORIZON_DAYS + 1) * DAY_MS);
  });
});

describe('business hours: what is kept', () => {
  let made = 0;
  beforeEach(() => {
    made = 0;
    class Counted extends Intl.DateTimeFormat {
      constructor(...options: ConstructorParameters<typeof Intl.DateTimeFormat>) {
        super(...options);
        made += 1;
      }
    }
    vi.stubGlobal('Intl', { DateTimeFormat: Counted });
  });
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it('a zone costs one formatter, however often it is asked', () => {
    for (let day = 0; day < 100; day += 1) nextBusinessTime(day * DAY_MS, businessHours({ timeZone: 'Asia/Tashkent' }));
    expect(made).toBe(1);
  });

  it('a zone that is spelled in ever other ways does not fill the memory', () => {
    const spelled = (way: number): string =>
      Array.from('singapore', (letter, place) => ((way >> place) & 1 ? letter.toUpperCase() : letter)).join('');
    for (let way = 0; way <= MAX_ZONES_KEPT; way += 1) businessHours({ timeZone: spelled(way) });
    businessHours({ timeZone: spelled(MAX_ZONES_KEPT) });
    expect(made).toBe(MAX_ZONES_KEPT + 1);
    businessHours({ timeZone: spelled(0) });
    expect(made).toBe(MAX_ZONES_KEPT + 2);
  });
});

// What the same hours are to somebody who only ever looks at a wall clock, once a minute.

const ZONES = [
  ...['UTC', 'Asia/Tokyo', 'Asia/Kolkata', 'Asia/Kathmandu', 'America/Caracas', 'America/St_Johns', 'Antarctica/Troll'],
  ...[BERLIN, NEW_YORK, LORD_HOWE, APIA, 'Pacific/Kwajalein', 'America/Sao_Paulo', 'Africa/Casablanca', 'Asia/Gaza'],
];
const WORKING = ['09', '10', '11', '12', '13', '14', '15', '16'];
const NAMES = ['', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
const [FIRST, LAST] = [Date.UTC(1973, 0, 1), Date.UTC(2037, 0, 1)];

function wallClock(timeZone: string): (at: number) => { day: string; date: string; time: string } {
  const [day, date] = [
    new Intl.DateTimeFormat('en-GB', { timeZone, weekday: 'short' }),
    // "2026-01-13 09:00"
    new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' }),
  ];
  return (at) => {
    const written = date.format(at);
    return { day: day.format(at), date: written.slice(0, 10), time: written.slice(11) };
  };
}

/** Days in which the clock of a zone changes, a day not being a day by it; and the first, so that no zone has none. */
const changes = new Map(
  ZONES.map((timeZone) => {
    const clock = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' });
    const found: number[] = [];
    let before = NaN;
    for (let day = FIRST; day < LAST; day += DAY_MS) {
      const local = Date.parse(`${clock.format(day)}Z`);
      if (local - before !== DAY_MS) found.push(day - DAY_MS);
      before = local;
    }
    return [timeZone, found];
  }),
);

type Definition = Required<BusinessHours>;

function watched({ timeZone, days, from, to, holidays }: Definition): (at: number) => boolean {
  const clock = wallClock(timeZone);
  const open = days.map((day) => NAMES[day]);
  return (at) => {
    const { day, date, time } = clock(at);
    return time >= from && time < to && open.includes(day) && !holidays.includes(date);
  };
}

function walked(at: number, open: (at: number) => boolean): number {
  if (open(at)) return at;
  let minute = Math.floor(at / MINUTE_MS) * MINUTE_MS + MINUTE_MS;
  while (!open(minute)) minute += MINUTE_MS;
  return minute;
}

const hhmm = (minutes: number): string =>
  [Math.floor(minutes / 60), minutes % 60].map((part) => String(part).padStart(2, '0')).join(':');

/** Half of them early in the morning, where clocks change. */
const someTimes = fc
  .oneof(fc.tuple(fc.nat(240), fc.nat(240)), fc.tuple(fc.nat(1_440), fc.nat(1_440)))
  .filter(([one, other]) => one !== other)
  .map(([one, other]) => ({ from: hhmm(Math.min(one, other)), to: hhmm(Math.max(one, other)) }));

const someDays = fc.subarray([...EVERY_DAY], { minLength: 1 });
const someZone = fc.constantFrom(...ZONES);

/** Half of them within days of a change of the clock. */
function someInstant(zone: string): fc.Arbitrary<number> {
  const anywhere = fc.integer({ min: FIRST, max: LAST });
  const nearby = fc.tuple(
    fc.constantFrom(...(changes.get(zone) ?? [])),
    fc.integer({ min: -2 * DAY_MS, max: 2 * DAY_MS }),
  );
  return fc.oneof(
    anywhere,
    nearby.map(([change, away]) => change + away),
  );
}

/** Hours with a few holidays soon after the instant, and the instant. */
const hoursAndInstant = someZone.chain((timeZone) =>
  fc
    .tuple(someInstant(timeZone), someDays, someTimes, fc.subarray([0, 1, 2, 3, 4, 5, 6]))
    .map(([at, days, times, closed]) => {
      const holidays = closed.map((day) => dateIn(at + day * DAY_MS));
      return { at, hours: { timeZone, days, ...times, holidays } satisfies Definition };
    }),
);

describe('business hours: any hours anywhere', () => {
  it('it is business time exactly when a clock on the wall says so', () => {
    fc.assert(
      fc.property(hoursAndInstant, fc.array(fc.integer({ min: -DAY_MS, max: DAY_MS })), ({ at, hours }, others) => {
        const [open, checked] = [watched(hours), businessHours(hours)];
        for (const away of [0, ...others]) expect(isBusinessTime(at + away, checked)).toBe(open(at + away));
      }),
      { numRuns: 500 },
    );
  });

  it('the next is what somebody finds who waits and looks every minute: open, and nothing open before it', () => {
    fc.assert(
      fc.property(hoursAndInstant, ({ at, hours }) => {
        expect(nextBusinessTime(at, businessHours(hours))).toBe(walked(at, watched(hours)));
      }),
      { numRuns: 200 },
    );
  }, 60_000);

  it('the next is not before its instant, is open, and is its own next', () => {
    fc.assert(
      fc.property(hoursAndInstant, ({ at, hours }) => {
        const checked = businessHours(hours);
        const found = nextBusinessTime(at, checked);
        expect(found).toBeGreaterThanOrEqual(at);
        expect(isBusinessTime(found, checked)).toBe(true);
        expect(nextBusinessTime(found, checked)).toBe(found);
      }),
      { numRuns: 2_000 },
    );
  });

  it('who asks later is never sent earlier', () => {
    fc.assert(
      fc.property(hoursAndInstant, fc.nat(10 * DAY_MS), ({ at, hours }, later) => {
        const checked = businessHours(hours);
        expect(nextBusinessTime(at + later, checked)).toBeGreaterThanOrEqual(nextBusinessTime(at, checked));
      }),
      { numRuns: 2_000 },
    );
  });

  it('over some weeks every open day is found, and never a closed one', () => {
    fc.assert(
      fc.property(hoursAndInstant, ({ at, hours }) => {
        const clock = wallClock(hours.timeZone);
        const checked = businessHours(hours);
        const found = new Set<string>();
        for (let each = 0; each < 28 * 12; each += 1) {
          const { day, date } = clock(nextBusinessTime(at + each * 2 * HOUR_MS, checked));
          expect(hours.holidays).not.toContain(date);
          found.add(day);
        }
        expect([...found].sort()).toEqual(hours.days.map((day) => NAMES[day]).sort());
      }),
    );
  }, 60_000);

  it('an office takes what comes at night in one moment, and what comes by day evenly, with no hole', () => {
    const office = businessHours({ timeZone: 'Asia/Tokyo' });
    const ahead = 9 * HOUR_MS;
    const monday = Date.UTC(2026, 0, 12) - ahead;
    const counts: Record<string, number> = {};
    for (let at = monday + 18_000; at < monday + 7 * DAY_MS; at += HOUR_MS / 100) {
      const found = nextBusinessTime(at, office);
      const [date = '', time = ''] = new Date(found + ahead).toISOString().split('T');
      const key = `${date} ${found === at ? time.slice(0, 2) : time}`;
      counts[key] = (counts[key] ?? 0) + 1;
    }
    const perDay = ['12', '13', '14', '15', '16', '19'].flatMap((day) => [
      // From midnight; from five the day before; from five on Friday.
      [`2026-01-${day} 09:00:00.000Z`, (day === '12' ? 9 : day === '19' ? 7 + 48 : 16) * 100],
      ...(day === '19' ? [] : WORKING).map((hour) => [`2026-01-${day} ${hour}`, 100]),
    ]);
    expect(counts).toEqual(Object.fromEntries(perDay));
  });
});
