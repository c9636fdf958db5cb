import { z } from 'zod';
import { defineTask } from '../../jobs/task.ts';

/** Sleeps `seconds`, in `steps` parts, with progress, a line and a chunk after each. Obeys its signal. */
export const debugSleep = defineTask({
  name: 'debug.sleep',
  queue: 'default',
  longOnDefault: 'a neighbour that takes long is exactly what it is there to be',
  params: ['seconds', 'steps'],
  input: z.object({ seconds: z.number().min(0).max(800), steps: z.int().min(1).max(1_000).default(1) }),
  timeLimit: { softSeconds: 830, hardSeconds: 840 },
  async run({ seconds, steps }, job) {
    for (let step = 1; step <= steps; step += 1) {
      await job.clock.sleep((seconds * 1_000) / steps, job.signal);
      job.signal.throwIfAborted();
      const done = `step ${String(step)} of ${String(steps)}`;
      job.progress((100 * step) / steps, done);
      job.log(`slept ${String((seconds * step) / steps)} s`);
      job.chunk(`${done}\n`);
    }
    return { slept: seconds };
  },
});
