// What a time zone is ahead of UTC, and when that changes. Knows no clock; zones are Intl's, whose data is the runtime's.

import { MAX_ZONES_KEPT } from './limits.ts';

/** What a zone is ahead of UTC at `at`; both in milliseconds, `at` since the epoch. */
export type OffsetAt = (at: number) => number;

// No zone is further from UTC, or goes back further at once; and since 1970 no clock has changed twice in two of them.
const DAY_MS = 86_400_000;
/** `GMT`, `GMT+05:45`; before 1972 also with seconds. */
const OFFSET = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?/;

/** Throws RangeError for a zone that the runtime does not know. */
export function offsetIn(timeZone: string): OffsetAt {
  const format = formatOf(timeZone);
  return (at) => {
    const written = format.format(at);
    const offset = OFFSET.exec(written);
    if (offset === null) throw new Error(`This runtime writes no offset of ${timeZone}: ${written}`);
    const [, sign, hours = '0', minutes = '0', seconds = '0'] = offset;
    const ahead = (Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds)) * 1_000;
    return sign === '-' ? -ahead : ahead;
  };
}

/** The first instant with another offset than at `before`; at `after` it is another. */
export function changeWithin(before: number, after: number, offsetAt: OffsetAt): number {
  const offset = offsetAt(before);
  let [same, other] = [Math.floor(before), after];
  while (other - same > 1) {
    const middle = Math.floor((same + other) / 2);
    if (offsetAt(middle) === offset) same = middle;
    else other = middle;
  }
  return other;
}

/**
 * The first instant at which a clock of the zone shows `wall` or later; `wall` is what it shows, read as UTC. So a time that
 * is skipped is the end of the gap, and one that is repeated its first. Never goes back as `wall` goes on.
 */
export function firstInstantOf(wall: number, offsetAt: OffsetAt): number {
  const [dayBefore, dayAfter] = [wall - DAY_MS, wall + DAY_MS];
  const [before, after] = [offsetAt(dayBefore), offsetAt(dayAfter)];
  const first = wall - before;
  if (before === after) return first;
  const change = changeWithin(dayBefore, dayAfter, offsetAt);
  return first < change ? first : Math.max(change, wall - after);
}

/** The latest that a clock of the zone has shown up to `at`, read as UTC: while an hour is repeated, its end. */
export function latestWallBy(at: number, offsetAt: OffsetAt): number {
  const [dayBefore, offset] = [at - DAY_MS, offsetAt(at)];
  const before = offsetAt(dayBefore);
  if (before <= offset) return at + offset;
  return Math.max(at + offset, changeWithin(dayBefore, at, offsetAt) - 1 + before);
}

// Making one takes as long as forty offsets. Zones may come from outside, in any number of spellings.
const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known !== undefined) return known;
  if (formats.size >= MAX_ZONES_KEPT) formats.clear();
  try {
    const made = new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' });
    formats.set(timeZone, made);
    return made;
  } catch (cause) {
    throw new RangeError(`${JSON.stringify(timeZone)} is no time zone that this runtime knows.`, { cause });
  }
}
