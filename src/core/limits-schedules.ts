// Limits of schedules: each its name, its number and where the number comes from.

/** Schedules that one statement of the tick looks at, and how many such statements a tick makes. */
export const SCHEDULES_PAGE = 100;
export const SCHEDULE_PAGES = 50;
/** Transactions in which a tick fires, of three to five statements each: an invocation has 1,000, and the sweeps need theirs. */
export const MAX_PORTIONS = 100;
/** Firings of one schedule that are decided in one go; the rest follow in the same tick. */
export const MAX_FIRINGS_AT_ONCE = 200;
/** Missed firings that `catch_up: all` makes good after one silence, and that one backfill makes. */
export const MAX_CATCH_UP = 1_000;
/** A firing this late was missed: the tick that was to see it came not at all. */
export const MISSED_AFTER_MS = 60_000;
export const MAX_JITTER_SECONDS = 86_400;
/** A schedule's input is bound again with every firing, many to a statement. */
export const MAX_SCHEDULE_INPUT_BYTES = 64_000;
/** Due times that are shown ahead. */
export const NEXT_RUNS = 5;
/** How long it is kept what became of a due time. */
export const KEEP_FIRINGS_MS = 30 * 86_400_000;
/** Longest cron pattern: every minute and every second as a list each would be 338 characters. */
export const MAX_CRON_CHARS = 512;
/** Shortest and longest interval of a schedule. */
export const MIN_EVERY_MS = 1_000;
export const MAX_EVERY_MS = 365 * 86_400_000;
