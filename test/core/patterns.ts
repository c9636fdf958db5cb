// Cron patterns as they may be, for properties: any of what a field allows, the usual more often than the rare.

import fc from 'fast-check';

const MONTHS = ['JAN', 'feb', 'MAR', 'APR', 'MAY', 'Jun', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const WEEKDAYS = ['SUN', 'MON', 'tue', 'WED', 'THU', 'Fri', 'SAT'];

function field(least: number, most: number, ...others: readonly fc.Arbitrary<string>[]): fc.Arbitrary<string> {
  const value = fc.integer({ min: least, max: most });
  const range = fc
    .tuple(value, value)
    .map(([one, other]) => `${String(Math.min(one, other))}-${String(Math.max(one, other))}`);
  const step = fc.integer({ min: 1, max: most - least });
  const part = fc.oneof(
    value.map(String),
    range,
    fc.tuple(range, step).map(([from, by]) => `${from}/${String(by)}`),
    step.map((by) => `*/${String(by)}`),
    ...others,
  );
  return fc.oneof(
    { weight: 2, arbitrary: fc.constant('*') },
    part,
    fc.array(part, { minLength: 2, maxLength: 3 }).map((parts) => parts.join(',')),
  );
}

const nearest = fc.integer({ min: 1, max: 31 }).map((day) => `${String(day)}W`);
const weekday = fc.oneof(fc.integer({ min: 0, max: 7 }).map(String), fc.constantFrom(...WEEKDAYS));
const nth = fc.tuple(weekday, fc.integer({ min: 1, max: 5 })).map(([day, which]) => `${day}#${String(which)}`);
const last = weekday.map((day) => `${day}L`);

const DAYS = field(1, 31, fc.constant('L'), nearest);
const someDay = fc.oneof({ weight: 9, arbitrary: DAYS }, { weight: 1, arbitrary: fc.constant('LW') });
const someMonth = fc.oneof({ weight: 3, arbitrary: fc.constant('*') }, field(1, 12, fc.constantFrom(...MONTHS)));
const someWeekday = field(0, 7, weekday, nth, last);

/** Five fields or six. */
export const somePattern: fc.Arbitrary<string> = fc
  .tuple(fc.option(field(0, 59)), field(0, 59), field(0, 23), someDay, someMonth, someWeekday)
  .map((fields) => fields.filter((text) => text !== null).join(' '));

/** Five fields, on days that come every week or so. */
export const someFrequentPattern: fc.Arbitrary<string> = fc
  .tuple(field(0, 59), field(0, 23), fc.constantFrom('*', '*', '*', '*/2', '1-20'), field(0, 6))
  .map(([minute, hour, day, ofWeek]) => `${minute} ${hour} ${day} * ${ofWeek}`);
