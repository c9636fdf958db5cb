// Cron patterns as calendars of the wall clock, which is read as UTC: they know neither zones nor now. The library counts
// (docs/decisions/0009-cron.md); what is a pattern at all is said here, since it takes more than cron does.

import { Cron } from 'croner';
import { MAX_CRON_CHARS } from './limits-schedules.ts';

/** Checked; made by {@link calendarOf} alone. */
export interface Calendar {
  /** The first time after `wall`, both what a clock shows, read as UTC; undefined where there is none before the year 3000. */
  readonly next: (wall: number) => number | undefined;
  /** Whether its hour field allows all 24. */
  readonly everyHour: boolean;
}

interface Field {
  readonly name: string;
  readonly shape: RegExp;
  readonly right: string;
}

const HOUR_MS = 3_600_000;
const HOURS = Array.from({ length: 24 }, (_, hour) => new Date(hour * HOUR_MS));
/** Any time will do: within 400 years the calendar repeats itself. */
const SOME_TIME = Date.UTC(2000, 0, 1);

const NICKNAMES: ReadonlyMap<string, string> = new Map([
  ['@hourly', '0 * * * *'],
  ['@daily', '0 0 * * *'],
  ['@midnight', '0 0 * * *'],
  ['@weekly', '0 0 * * 0'],
  ['@monthly', '0 0 1 * *'],
  ['@yearly', '0 0 1 1 *'],
  ['@annually', '0 0 1 1 *'],
]);

const NUMBER = String.raw`\d{1,2}`;
const MONTH = `(?:${NUMBER}|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)`;
const WEEKDAY = `(?:${NUMBER}|SUN|MON|TUE|WED|THU|FRI|SAT)`;
const FIELDS: readonly Field[] = [
  { name: 'second', shape: listOf(NUMBER), right: '0–59' },
  { name: 'minute', shape: listOf(NUMBER), right: '0–59' },
  { name: 'hour', shape: listOf(NUMBER), right: '0–23' },
  { name: 'day of the month', shape: listOf(NUMBER, 'LW?', `${NUMBER}W`), right: '1–31, L (last day), LW or 15W' },
  { name: 'month', shape: listOf(MONTH), right: '1–12 or JAN–DEC' },
  { name: 'day of the week', shape: listOf(WEEKDAY, `${WEEKDAY}(?:L|#[1-5])`), right: '0–7 or SUN–SAT, 5L or 5#2' },
];

/** `*`, values, ranges, steps of either and what else there is, separated by commas. */
function listOf(value: string, ...others: readonly string[]): RegExp {
  const one = [String.raw`\*(?:/${NUMBER})?`, `${value}(?:-${value}(?:/${NUMBER})?)?`, ...others].join('|');
  return new RegExp(`^(?:${one})(?:,(?:${one}))*$`, 'i');
}

/**
 * Five fields (minute, hour, day of the month, month, day of the week), six with seconds first, or a nickname (`@daily`).
 * Where neither field of the day is `*`, either of them matches. Throws RangeError, which says what is wrong, for anything
 * else and for what never comes (`0 0 31 2 *`).
 */
export function calendarOf(pattern: string): Calendar {
  const fields = fieldsOf(pattern);
  const cron = counted(fields);
  if (cron === undefined) throw new RangeError(faultOf(pattern, fields));
  const next: Calendar['next'] = (wall) => cron.nextRun(new Date(wall))?.getTime();
  if (next(SOME_TIME) === undefined) {
    throw new RangeError(`The cron pattern ${JSON.stringify(pattern)} never comes: no such month has such a day.`);
  }
  return { next, everyHour: isEveryHour(fields[2]) };
}

/** Six of them. */
function fieldsOf(pattern: string): readonly string[] {
  const shown = JSON.stringify(pattern.slice(0, MAX_CRON_CHARS));
  if (pattern.length > MAX_CRON_CHARS) {
    throw new RangeError(`A cron pattern has at most ${String(MAX_CRON_CHARS)} characters; this one begins ${shown}.`);
  }
  const trimmed = pattern.trim();
  const nicknamed = NICKNAMES.get(trimmed.toLowerCase());
  if (trimmed.startsWith('@') && nicknamed === undefined) {
    throw new RangeError(`${shown} is no nickname of a cron pattern: these are ${[...NICKNAMES.keys()].join(', ')}.`);
  }
  const fields = (nicknamed ?? trimmed).split(/\s+/);
  if (fields.length === 5) return ['0', ...fields];
  if (fields.length === 6) return fields;
  throw new RangeError(
    `The cron pattern ${shown} does not have five fields (minute, hour, day of the month, month, day of the week), ` +
      'or six with the second first.',
  );
}

function counted(fields: readonly string[]): Cron | undefined {
  if (!FIELDS.every(({ shape }, at) => shape.test(fields[at] ?? ''))) return undefined;
  try {
    return new Cron(fields.join(' '), { utcOffset: 0, mode: '6-part' });
  } catch {
    // A value out of range, a range the wrong way round, a step of none.
    return undefined;
  }
}

function faultOf(pattern: string, fields: readonly string[]): string {
  const alone = (at: number): readonly string[] => FIELDS.map((_, other) => (other === at ? (fields[at] ?? '') : '*'));
  const wrong = FIELDS.findIndex((_, at) => counted(alone(at)) === undefined);
  const field = FIELDS[wrong];
  const whole = `In the cron pattern ${JSON.stringify(pattern)}`;
  if (field === undefined) return `${whole} the fields do not go together.`;
  const is = `${whole} the ${field.name} is ${JSON.stringify(fields[wrong])}.`;
  return `${is} It may be ${field.right}; a range upwards (1-5), a list (1,5), steps (*/5, 1-5/2) or *.`;
}

function isEveryHour(hour = '*'): boolean {
  const cron = counted(['0', '0', hour, '*', '*', '*']);
  return HOURS.every((at) => cron?.match(at) === true);
}
