import { z } from 'zod';
import { defineTask } from '../../jobs/task.ts';

/** Echoes what it was given and what it knows of itself: the smoke test of an installation. */
export const debugTask = defineTask({
  name: 'debug_task',
  aliases: ['app.tasks.debug_task', 'workers.celery_app.debug_task'],
  queue: 'default',
  params: ['...args'],
  input: z.unknown(),
  run: (input, job) => ({
    input,
    request: {
      id: job.id,
      task: job.task,
      queue: job.queue,
      attempt: job.attempt,
      max_retries: job.maxRetries,
      source: job.source,
      tags: job.tags,
    },
  }),
});
