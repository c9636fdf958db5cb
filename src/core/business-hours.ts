// When people are at work: hours of the week in a time zone, less holidays. Knows no clock.

import { parseInstant } from './instant.ts';
import { BUSINESS_HORIZON_DAYS } from './limits.ts';
import { changeWithin, offsetIn, type OffsetAt } from './zone.ts';

/** As ISO 8601 counts them: 1 is Monday, 7 is Sunday. */
export type Weekday = 1 | 2 | 3 | 4 | 5 | 6 | 7;

/** As people write them; {@link businessHours} makes them ready for use. */
export interface BusinessHours {
  /** Of the IANA database: `Europe/Berlin`. */
  readonly timeZone: string;
  /** Monday to Friday where left out. */
  readonly days?: readonly Weekday[];
  /** Local `HH:MM`; `09:00` where left out. */
  readonly from?: string;
  /** Local `HH:MM`, the first minute that is closed again; `17:00` where left out, `24:00` for the end of the day. */
  readonly to?: string;
  /** Local dates, `YYYY-MM-DD`. */
  readonly holidays?: readonly string[];
}

/** Checked; made by {@link businessHours} alone. */
export interface OpeningHours {
  readonly offsetAt: OffsetAt;
  readonly days: ReadonlySet<number>;
  /** Milliseconds of the local day. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Days since 1 January 1970. */
  readonly holidays: ReadonlySet<number>;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const ISO_WEEK: readonly Weekday[] = [1, 2, 3, 4, 5, 6, 7];
const TIME_OF_DAY = /^(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)$/;

/**
 * Checks hours once, best where a task is defined, so that wrong ones stop a deployment and not a job. Throws RangeError
 * for a zone, a day, a time or a date that is none, for no day at all, and where `from` is not before `to`: hours over
 * midnight are not supported.
 */
export function businessHours(hours: BusinessHours): OpeningHours {
  const { timeZone, days = ISO_WEEK.slice(0, 5), from = '09:00', to = '17:00', holidays = [] } = hours;
  const [fromMs, toMs] = [timeOfDay(from), timeOfDay(to)];
  if (fromMs >= toMs) throw new RangeError(`Business hours from ${from} to ${to} do not end after they begin.`);
  if (days.length === 0) throw new RangeError('Business hours need at least one day of the week.');
  for (const day of days) {
    if (!ISO_WEEK.includes(day)) throw new RangeError(`${String(day)} is not in 1–7, Monday–Sunday.`);
  }
  return {
    offsetAt: offsetIn(timeZone),
    days: new Set(days),
    fromMs,
    toMs,
    holidays: new Set(holidays.map(dayOfDate)),
  };
}

/** Whether it is business time at `at`, epoch ms. A local hour that the clock repeats counts both times. */
export function isBusinessTime(at: number, { offsetAt, days, fromMs, toMs, holidays }: OpeningHours): boolean {
  const local = at + offsetAt(at);
  const day = Math.floor(local / DAY_MS);
  const time = local - day * DAY_MS;
  return days.has(weekdayOf(day)) && !holidays.has(day) && time >= fromMs && time < toMs;
}

/**
 * The first business time that is not before `at`, both epoch ms: `at` itself where it is one. Where the clock skips the
 * opening time, business begins at the first instant after the gap that is within the hours; where it repeats it, the
 * first time. A job that waits for it asks again when it runs.
 *
 * Throws RangeError where there is none within {@link BUSINESS_HORIZON_DAYS}, as when every day is a holiday.
 */
export function nextBusinessTime(at: number, hours: OpeningHours): number {
  let next = at;
  while (!isBusinessTime(next, hours)) {
    next = nextStop(next, hours);
    if (next > at + BUSINESS_HORIZON_DAYS * DAY_MS) {
      throw new RangeError(`No business time within ${String(BUSINESS_HORIZON_DAYS)} days: are they all holidays?`);
    }
  }
  return next;
}

/**
 * The first instant after `at` where closed hours could open: the clock reads `from`, or it changes. It is at most a day
 * away, and since 1970 no clock has changed twice in less than six.
 */
function nextStop(at: number, { offsetAt, fromMs }: OpeningHours): number {
  const offset = offsetAt(at);
  const opening = Math.floor((at + offset) / DAY_MS) * DAY_MS + fromMs - offset;
  const stop = opening > at ? opening : opening + DAY_MS;
  return offsetAt(stop) === offset ? stop : changeWithin(at, stop, offsetAt);
}

function weekdayOf(day: number): number {
  return new Date(day * DAY_MS).getUTCDay() || 7;
}

function timeOfDay(text: string): number {
  if (!TIME_OF_DAY.test(text)) throw new RangeError(`${JSON.stringify(text)} is no time of the day, HH:MM.`);
  return (Number(text.slice(0, 2)) * 60 + Number(text.slice(3))) * MINUTE_MS;
}

function dayOfDate(text: string): number {
  const midnight = parseInstant(`${text}T00:00Z`);
  if (midnight === undefined) throw new RangeError(`${JSON.stringify(text)} is no date of the calendar: YYYY-MM-DD.`);
  return midnight / DAY_MS;
}
