import { z } from 'zod';
import { defineTask } from '../../jobs/task.ts';

/** Fails its first `times` attempts, then succeeds; without `times` it always fails. */
export const debugFail = defineTask({
  name: 'debug.fail',
  queue: 'default',
  params: ['message', 'times'],
  input: z.object({ message: z.string().default('debug.fail was asked to fail'), times: z.int().min(0).optional() }),
  run({ message, times }, job) {
    if (times === undefined || job.attempt <= times) throw new Error(message);
    return { attempt: job.attempt };
  },
});
