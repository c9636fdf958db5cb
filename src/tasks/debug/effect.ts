import { z } from 'zod';
import { defineTask } from '../../jobs/task.ts';
import { insertEffect } from '../../store/debug-effects.ts';

/** Adds one row to `debug_effects` each time it runs. Not idempotent, on purpose: it shows how often a job ran. */
export const debugEffect = defineTask({
  name: 'debug.effect',
  queue: 'default',
  params: ['key'],
  input: z.object({ key: z.string().min(1).max(200) }),
  async run({ key }, job) {
    await job.db.run(insertEffect({ key, jobId: job.id, attempt: job.attempt, at: job.clock.now() }));
    return { key };
  },
});
