// What a schedule means to somebody who only ever looks at a wall clock: reads it minute by minute (or second by second)
// by Intl, and compares what it shows with the fields of the pattern. Knows nothing of src/, and is as slow as it looks.

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** What the clock shows, read as UTC. */
type Wall = number;

/** What becomes of local times that a clock skips, and of those it shows twice. */
export interface Rule {
  /** At the end of the gap; as much later as the clock went forward; not at all. */
  readonly gap: 'end' | 'shifted' | 'skipped';
  readonly repeat: 'first' | 'both' | 'second';
}

/** A pattern that names hours has each of its times once; one that does not goes by the time that passes. */
export const NAMED_HOURS: Rule = { gap: 'end', repeat: 'first' };
export const EVERY_HOUR: Rule = { gap: 'skipped', repeat: 'both' };

export function ruleOf(pattern: string): Rule {
  const hours = valuesOf(fieldsOf(pattern)[2], 0, 23);
  return hours.size === 24 ? EVERY_HOUR : NAMED_HOURS;
}

/** A clock, read again and again. */
export interface Walk {
  readonly stepMs: number;
  /** In order, `stepMs` apart. */
  readonly readings: readonly { readonly at: number; readonly wall: Wall }[];
}

export function wallClock(timeZone: string): (at: number) => Wall {
  // "2026-01-13 09:00:00"
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' });
  return (at) => Date.parse(`${format.format(at).replace(' ', 'T')}Z`);
}

export function walk(timeZone: string, from: number, to: number, stepMs = MINUTE_MS): Walk {
  const show = wallClock(timeZone);
  const readings: { at: number; wall: Wall }[] = [];
  for (let at = from; at <= to; at += stepMs) readings.push({ at, wall: show(at) });
  return { stepMs, readings };
}

/** The first minutes in [from, to) at which the clock no longer goes on as before. */
export function changesOf(timeZone: string, from: number, to: number): readonly number[] {
  const show = wallClock(timeZone);
  const ahead = (at: number): number => show(at) - at;
  const found: number[] = [];
  for (let at = from; at < to; at += 6 * HOUR_MS) {
    if (ahead(at) === ahead(at + 6 * HOUR_MS)) continue;
    let minute = at;
    while (ahead(minute) === ahead(at)) minute += MINUTE_MS;
    found.push(minute);
  }
  return found;
}

/** When the pattern is due during the walk, its first reading excluded. */
export function duesOf(pattern: string, { stepMs, readings }: Walk, rule: Rule = ruleOf(pattern)): readonly number[] {
  const shows = matcher(pattern);
  const dues = new Set<number>();
  let before = readings[0];
  let latest = before?.wall ?? NaN;
  for (const reading of readings.slice(1)) {
    // What it has not shown before: one time, or all those of a gap as well.
    for (let wall = latest + stepMs; wall < reading.wall; wall += stepMs) {
      if (!shows(wall) || rule.gap === 'skipped') continue;
      dues.add(rule.gap === 'end' ? reading.at : wall - (before?.wall ?? NaN) + (before?.at ?? NaN));
    }
    const again = reading.wall <= latest;
    const wanted = again ? rule.repeat !== 'first' : rule.repeat !== 'second' || !willRepeat(readings, reading);
    if (wanted && shows(reading.wall)) dues.add(reading.at);
    latest = Math.max(latest, reading.wall);
    before = reading;
  }
  return [...dues].sort((one, other) => one - other);
}

function willRepeat(readings: Walk['readings'], { at, wall }: Walk['readings'][number]): boolean {
  return readings.some((other) => other.wall === wall && other.at > at);
}

/** The first `most` due times in UTC in (from, to], day by day; both whole seconds. */
export function duesInUtc(pattern: string, from: number, to: number, most: number): readonly number[] {
  const [seconds, minutes, hours] = timesOf(pattern);
  const isDay = dayMatcher(pattern);
  const dues: number[] = [];
  for (let day = Math.floor(from / DAY_MS) * DAY_MS; day <= to; day += DAY_MS) {
    if (!isDay(day)) continue;
    for (const hour of hours) {
      for (const minute of minutes) {
        for (const second of seconds) {
          const at = day + hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS;
          if (at > from && at <= to) dues.push(at);
          if (dues.length === most) return dues;
        }
      }
    }
  }
  return dues;
}

/** Whether a clock that shows `wall` shows what the pattern says. */
export function matcher(pattern: string): (wall: Wall) => boolean {
  const [seconds, minutes, hours] = timesOf(pattern).map((values) => new Set(values));
  const isDay = dayMatcher(pattern);
  return (wall) => {
    const date = new Date(wall);
    return (
      minutes?.has(date.getUTCMinutes()) === true &&
      hours?.has(date.getUTCHours()) === true &&
      seconds?.has(date.getUTCSeconds()) === true &&
      isDay(wall)
    );
  };
}

function fieldsOf(pattern: string): readonly [string, string, string, string, string, string] {
  const fields = pattern.trim().toUpperCase().split(/\s+/);
  const [second = '', minute = '', hour = '', day = '', month = '', weekday = ''] =
    fields.length === 5 ? ['0', ...fields] : fields;
  return [second, minute, hour, day, month, weekday];
}

function timesOf(pattern: string): [readonly number[], readonly number[], readonly number[]] {
  const [second, minute, hour] = fieldsOf(pattern);
  const inOrder = (values: ReadonlySet<number>): readonly number[] => [...values].sort((one, other) => one - other);
  return [inOrder(valuesOf(second, 0, 59)), inOrder(valuesOf(minute, 0, 59)), inOrder(valuesOf(hour, 0, 23))];
}

/** `*`, `5`, `1-5`, `1-5/2` and `*` with a step, and lists of them; whatever else is in the list is left to others. */
function valuesOf(field: string, least: number, most: number): ReadonlySet<number> {
  const values = new Set<number>();
  for (const part of field.split(',')) {
    const [, star, from, to, step = '1'] = /^(?:(\*)|(\d+)(?:-(\d+))?)(?:\/(\d+))?$/.exec(part) ?? [];
    if (star === undefined && from === undefined) continue;
    const [first, last] = star === '*' ? [least, most] : [Number(from), Number(to ?? from)];
    for (let value = first; value <= last; value += Number(step)) values.add(value);
  }
  return values;
}

const MONTHS = ['', 'JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const WEEKDAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

function dayMatcher(pattern: string): (wall: Wall) => boolean {
  const [, , , dayField, monthField, weekdayField] = fieldsOf(pattern);
  const months = valuesOf(numbered(monthField, MONTHS), 1, 12);
  const [byDay, byWeekday] = [dayOfMonthMatcher(dayField), weekdayMatcher(numbered(weekdayField, WEEKDAYS))];
  return (wall) => {
    const date = new Date(wall);
    if (!months.has(date.getUTCMonth() + 1)) return false;
    if (dayField === '*') return byWeekday(date);
    return byDay(date) || (weekdayField !== '*' && byWeekday(date));
  };
}

function numbered(field: string, names: readonly string[]): string {
  return field.replace('-SUN', '-7').replace(/[A-Z]{3}/g, (name) => String(names.indexOf(name)));
}

function dayOfMonthMatcher(field: string): (date: Date) => boolean {
  const days = valuesOf(field, 1, 31);
  const parts = field.split(',');
  return (date) => {
    const [day, last] = [date.getUTCDate(), lastDayOf(date)];
    const isWorkday = date.getUTCDay() >= 1 && date.getUTCDay() <= 5;
    return (
      days.has(day) ||
      (parts.includes('L') && day === last) ||
      (parts.includes('LW') && isWorkday && nearestWorkday(date, last, -1) === day) ||
      parts.some((part) => /^\d+W$/.test(part) && isWorkday && nearestWorkday(date, parseInt(part, 10)) === day)
    );
  };
}

/** The day of this month that is a workday and nearest to `day`; of the last days, only before. */
function nearestWorkday(date: Date, day: number, direction = 0): number | undefined {
  const last = lastDayOf(date);
  if (day > last) return undefined;
  const candidates = direction < 0 ? [0, -1, -2] : [0, -1, 1, 2, -2];
  return candidates
    .map((away) => day + away)
    .find((near) => {
      const weekday = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), near)).getUTCDay();
      return near >= 1 && near <= last && weekday >= 1 && weekday <= 5;
    });
}

function weekdayMatcher(field: string): (date: Date) => boolean {
  const weekdays = new Set([...valuesOf(field, 0, 6)].map((weekday) => weekday % 7));
  const parts = field.split(',');
  return (date) => {
    const [weekday, day] = [date.getUTCDay(), date.getUTCDate()];
    return (
      weekdays.has(weekday) ||
      parts.some((part) => {
        const [, which, nth, last] = /^(\d)(?:#(\d)|(L))$/.exec(part) ?? [];
        if (which === undefined || Number(which) % 7 !== weekday) return false;
        return last === 'L' ? day + 7 > lastDayOf(date) : Math.ceil(day / 7) === Number(nth);
      })
    );
  };
}

function lastDayOf(date: Date): number {
  return new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
}
