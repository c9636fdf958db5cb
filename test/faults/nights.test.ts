// Nights on which clocks change, minute by minute, with every policy: what is fired, and what is made good of a silence.

import { expect, it } from 'vitest';
import { fireSchedules } from '../../src/cron/fire.ts';
import { syncSchedules } from '../../src/cron/sync.ts';
import { CATCH_UPS, OVERLAP_POLICIES } from '../../src/store/schedules.ts';
import { Prng } from './sim/prng.ts';
import { Sqlite } from './sim/sqlite.ts';
import { firedIn, isolateOf, task } from './ticking.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

interface Night {
  readonly zone: string;
  /** The instant the clock changes, or would. */
  readonly change: string;
  /** When a quarter past two runs, and a quarter to two. */
  readonly quarterPastTwo: string;
  readonly quarterToTwo: string;
}

const NIGHTS: readonly (readonly [string, Night])[] = [
  [
    'New York skips 02:00 to 03:00',
    {
      zone: 'America/New_York',
      change: '2026-03-08T07:00Z',
      quarterPastTwo: '2026-03-08T07:00Z',
      quarterToTwo: '2026-03-08T06:45Z',
    },
  ],
  [
    'New York has 01:00 to 02:00 twice',
    {
      zone: 'America/New_York',
      change: '2026-11-01T06:00Z',
      quarterPastTwo: '2026-11-01T07:15Z',
      quarterToTwo: '2026-11-01T05:45Z',
    },
  ],
  [
    'Berlin skips 02:00 to 03:00',
    {
      zone: 'Europe/Berlin',
      change: '2026-03-29T01:00Z',
      quarterPastTwo: '2026-03-29T01:00Z',
      quarterToTwo: '2026-03-29T00:45Z',
    },
  ],
  [
    'Berlin has 02:00 to 03:00 twice',
    {
      zone: 'Europe/Berlin',
      change: '2026-10-25T01:00Z',
      quarterPastTwo: '2026-10-25T00:15Z',
      quarterToTwo: '2026-10-24T23:45Z',
    },
  ],
  [
    'Lord Howe skips 02:00 to 02:30',
    {
      zone: 'Australia/Lord_Howe',
      change: '2026-10-03T15:30Z',
      quarterPastTwo: '2026-10-03T15:30Z',
      quarterToTwo: '2026-10-03T15:15Z',
    },
  ],
  [
    'Lord Howe has 01:30 to 02:00 twice',
    {
      zone: 'Australia/Lord_Howe',
      change: '2026-04-04T15:00Z',
      quarterPastTwo: '2026-04-04T15:45Z',
      quarterToTwo: '2026-04-04T14:45Z',
    },
  ],
  [
    'Kolkata in spring changes nothing',
    {
      zone: 'Asia/Kolkata',
      change: '2026-03-28T20:30Z',
      quarterPastTwo: '2026-03-28T20:45Z',
      quarterToTwo: '2026-03-28T20:15Z',
    },
  ],
  [
    'Kolkata in autumn changes nothing',
    {
      zone: 'Asia/Kolkata',
      change: '2026-10-24T20:30Z',
      quarterPastTwo: '2026-10-24T20:45Z',
      quarterToTwo: '2026-10-24T20:15Z',
    },
  ],
];

/** From three hours before the change to three hours after it. `silent`: no tick came from an hour before to 90 minutes after it. */
async function live({ zone, change }: Night, silent: boolean): Promise<ReadonlyMap<string, readonly number[]>> {
  const at = Date.parse(change);
  const from = at - 3 * HOUR_MS;
  const sqlite = new Sqlite();
  sqlite.reset();
  const random = new Prng(1);
  const isolate = (now: number): ReturnType<typeof isolateOf> => isolateOf(sqlite, random, now);
  const crons = { past: '15 2 * * *', to: '45 1 * * *', halves: '*/30 * * * *' };
  const lines = Object.entries(crons).flatMap(([name, cron]) =>
    CATCH_UPS.flatMap((catchUp) =>
      OVERLAP_POLICIES.map((overlap) => ({
        ...{ name: `${name} ${catchUp} ${overlap}`, task: task.name, cron, timezone: zone },
        ...{ catch_up: catchUp, overlap },
      })),
    ),
  );
  await syncSchedules(isolate(from), lines);
  for (let now = from + 2_000; now <= at + 3 * HOUR_MS; now += MINUTE_MS) {
    if (!silent || now < at - HOUR_MS || now > at + 1.5 * HOUR_MS) await fireSchedules(isolate(now));
  }
  return firedIn(sqlite);
}

it.each(NIGHTS)('%s: each local time runs once, and every half hour is every half hour', async (_, night) => {
  const fired = await live(night, false);
  const at = Date.parse(night.change);
  const halves = Array.from({ length: 12 }, (__, half) => at + (half - 5) * 30 * MINUTE_MS);
  for (const catchUp of CATCH_UPS) {
    for (const overlap of OVERLAP_POLICIES) {
      const dues = ['past', 'to', 'halves'].map((name) => fired.get(`${name} ${catchUp} ${overlap}`));
      expect(dues).toEqual([[Date.parse(night.quarterPastTwo)], [Date.parse(night.quarterToTwo)], halves]);
    }
  }
});

it.each(NIGHTS)('%s: of a silence over it all is made good, or the last, or nothing', async (_, night) => {
  const fired = await live(night, true);
  const at = Date.parse(night.change);
  const halves = Array.from({ length: 12 }, (__, half) => at + (half - 5) * 30 * MINUTE_MS);
  // Ticks are there up to an hour before, and decide 75 s ahead; the first to come is 90 minutes and some seconds after.
  const missed = (due: number): boolean => due > at - HOUR_MS + 15_000 && due <= at + 1.5 * HOUR_MS;
  const gone = halves.filter(missed);
  for (const overlap of OVERLAP_POLICIES) {
    const of = (catchUp: string): unknown =>
      ['past', 'to', 'halves'].map((name) => fired.get(`${name} ${catchUp} ${overlap}`) ?? []);
    const once = [[Date.parse(night.quarterPastTwo)], [Date.parse(night.quarterToTwo)]];
    const one = halves.filter((due) => !missed(due) || due === gone.at(-1));
    expect(of('all')).toEqual([...once, halves]);
    expect(of('last')).toEqual([...once, one]);
    // The last of the half hours was due two seconds before the first tick: that is no silence.
    expect(of('none')).toEqual([...once.map((dues) => dues.filter((due) => !missed(due))), one]);
  }
});
