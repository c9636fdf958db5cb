import { expect, it } from 'vitest';
import { jitterOf } from '../../src/jobs/firing.ts';
import type { Schedule } from '../../src/store/schedules.ts';

const MOST_MS = 60_000;
const DUES = Array.from({ length: 20_000 }, (_, minute) => Date.UTC(2026, 0, 1) + minute * 60_000);

function jitters(name: string, mostMs = MOST_MS): readonly number[] {
  const schedule = { name, jitter_ms: mostMs } as Schedule;
  return DUES.map((dueAt) => jitterOf(schedule, dueAt));
}

it('spreads runs evenly from none to all of the jitter, both included', () => {
  const drawn = jitters('nightly');
  expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...drawn)).toBeLessThanOrEqual(MOST_MS);
  for (let tenth = 0; tenth < 10; tenth += 1) {
    const [from, to] = [tenth, tenth + 1].map((each) => (each * MOST_MS) / 10);
    const share = drawn.filter((ms) => ms >= (from ?? 0) && ms < (to ?? 0)).length / drawn.length;
    expect(share).toBeGreaterThan(0.09);
    expect(share).toBeLessThan(0.11);
  }
  expect(new Set(jitters('nightly', 3))).toEqual(new Set([0, 1, 2, 3]));
});

it('is the same for one due time each time, of its own for another schedule, and nothing where none is wanted', () => {
  const drawn = jitters('nightly');
  expect(jitters('nightly')).toEqual(drawn);
  const other = jitters('hourly');
  expect(drawn.filter((ms, at) => ms === other[at]).length).toBeLessThan(20);
  expect(new Set(jitters('nightly', 0))).toEqual(new Set([0]));
});
