import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attemptOf } from './attempts.ts';

describe('progress', () => {
  it('is a whole number from 0 to 100, whatever a task reports', () => {
    fc.assert(
      fc.property(fc.double(), (percent) => {
        const attempt = attemptOf();
        attempt.job.progress(percent);
        // The column refuses NULL, which NaN becomes in JSON: one such job would spoil the heartbeat of its neighbours.
        expect(attempt.live.percent).toSatisfy(
          (value: number) => Number.isInteger(value) && value >= 0 && value <= 100,
        );
      }),
      { examples: [[0 / 0], [Infinity], [-Infinity], [100.4], [-0.4]] },
    );
  });

  it('of one attempt never goes back, whatever a task reports', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 100, noNaN: true })), (percents) => {
        const attempt = attemptOf();
        for (const percent of percents) attempt.job.progress(percent, 'so far');
        expect(attempt.live.percent).toBe(Math.max(0, ...percents.map(Math.round)));
      }),
    );
  });
});
