// When a schedule is due: by a cron pattern on the clock of a zone, or every so often. Knows no clock.

import { calendarOf, type Calendar } from './cron.ts';
import { formatInstant } from './instant.ts';
import { MAX_EVERY_MS, MIN_EVERY_MS } from './limits-schedules.ts';
import { changeWithin, firstInstantOf, latestWallBy, offsetIn, type OffsetAt } from './zone.ts';

/** As a schedule says it: exactly one of `cron` and `everyMs`. Instants are epoch ms, both included. */
export interface TimingSpec {
  readonly cron?: string | null;
  /** Whole seconds, {@link MIN_EVERY_MS} to {@link MAX_EVERY_MS}. */
  readonly everyMs?: number | null;
  /** Of the IANA database: `Europe/Berlin`. */
  readonly timezone: string;
  readonly startsAt: number | null;
  readonly endsAt: number | null;
}

/** Checked; made by {@link timingOf} alone. */
export interface Timing {
  /** The first due time after a whole millisecond, whatever the bounds. */
  readonly next: (after: number) => number | undefined;
  readonly startsAt: number;
  readonly endsAt: number;
}

const SECOND_MS = 1_000;
const DAY_MS = 86_400_000;
const EVERY = /^(?:(\d{1,8})d)?(?:(\d{1,8})h)?(?:(\d{1,8})m)?(?:(\d{1,8})s)?$/;

/**
 * Checks a schedule's time once. Throws RangeError with a message for people: what is wrong, what was given, what is right.
 *
 * What a clock that changes does to a cron pattern depends on its hour field:
 *
 * - It names hours: a local time that is skipped runs once at the end of the gap, with whatever else of the gap was skipped
 *   and what is due at its end; a local time that is repeated runs once, the first time. So every day has its runs.
 * - It allows all 24 (`*`, `0-23`): a gap skips nothing, for no time passes in it, and a repeated hour has its runs again.
 *   So every 15 minutes stays every 15 minutes.
 *
 * `everyMs` counts the time that passes: its multiples since `startsAt`, or since 1970 in UTC. Due times are whole seconds.
 */
export function timingOf({ cron, everyMs, timezone, startsAt, endsAt }: TimingSpec): Timing {
  const offsetAt = offsetIn(timezone);
  const bounds = { startsAt: startsAt ?? -Infinity, endsAt: endsAt ?? Infinity };
  if (bounds.startsAt > bounds.endsAt) {
    throw new RangeError(
      `A schedule from ${formatInstant(bounds.startsAt)} to ${formatInstant(bounds.endsAt)} ends before it starts.`,
    );
  }
  if (typeof cron === 'string' && typeof everyMs === 'number') {
    throw new RangeError('A schedule has a cron pattern or an interval, not both.');
  }
  if (typeof everyMs === 'number') return { next: everySoOften(checkedEvery(everyMs), startsAt ?? 0), ...bounds };
  if (typeof cron !== 'string') throw new RangeError('A schedule needs a cron pattern or an interval.');
  const calendar = calendarOf(cron);
  return { next: calendar.everyHour ? byElapsedTime(calendar, offsetAt) : byWallClock(calendar, offsetAt), ...bounds };
}

/**
 * Milliseconds of an interval: `30s`, `5m`, `2h`, `1d`, `1h30m`, or a number of seconds. Throws RangeError for anything else
 * and for less than a second, parts of one, and more than 365 days.
 */
export function parseEvery(text: string | number): number {
  if (typeof text === 'number') return checkedEvery(text * SECOND_MS, text);
  const [, days = '0', hours = '0', minutes = '0', seconds = '0'] = EVERY.exec(text) ?? [];
  const elapsed = ((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds);
  return checkedEvery(elapsed * SECOND_MS, text);
}

/** The shortest text that {@link parseEvery} reads as these milliseconds. */
export function formatEvery(everyMs: number): string {
  const seconds = everyMs / SECOND_MS;
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  return parts.map(([count, unit]) => (count === 0 ? '' : `${String(count)}${unit}`)).join('');
}

function checkedEvery(everyMs: number, given: string | number = everyMs / SECOND_MS): number {
  if (everyMs >= MIN_EVERY_MS && everyMs <= MAX_EVERY_MS && everyMs % SECOND_MS === 0) return everyMs;
  const shown = typeof given === 'string' ? JSON.stringify(given.slice(0, 50)) : String(given);
  throw new RangeError(
    `${shown} is no interval of a schedule: say "30s", "5m", "2h", "1d", "1h30m" or a number of seconds; whole seconds, at ` +
      'least one and at most 365 days.',
  );
}

/** The first due time after `after`, epoch ms; undefined where there is none any more. */
export function nextDue({ next, startsAt, endsAt }: Timing, after: number): number | undefined {
  const due = next(Math.max(Math.floor(after), Math.ceil(startsAt) - 1));
  return due !== undefined && due <= endsAt ? due : undefined;
}

/** The first `count` due times after `after`; fewer where there are no more. */
export function nextDues(timing: Timing, after: number, count: number): readonly number[] {
  const dues: number[] = [];
  let due = nextDue(timing, after);
  while (due !== undefined && dues.length < count) {
    dues.push(due);
    due = nextDue(timing, due);
  }
  return dues;
}

/**
 * The latest `most` due times after `after` and not after `until`, in order; `more`: there are earlier ones that were left
 * out. Looks back from `until`, so that a long silence costs no more than a short one.
 */
export function latestDues(
  timing: Timing,
  after: number,
  until: number,
  most: number,
): { readonly dues: readonly number[]; readonly more: boolean } {
  const first = nextDue(timing, after);
  if (first === undefined || first > until) return { dues: [], more: false };
  const dues: number[] = [];
  let [end, reach] = [until, SECOND_MS];
  while (dues.length < most && end >= first) {
    const due = latestDue(timing, first, end, reach);
    dues.push(due);
    // Most are as far apart as those after them.
    [end, reach] = [due - 1, end - due + 1];
  }
  dues.reverse();
  return { dues, more: dues[0] !== first };
}

/** The latest due time up to `until`; `first` is one. Looks as far back as `reach`, then twice as far, until there is one. */
function latestDue(timing: Timing, first: number, until: number, reach: number): number {
  const dueAfter = (at: number): number | undefined => {
    const due = nextDue(timing, at);
    return due !== undefined && due <= until ? due : undefined;
  };
  let found: number | undefined;
  for (let back = reach; found === undefined; back *= 2) {
    found = until - back < first ? first : dueAfter(until - back);
  }
  // Nothing is due after `end`: the two close in on the latest.
  let end = until;
  for (let due = dueAfter(found); due !== undefined; due = dueAfter(found)) {
    const middle = Math.floor((due + end) / 2);
    const later = dueAfter(middle);
    if (later === undefined) end = middle;
    found = later ?? due;
  }
  return found;
}

function everySoOften(everyMs: number, anchor: number): Timing['next'] {
  const origin = Math.ceil(anchor / SECOND_MS) * SECOND_MS;
  return (after) => origin + (Math.floor((after - origin) / everyMs) + 1) * everyMs;
}

/** For patterns that name hours; see {@link timingOf}. */
function byWallClock({ next }: Calendar, offsetAt: OffsetAt): Timing['next'] {
  return (after) => {
    const wall = next(latestWallBy(after, offsetAt));
    return wall === undefined ? undefined : firstInstantOf(wall, offsetAt);
  };
}

/** For patterns that allow every hour; see {@link timingOf}. */
function byElapsedTime({ next }: Calendar, offsetAt: OffsetAt): Timing['next'] {
  return (after) => {
    let from = after + 1;
    for (;;) {
      const offset = offsetAt(from);
      const wall = next(from + offset - 1);
      if (wall === undefined) return undefined;
      const due = wall - offset;
      const near = Math.min(due, from + DAY_MS);
      if (offsetAt(near) !== offset) {
        from = changeWithin(from, near, offsetAt);
      } else if (due === near) {
        return due;
      } else {
        // Further than any clock goes back, so that none shows this day again before.
        const first = firstInstantOf(wall, offsetAt);
        if (first + offsetAt(first) === wall) return first;
        from = first;
      }
    }
  };
}
