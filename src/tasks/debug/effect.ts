import { z } from 'zod';
import { defineTask, type Job } from '../../jobs/task.ts';
import { insertEffect } from '../../store/debug-effects.ts';

/** Adds one row to `debug_effects` each time it runs. Not idempotent, on purpose: it shows how often a job ran. */
export const debugEffect = defineTask({
  name: 'debug.effect',
  queue: 'default',
  params: ['key'],
  input: z.object({ key: z.string().min(1).max(200) }),
  async run({ key }, job) {
    if (job.env.DEBUG_EFFECTS_URL !== undefined) await report(job.env.DEBUG_EFFECTS_URL, key, job);
    await job.db.run(insertEffect({ key, jobId: job.id, attempt: job.attempt, at: job.clock.now() }));
    return { key };
  },
});

// Before the row, and only then the row: whoever counts there never sees fewer runs than the table.
async function report(url: string, key: string, job: Job): Promise<void> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ key, job_id: job.id, attempt: job.attempt }),
    signal: job.signal,
  });
  // What is not read holds its connection.
  await answer.body?.cancel();
  if (!answer.ok) throw new Error(`${url} answers ${String(answer.status)}.`);
}
