// What every candidate is asked.

export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

/** Around each change of a clock in these years, in every zone. */
export const YEARS = [Date.UTC(2024, 0, 1), Date.UTC(2028, 0, 1)];

export const PATTERNS = [
  ...['30 2 * * *', '30 1 * * *', '30 3 * * *', '0 0 * * *', '0 9 * * *', '0 */2 * * *', '*/20 1-3 * * SUN'],
  ...['*/15 * * * *', '15 * * * *', '0 0-23 * * *'],
];
/** Second by second, where what clocks do differs. */
export const PATTERNS_WITH_SECONDS = ['*/20 55-59,0-5 * * * *', '0,30 59,0 1-3 * * *', '15 30 2 * * *'];

/** Clocks that changed for good, by half an hour, at midnight, by a day. */
export const FAMOUS = [
  ['Pacific/Apia', '2011-12-30T10:00Z'],
  ['Pacific/Kwajalein', '1993-08-21T12:00Z'],
  ['America/Caracas', '2007-12-09T07:00Z'],
  ['America/Caracas', '2016-05-01T07:00Z'],
  ['Asia/Pyongyang', '2015-08-14T15:00Z'],
  ['Asia/Pyongyang', '2018-05-04T15:00Z'],
  ['America/Sao_Paulo', '2018-11-04T03:00Z'],
  ['America/Sao_Paulo', '2019-02-17T02:00Z'],
  ['Europe/Moscow', '2014-10-25T22:00Z'],
  ['Europe/Istanbul', '2015-11-08T01:00Z'],
  ['Asia/Kathmandu', '1985-12-31T18:30Z'],
  ['Asia/Tehran', '2022-03-21T20:30Z'],
];

export const NONSENSE = [
  ...['', '* * * *', '61 * * * *', '0 24 * * *', '0 0 0 * *', '0 0 32 * *', '0 0 * 13 *', '0 0 * * 8', '-1 * * * *'],
  ...[
    '*/0 * * * *',
    '30-10 * * * *',
    '1.5 * * * *',
    '1,,2 * * * *',
    '5abc * * * *',
    '@reboot',
    'hello',
    '0 0 * * MONDAZ',
  ],
];
/** Never, never, never, and in 2028. */
export const RARE = ['0 0 31 2 *', '0 0 30 FEB *', '0 0 31 4,6,9,11 *', '0 0 29 2 *'];
