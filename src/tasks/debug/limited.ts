import { z } from 'zod';
import { defineTask } from '../../jobs/task.ts';

/** Takes from a rate limit and from a lock: so that both can be tried and measured from outside. */
export const debugLimited = defineTask({
  name: 'debug.limited',
  queue: 'default',
  params: ['key'],
  // Long enough by default for two of one key to be seen side by side, if they ever were.
  input: z.object({ key: z.string(), seconds: z.number().min(0).max(50).default(0.02) }),
  rateLimit: '10/s',
  concurrency: { key: ({ key }) => key, limit: 1 },
  async run({ key, seconds }, job) {
    const startedAt = job.clock.now();
    await job.clock.sleep(seconds * 1_000, job.signal);
    return { key, started_at: startedAt, ended_at: job.clock.now() };
  },
});
