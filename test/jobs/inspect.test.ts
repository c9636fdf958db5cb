import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { revoke } from '../../src/jobs/inspect.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, HeldClock, settled, START, type Settled } from '../worker/bench.ts';

beforeEach(emptyDatabase);

const ending = defineTask({
  name: 'test.ending',
  queue: 'default',
  input: z.object({ how: z.enum(['return', 'throw', 'obey']) }),
  retry: { max: 1, delays: { kind: 'delays', seconds: [5] } },
  async run({ how }, job) {
    await job.clock.sleep(30_000, how === 'obey' ? job.signal : undefined);
    if (how === 'obey') job.signal.throwIfAborted();
    if (how === 'throw') throw new Error('it went wrong');
    return 'done';
  },
});

/** Starts a job, revokes it while it runs, and lets it end. */
async function revokeRunning(
  how: string,
  terminate: boolean,
  options: Record<string, number> = {},
): Promise<{ bench: Bench; id: string; batch: readonly Settled[]; runningFor: number }> {
  const clock = new HeldClock(START);
  const bench = new Bench({ tasks: [ending], clock });
  const { id } = await bench.enqueue({ task: 'test.ending', input: { how }, options });
  const running = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  expect(await revoke(bench.rt, id, terminate)).toEqual({
    previous: 'STARTED',
    state: 'STARTED',
    terminating: terminate,
  });
  await clock.advance(30_100);
  const batch = await running;
  const job = await bench.job(id);
  return { bench, id, batch, runningFor: (job.finished_at ?? Infinity) - START };
}

test('revoked while it runs: what would run again is cancelled instead', async () => {
  const { bench, id, batch } = await revokeRunning('throw', false);
  const job = await bench.job(id);
  expect([job.state, job.error?.code, batch[0]?.answer]).toEqual(['REVOKED', 'revoked', 'ack']);
});

test('revoked while it runs: a last failure stays a failure, and returning is always success', async () => {
  const last = await revokeRunning('throw', false, { max_retries: 0 });
  expect((await last.bench.job(last.id)).state).toBe('FAILURE');
  const returning = await revokeRunning('return', true);
  expect((await returning.bench.job(returning.id)).state).toBe('SUCCESS');
});

test('terminated while it runs: its signal fires with the next heartbeat, and what it throws then is a cancellation', async () => {
  const { bench, id, runningFor } = await revokeRunning('obey', true);
  expect((await bench.job(id)).state).toBe('REVOKED');
  expect(runningFor).toBeLessThanOrEqual(20_100);
  const last = await revokeRunning('throw', true, { max_retries: 0 });
  expect((await last.bench.job(last.id)).state).toBe('REVOKED');
});

test('a revoked job that waits never runs, though its message comes', async () => {
  const bench = new Bench();
  const { id } = await bench.enqueue({ task: 'debug_task' });
  const [message] = bench.queues.take();
  expect(await revoke(bench.rt, id, false)).toEqual({ previous: 'PENDING', state: 'REVOKED', terminating: false });
  expect(await bench.deliver([message?.envelope])).toEqual([{ id, answer: 'ack' }]);
  const job = await bench.job(id);
  expect([job.state, job.attempt]).toEqual(['REVOKED', 0]);
});
