import { describe, expect, it } from 'vitest';
import { within } from '../../src/core/deadline.ts';
import { manualClock } from './manual-clock.ts';

describe('waiting with an end', () => {
  it('passes on an answer that comes in time', async () => {
    const clock = manualClock(0);
    const { promise, resolve } = Promise.withResolvers<string>();
    const waiting = within(clock, 100, promise);
    clock.advance(99);
    resolve('here');
    await expect(waiting).resolves.toEqual({ inTime: true, value: 'here' });
  });

  it('says so when the time is over, whatever the answer does later', async () => {
    const clock = manualClock(0);
    const { promise, reject } = Promise.withResolvers<string>();
    const waiting = within(clock, 100, promise);
    clock.advance(100);
    await expect(waiting).resolves.toEqual({ inTime: false });
    // An unhandled rejection would fail this run.
    reject(new Error('too late'));
    await Promise.allSettled([promise]);
  });

  it('passes on a failure that comes in time', async () => {
    const waiting = within(manualClock(0), 100, Promise.reject(new Error('refused')));
    await expect(waiting).rejects.toThrow('refused');
  });

  it('leaves nobody asleep behind, however it ended', async () => {
    const clock = manualClock(0);
    await within(clock, 100, Promise.resolve(1));
    await Promise.allSettled([within(clock, 100, Promise.reject(new Error('refused')))]);
    expect(clock.sleepers()).toBe(0);
  });
});
