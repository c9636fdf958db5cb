import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_DELAYED_PER_MINUTE } from '../../src/core/limits.ts';
import { DelayBudget } from '../../src/jobs/delay-budget.ts';

const MINUTE_MS = 60_000;
const NOON = Date.UTC(2026, 7, 15, 12);

function takeAll(budget: DelayBudget, queue: string, now: number): number {
  let taken = 0;
  while (budget.take(queue, now)) taken += 1;
  return taken;
}

describe('the budget of delayed messages', () => {
  it('is 5,000 per queue and minute: half of what kills a local queue', () => {
    expect(MAX_DELAYED_PER_MINUTE).toBe(5_000);
    const budget = new DelayBudget();
    expect(takeAll(budget, 'email', NOON)).toBe(5_000);
    expect(budget.take('email', NOON)).toBe(false);
    expect(budget.take('email', NOON + MINUTE_MS - 1)).toBe(false);
  });

  it('of one queue is not used up by another', () => {
    const budget = new DelayBudget();
    expect(takeAll(budget, 'email', NOON)).toBe(5_000);
    expect(takeAll(budget, 'bulk', NOON)).toBe(5_000);
  });

  it('is whole again with the next minute, for every queue', () => {
    const budget = new DelayBudget();
    takeAll(budget, 'email', NOON + 59_999);
    takeAll(budget, 'bulk', NOON + 59_999);
    expect(takeAll(budget, 'email', NOON + MINUTE_MS)).toBe(5_000);
    expect(takeAll(budget, 'bulk', NOON + MINUTE_MS)).toBe(5_000);
  });

  it('is never overdrawn nor withheld, however the takings are spread over queues and time', () => {
    const taking = fc.record({
      queue: fc.constantFrom('email', 'bulk', 'default'),
      afterMs: fc.oneof(fc.constant(0), fc.nat({ max: 20_000 })),
      wanted: fc.nat({ max: 3_000 }),
    });
    fc.assert(
      fc.property(fc.array(taking, { maxLength: 12 }), (takings) => {
        const budget = new DelayBudget();
        const used = new Map<string, number>();
        let now = NOON;
        for (const { queue, afterMs, wanted } of takings) {
          now += afterMs;
          const key = `${queue} ${String(Math.floor(now / MINUTE_MS))}`;
          for (let each = 0; each < wanted; each += 1) {
            const before = used.get(key) ?? 0;
            const taken = budget.take(queue, now);
            if (taken !== before < 5_000) expect.fail(`take ${String(before + 1)} of ${key} said ${String(taken)}`);
            if (taken) used.set(key, before + 1);
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});
