import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { beaten, lookedAfter, readPulse, type Pulse } from '../../src/core/pulse.ts';

const NOW = Date.UTC(2040, 0, 2, 12);

/** When the tick's work was done in the trigger's place; looks are as late as they are told to be. */
function takeOvers(pulse: Pulse, until: number, latenesses: Iterator<number>): readonly number[] {
  const taken: number[] = [];
  for (let now = pulse.looksAt; ; now = pulse.looksAt) {
    now += latenesses.next().value as number;
    if (now > until) return taken;
    const looked = lookedAfter(pulse, now);
    if (looked.isDue) taken.push(now);
    pulse = looked.pulse;
  }
}

function* always(value: number): Generator<number, number> {
  for (;;) yield value;
}

describe('the pulse of the trigger', () => {
  it('counts as silent two and a half minutes after a tick, and its work is due each minute from then on', () => {
    expect(takeOvers(beaten(NOW), NOW + 400_000, always(0))).toEqual(
      [150, 210, 270, 330, 390].map((s) => NOW + s * 1e3),
    );
  });

  it('is looked at too early or twice without harm', () => {
    const pulse = beaten(NOW);
    expect(lookedAfter(pulse, NOW + 149_999)).toEqual({ pulse, isDue: false });
    const first = lookedAfter(pulse, NOW + 150_000);
    expect(first.isDue).toBe(true);
    expect(lookedAfter(first.pulse, NOW + 150_000)).toEqual({ pulse: first.pulse, isDue: false });
    expect(lookedAfter(first.pulse, NOW + 209_999).isDue).toBe(false);
  });

  it('has a minute to come back where whoever looks slept himself, and no more than that', () => {
    expect(lookedAfter(beaten(NOW), NOW + 210_000).isDue).toBe(true);
    const late = lookedAfter(beaten(NOW), NOW + 210_001);
    expect([late.isDue, late.pulse.looksAt]).toEqual([false, NOW + 270_001]);
    // However late the next look is, and those after it.
    expect(lookedAfter(late.pulse, NOW + 900_000).isDue).toBe(true);
    expect(lookedAfter(lookedAfter(late.pulse, NOW + 900_000).pulse, NOW + 1_800_000).isDue).toBe(true);
  });

  it('knows nothing of what another version has stored', () => {
    const pulse = beaten(NOW);
    expect(readPulse(JSON.parse('{"v":1,"beatAt":2209118400000,"looksAt":2209118550000,"phase":"beating"}'))).toEqual(
      pulse,
    );
    for (const other of [undefined, null, 'x', { ...pulse, v: 2 }, { ...pulse, phase: 'other' }])
      expect(readPulse(other)).toBeUndefined();
  });

  it('of a trigger that has stopped is noticed within three minutes where alarms are half a minute late, whenever it stopped', () => {
    const ticks = fc.array(fc.integer({ min: 1, max: 149_000 }), { maxLength: 20 });
    fc.assert(
      fc.property(ticks, fc.integer({ min: 0, max: 30_000 }), (gaps, lateMs) => {
        let pulse = beaten(NOW);
        let now = NOW;
        for (const gap of gaps) {
          now += gap;
          // Looks between the ticks, whose alarms are not heard of any more.
          expect(lookedAfter(pulse, now).isDue).toBe(false);
          pulse = beaten(now);
        }
        const taken = takeOvers(pulse, now + 3_600_000, always(lateMs));
        expect(taken[0]).toBeLessThanOrEqual(now + 180_000);
        expect(taken.length).toBeGreaterThanOrEqual(Math.floor((3_600_000 - 150_000) / (60_000 + lateMs)));
      }),
    );
  });
});
