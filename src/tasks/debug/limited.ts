import { z } from 'zod';
import { defineTask } from '../../jobs/task.ts';

/** Takes from a rate limit and from a lock: so that both can be tried and measured from outside. */
export const debugLimited = defineTask({
  name: 'debug.limited',
  queue: 'default',
  params: ['key'],
  input: z.object({ key: z.string() }),
  rateLimit: '10/s',
  concurrency: { key: ({ key }) => key, limit: 1 },
  async run({ key }, job) {
    const startedAt = job.clock.now();
    // Long enough for two of one key to be seen side by side, if they ever were.
    await job.clock.sleep(20, job.signal);
    return { key, started_at: startedAt, ended_at: job.clock.now() };
  },
});
