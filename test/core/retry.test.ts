import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/core/ports.ts';
import { exp60, exponential, linear60, retryDelayMs, type RetryPolicy } from '../../src/core/retry.ts';
import { runAttempt, type Outcome } from '../../src/jobs/attempt.ts';
import { Deferral, Discard, Retry } from '../../src/jobs/outcome.ts';
import { finishOf, type Moment } from '../../src/jobs/verdict.ts';
import type { Finish } from '../../src/store/claims.ts';
import { mulberry32 } from '../mulberry32.ts';
import { attemptOf, NOW, runtimeWith, type Given } from './attempts.ts';
import { manualClock } from './manual-clock.ts';

const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const DEFAULT = { kind: 'exponential', baseSeconds: 60, factor: 2, capSeconds: 600, jitter: 'equal' } as const;
const FAILED: Outcome = { kind: 'failure', code: 'exception', error: new Error('no'), retryable: true };

function at(now: number, { fraction: chance = 0, mayDelay = true } = {}): Moment {
  return { now, fraction: chance, mayDelay: () => mayDelay };
}

/** The waits of a job that fails as often as it may, in milliseconds, and the state it ends in. */
function climb(given: Given): { waits: number[]; end: Finish } {
  const waits: number[] = [];
  let now = NOW;
  for (let attempt = 1; ; attempt += 1) {
    const finish = finishOf(attemptOf({ ...given, attempt }), FAILED, at(now));
    if (finish.dueAt === null) return { waits, end: finish };
    waits.push(finish.dueAt - now);
    now = finish.dueAt;
  }
}

/** How an attempt is written down whose handler does `run`. */
async function endOf(run: () => unknown, given: Given = {}): Promise<Finish> {
  const clock = manualClock(NOW);
  const attempt = attemptOf({ ...given, clock, run });
  return finishOf(attempt, await runAttempt(runtimeWith(clock), attempt), at(clock.now()));
}

describe('INV-F16 retry ladder: the policies', () => {
  it('exp60 waits 60, 120, 240 and 480 s, exactly', () => {
    const waits = [1, 2, 3, 4].map((retry) => retryDelayMs(exp60, retry, 0.7));
    expect(waits).toEqual([60_000, 120_000, 240_000, 480_000]);
  });

  it('linear60 waits 60, 120 and 180 s, exactly', () => {
    expect([1, 2, 3].map((retry) => retryDelayMs(linear60, retry, 0.7))).toEqual([60_000, 120_000, 180_000]);
  });

  it('a list of delays takes no chances, and repeats its last one for every retry after it', () => {
    const delays = fc.array(fc.integer({ min: 0, max: 86_400 }), { minLength: 1, maxLength: 10 });
    fc.assert(
      fc.property(delays, fc.integer({ min: 1, max: 100 }), fraction, (seconds, retry, chance) => {
        const expected = seconds[retry - 1] ?? seconds.at(-1) ?? -1;
        expect(retryDelayMs({ kind: 'delays', seconds }, retry, chance)).toBe(expected * 1_000);
      }),
    );
  });

  it('the default doubles from 60 s and stays at 600 s; a wait is never under half of that nor over it', () => {
    expect(exponential).toEqual(DEFAULT);
    const full = [60_000, 120_000, 240_000, 480_000, 600_000];
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 101 }), fraction, (retry, chance) => {
        const whole = full[retry - 1] ?? 600_000;
        const wait = retryDelayMs(exponential, retry, chance);
        expect(wait).toBeGreaterThanOrEqual(whole / 2);
        expect(wait).toBeLessThanOrEqual(whole);
      }),
    );
  });

  const jittered: readonly (readonly [string, RetryPolicy, number])[] = [
    ['equal', exponential, 0.5],
    ['full', { ...DEFAULT, jitter: 'full' }, 0],
  ];

  it.each(jittered)('%s jitter leaves no hole: even chances fill 20 parts of its range evenly', (_, policy, from) => {
    const samples = 20_000;
    for (const [retry, whole] of [
      [1, 60_000],
      [3, 240_000],
      [9, 600_000],
    ] as const) {
      const lowest = whole * from;
      const counts = Array.from({ length: 20 }, () => 0);
      for (let each = 0; each < samples; each += 1) {
        const wait = retryDelayMs(policy, retry, (each + 0.5) / samples);
        const part = Math.min(19, Math.floor((20 * (wait - lowest)) / (whole - lowest)));
        counts[part] = (counts[part] ?? 0) + 1;
      }
      for (const count of counts) expect(Math.abs(count - samples / 20)).toBeLessThan(samples / 200);
    }
  });

  it.each(jittered)('%s jitter can give every whole millisecond of its range', (_, policy, from) => {
    fc.assert(
      fc.property(fc.integer({ min: 600_000 * from, max: 599_999 }), (wanted) => {
        expect(retryDelayMs(policy, 9, (wanted / 600_000 - from) / (1 - from))).toBe(wanted);
      }),
    );
  });

  it.each([
    ['equal', 0.5],
    ['full', 0],
  ] as const)('%s jitter of any ladder fills its range evenly by chance: chi-square over 20 parts', (jitter, from) => {
    const shape = fc.record({
      baseSeconds: fc.integer({ min: 1, max: 600 }),
      factor: fc.integer({ min: 1, max: 4 }),
      capSeconds: fc.integer({ min: 1, max: 3_600 }),
    });
    const run = fc.record({ shape, retry: fc.integer({ min: 1, max: 12 }), seed: fc.nat() });
    fc.assert(
      fc.property(run, ({ shape: ladder, retry, seed }) => {
        const whole = 1_000 * Math.min(ladder.capSeconds, ladder.baseSeconds * ladder.factor ** (retry - 1));
        const chance = mulberry32(seed);
        const counts = Array.from({ length: 20 }, () => 0);
        for (let each = 0; each < 2_000; each += 1) {
          const wait = retryDelayMs({ kind: 'exponential', ...ladder, jitter }, retry, chance());
          const part = Math.floor((20 * (wait / whole - from)) / (1 - from));
          expect(part).toBeGreaterThanOrEqual(0);
          counts[Math.min(19, part)] = (counts[Math.min(19, part)] ?? 0) + 1;
        }
        const chiSquare = counts.reduce((sum, count) => sum + (count - 100) ** 2 / 100, 0);
        // Of 19 degrees of freedom: an even spread is above it once in 30,000 times.
        expect(chiSquare).toBeLessThan(53);
      }),
      { numRuns: 50 },
    );
  });

  it('no jitter waits the whole time, whatever the chance', () => {
    const policy: RetryPolicy = { ...DEFAULT, jitter: 'none' };
    const waits = [1, 2, 3, 4, 5, 50].map((retry) => retryDelayMs(policy, retry, retry / 51));
    expect(waits).toEqual([60_000, 120_000, 240_000, 480_000, 600_000, 600_000]);
  });

  it('a ladder of any shape never overflows its cap, even at the hundredth retry', () => {
    const shape = fc.record({
      kind: fc.constant('exponential' as const),
      baseSeconds: fc.integer({ min: 1, max: 3_600 }),
      factor: fc.integer({ min: 1, max: 1_000 }),
      capSeconds: fc.integer({ min: 1, max: 86_400 }),
      jitter: fc.constantFrom('equal', 'full', 'none'),
    });
    fc.assert(
      fc.property(shape, fc.integer({ min: 1, max: 100 }), fraction, (policy, retry, chance) => {
        const wait = retryDelayMs(policy, retry, chance);
        expect(Number.isInteger(wait) && wait >= 0 && wait <= policy.capSeconds * 1_000).toBe(true);
      }),
    );
  });
});

describe('INV-F16 retry ladder: what is written down', () => {
  it('a failed attempt is due again at now plus its delay, to the millisecond', () => {
    fc.assert(
      fc.property(fc.nat({ max: 10_000_000 }), fraction, fc.integer({ min: 1, max: 8 }), (later, chance, attempt) => {
        const now = NOW + later;
        const finish = finishOf(attemptOf({ attempt }), FAILED, at(now, { fraction: chance }));
        expect(finish.state).toBe('RETRY');
        expect(finish.dueAt).toBe(now + retryDelayMs(exponential, attempt, chance));
      }),
    );
  });

  it('a job of four retries under exp60 climbs 60, 120, 240, 480 s and then has failed', () => {
    const { waits, end } = climb({ policy: exp60, options: { maxRetries: 4 } });
    expect(waits).toEqual([60_000, 120_000, 240_000, 480_000]);
    expect(end).toMatchObject({ state: 'FAILURE', dueAt: null, sentAt: null, record: null, giveBack: 0 });
  });

  it('a job of three retries under linear60 climbs 60, 120, 180 s and then has failed', () => {
    expect(climb({ policy: linear60, options: { maxRetries: 3 } }).waits).toEqual([60_000, 120_000, 180_000]);
  });

  it('the delays of the call win over the policy of the task, and a longer max_retries repeats the last', () => {
    const { waits, end } = climb({ policy: exp60, options: { retryDelays: [10, 25.5], maxRetries: 5 } });
    expect(waits).toEqual([10_000, 25_500, 25_500, 25_500, 25_500]);
    expect(end.state).toBe('FAILURE');
  });

  it('a job is retried exactly as often as it may be, never once more', () => {
    fc.assert(
      fc.property(fc.nat({ max: 100 }), (maxRetries) => {
        expect(climb({ options: { maxRetries } }).waits).toHaveLength(maxRetries);
      }),
      { examples: [[0], [100]] },
    );
  });

  it('every delay a call may ask for ends at a whole millisecond: its row must still make a message', () => {
    const delay = fc.double({ min: 0, max: 86_400, noNaN: true });
    fc.assert(
      fc.property(delay, (seconds) => {
        const { dueAt } = finishOf(attemptOf({ options: { retryDelays: [seconds] } }), FAILED, at(NOW));
        expect(dueAt).toSatisfy(Number.isSafeInteger);
        expect(dueAt).toBeGreaterThanOrEqual(NOW + Math.floor(seconds * 1_000));
      }),
      { examples: [[1.0005], [0.0001]] },
    );
  });

  it('the attempt that failed is kept in the record with its times and its error', () => {
    const finish = finishOf(attemptOf({ attempt: 2 }), FAILED, at(NOW + 5_000));
    const error = { code: 'exception', message: 'no', fingerprint: expect.stringMatching(/^[0-9a-f]{16}$/) as string };
    expect(finish).toMatchObject({ claim: 2, at: NOW + 5_000, giveBack: 0, error });
    expect(finish.record).toEqual({
      attempt: 2,
      started_at: NOW,
      finished_at: NOW + 5_000,
      outcome: 'retry',
      error: finish.error,
    });
  });
});

describe('INV-F16 retry ladder: how the handler ends', () => {
  it('what it throws is retried by the policy of the task', async () => {
    const finish = await endOf(
      () => {
        throw new TypeError('fetch failed');
      },
      { policy: exp60 },
    );
    expect(finish).toMatchObject({ state: 'RETRY', dueAt: NOW + 60_000 });
    expect(finish.error).toMatchObject({ code: 'exception', message: 'TypeError: fetch failed' });
  });

  it('the afterSeconds of a Retry wins over the policy and over the delays of the call', async () => {
    const run = (): never => {
      throw new Retry('429', { afterSeconds: 17.25 });
    };
    for (const options of [{}, { retryDelays: [5] }]) {
      const finish = await endOf(run, { policy: exp60, options });
      expect(finish).toMatchObject({ state: 'RETRY', dueAt: NOW + 17_250 });
    }
  });

  it('a Retry fails for good when no retry is left', async () => {
    const finish = await endOf(
      () => {
        throw new Retry('429', { afterSeconds: 17 });
      },
      { attempt: 4, options: { maxRetries: 3 } },
    );
    expect(finish).toMatchObject({ state: 'FAILURE', dueAt: null });
  });

  it('a Retry that asks for part of a millisecond is never early', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e6, noNaN: true }), (afterSeconds) => {
        const { dueAt } = finishOf(attemptOf(), { ...FAILED, afterSeconds }, at(NOW));
        expect(dueAt).toSatisfy(Number.isSafeInteger);
        expect(dueAt).toBeGreaterThanOrEqual(NOW + Math.floor(afterSeconds * 1_000));
      }),
    );
  });

  it('Discard never retries, however many retries are left', async () => {
    const finish = await endOf(
      () => {
        throw new Discard('the account is closed', 'account_closed');
      },
      { attempt: 1, options: { maxRetries: 100 } },
    );
    expect(finish).toMatchObject({ state: 'FAILURE', dueAt: null, record: null });
    expect(finish.error).toMatchObject({ code: 'account_closed', message: 'Discard: the account is closed' });
  });

  it('a time limit is a failed attempt like any other', async () => {
    const clock = manualClock(NOW);
    const attempt = attemptOf({ clock, policy: exp60, run: () => new Promise(() => undefined) });
    const running = runAttempt(runtimeWith(clock), attempt);
    // Its time begins when it has its input.
    while (clock.sleepers() === 0) await Promise.resolve();
    clock.advance(60_000);
    const finish = finishOf(attempt, await running, at(clock.now()));
    expect(finish).toMatchObject({ state: 'RETRY', dueAt: NOW + 120_000 });
    expect(finish.error).toMatchObject({ code: 'time_limit' });
  });
});

describe('INV-F21 time limits: a machine that stood still past the hard limit', () => {
  const stoodStill = async (seconds: number, end: () => unknown): Promise<Outcome> => {
    let now = NOW;
    // No timer fires before the handler goes on.
    const clock: Clock = {
      now: () => now,
      sleep: (_milliseconds, signal) =>
        new Promise((resolve) => {
          signal?.addEventListener('abort', () => {
            resolve();
          });
        }),
    };
    const run = (): unknown => {
      now += seconds * 1_000;
      return end();
    };
    return runAttempt(runtimeWith(clock), attemptOf({ clock, run }));
  };

  it.each([
    ['return', () => 'late'],
    ['defer', () => new Deferral(NOW, 'late')],
    [
      'throw Discard',
      () => {
        throw new Discard('late');
      },
    ],
  ])('its handler may %s whatever it will: it has failed, like any other that took too long', async (_, end) => {
    expect(await stoodStill(60.001, end)).toMatchObject({ kind: 'failure', code: 'time_limit', retryable: true });
    expect(await stoodStill(60, end)).not.toMatchObject({ code: 'time_limit' });
  });
});

describe('INV-F16 retry ladder: whether the message carries the job on', () => {
  const sentAt = (seconds: number, mayDelay = true): number | null =>
    finishOf(attemptOf({ options: { retryDelays: [seconds] } }), FAILED, at(NOW, { mayDelay })).sentAt;

  it('it does up to 60 s, and beyond that the row is owed a new one', () => {
    expect(sentAt(0)).toBe(NOW);
    expect(sentAt(60)).toBe(NOW);
    expect(sentAt(60.001)).toBeNull();
    expect(sentAt(3_600)).toBeNull();
  });

  it('it does not where the message may not be delayed any more', () => {
    expect(sentAt(30, false)).toBeNull();
  });

  it('the same holds for a deferral, which gives its attempt back', () => {
    const defer = (until: number): Finish =>
      finishOf(attemptOf({ attempt: 3 }), { kind: 'deferred', until, reason: 'rate limit' }, at(NOW));
    expect(defer(NOW + 60_000)).toMatchObject({ state: 'PENDING', giveBack: 1, sentAt: NOW, waitingFor: 'rate limit' });
    expect(defer(NOW + 60_001)).toMatchObject({ state: 'PENDING', giveBack: 1, sentAt: null, dueAt: NOW + 60_001 });
  });
});
