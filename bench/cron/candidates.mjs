// The candidates, each behind the same few lines: a pattern and a zone become a function that finds the next time after one.

import { getFutureMatches } from '@datasert/cronjs-matcher';
import { CronTime } from 'cron';
import { CronExpressionParser } from 'cron-parser';
import { parseCronExpression } from 'cron-schedule';
import { Cron } from 'croner';
import { CronosExpression } from 'cronosjs';
import { nextDue, timingOf } from '../../src/core/timing.ts';

/** All with their defaults. `zoned`: knows time zones at all; the others are asked in UTC only. */
export const CANDIDATES = [
  {
    name: 'ours',
    zoned: true,
    of(cron, timezone) {
      const timing = timingOf({ cron, timezone, startsAt: null, endsAt: null });
      return (after) => nextDue(timing, after);
    },
  },
  {
    name: 'croner',
    zoned: true,
    of(cron, timezone) {
      const job = new Cron(cron, { timezone });
      return (after) => job.nextRun(new Date(after))?.getTime();
    },
  },
  {
    name: 'cron-parser',
    zoned: true,
    of(cron, tz) {
      const expression = CronExpressionParser.parse(cron, { tz });
      return (after) => {
        expression.reset(new Date(after));
        return expression.next().getTime();
      };
    },
  },
  {
    name: 'cron-schedule',
    zoned: false,
    of(cron) {
      // It reads the clock of the process, which compare.mjs sets to UTC.
      const schedule = parseCronExpression(cron);
      return (after) => schedule.getNextDate(new Date(after)).getTime();
    },
  },
  {
    name: 'cronosjs',
    zoned: true,
    of(cron, timezone) {
      const expression = CronosExpression.parse(cron, { timezone });
      return (after) => expression.nextDate(new Date(after))?.getTime();
    },
  },
  {
    name: 'cron',
    zoned: true,
    of(cron, timezone) {
      const time = new CronTime(cron, timezone);
      return (after) => time.getNextDateFrom(new Date(after), timezone).toMillis();
    },
  },
  {
    name: '@datasert/cronjs-matcher',
    zoned: true,
    of(cron, timezone) {
      const options = { timezone, matchCount: 1, hasSeconds: cron.split(' ').length === 6 };
      getFutureMatches(cron, { ...options, startAt: '2026-01-01T00:00:00Z' });
      return (after) => {
        // A time equal to the start is a match of its own.
        const startAt = new Date(Math.floor(after / 1_000) * 1_000 + 1_000).toISOString();
        const [match] = getFutureMatches(cron, { ...options, startAt });
        return match === undefined ? undefined : Date.parse(match);
      };
    },
  },
];
