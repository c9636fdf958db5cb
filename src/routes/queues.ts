// /api/v1/queues: how they stand; pause, resume, purge.

import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { instantOrNull } from '../core/instant.ts';
import { MAX_BODY_BYTES, MAX_COUNTED } from '../core/limits.ts';
import { wakeResumed } from '../cron/resumed.ts';
import { logError } from '../jobs/log.ts';
import { lookAtQueues, pause, purge, resume, type QueueStand } from '../jobs/queue-control.ts';
import { instantOf, when } from '../jobs/request.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { QUEUE_NAMES, QUEUES, resolveQueue, type QueueName } from '../queues.ts';
import type { App } from './app.ts';
import { needs } from './auth.ts';
import { readMembers, readOptionalJson } from './body.ts';
import { problem, type Failure } from './problems.ts';
import { namedPage, pageOfNames, readQuery } from './query.ts';

const NO_QUEUE: Failure = { kind: 'not_found', what: 'queue of this name' };

export const queueRoutes = new Hono<App>();

queueRoutes.get('/', needs('jobs:read'), async (c) => {
  const query = readQuery(c, namedPage);
  if (!query.ok) return problem(query.failure);
  const { names, next } = pageOfNames(QUEUE_NAMES, query.value);
  const stands = await lookAtQueues(c.get('rt'), names);
  return c.json({ items: stands.map(queueJson), next_cursor: next });
});

queueRoutes.post('/:name/pause', needs('admin'), async (c) => {
  const rt = c.get('rt');
  const queue = resolveQueue(c.req.param('name'));
  if (queue === undefined) return problem(NO_QUEUE);
  const body = readMembers(await readOptionalJson(c.req.raw, MAX_BODY_BYTES, rt.clock), { until: when.nullish() });
  if (!body.ok) return problem(body.failure);
  const now = rt.clock.now();
  const { until: given } = body.value;
  const until = given === undefined || given === null ? null : instantOf(given, now);
  if (until !== null && until <= now) return problem(fault('until', 'must be later than now'));
  await pause(rt, queue, until, c.get('principal').owner);
  return answer(c, queue);
});

queueRoutes.post('/:name/resume', needs('admin'), async (c) => {
  const rt = c.get('rt');
  const queue = resolveQueue(c.req.param('name'));
  if (queue === undefined) return problem(NO_QUEUE);
  const body = readMembers(await readOptionalJson(c.req.raw, MAX_BODY_BYTES, rt.clock), {});
  if (!body.ok) return problem(body.failure);
  await resume(rt, queue, c.get('principal').owner);
  return answer(c, queue, { woken: await wakeNow(rt, queue) });
});

queueRoutes.post('/:name/purge', needs('admin'), async (c) => {
  const rt = c.get('rt');
  const name = c.req.param('name');
  const queue = resolveQueue(name);
  if (queue === undefined) return problem(NO_QUEUE);
  const body = readMembers(await readOptionalJson(c.req.raw, MAX_BODY_BYTES, rt.clock), { confirm: z.string() });
  if (!body.ok) return problem(body.failure);
  const { confirm } = body.value;
  if (confirm !== name && confirm !== queue) {
    return problem(fault('confirm', `must be ${JSON.stringify(queue)}, the name of the queue`));
  }
  return answer(c, queue, { ...(await purge(rt, queue, c.get('principal').owner)) });
});

// It is resumed, whatever becomes of this: the tick wakes what is still parked. null: not known.
async function wakeNow(rt: Runtime, queue: QueueName): Promise<number | null> {
  try {
    return await wakeResumed(rt, [queue]);
  } catch (error) {
    logError('resume.not_woken', error, { queue });
    return null;
  }
}

function fault(path: string, message: string): Failure {
  return { kind: 'invalid', errors: [{ path, message }] };
}

/** The queue as it is now, and what was done. */
async function answer(c: Context<App>, queue: QueueName, done: Record<string, unknown> = {}): Promise<Response> {
  const stands = await lookAtQueues(c.get('rt'), [queue]);
  return c.json({ ...stands.map(queueJson)[0], ...done });
}

function queueJson(stand: QueueStand): Record<string, unknown> {
  const { queue, paused_at: pausedAt, paused_until: until, backlog, due, running, later } = stand;
  // Only what the table of queues names is ever asked for.
  const { aliases, priority, batchSize, maxConcurrency = null } = QUEUES[queue as QueueName];
  return {
    name: queue,
    aliases,
    priority,
    batch_size: batchSize,
    max_concurrency: maxConcurrency,
    paused: pausedAt !== null,
    paused_at: instantOrNull(pausedAt),
    paused_until: instantOrNull(until),
    backlog,
    jobs: { waiting: due - running, scheduled: later, running, more: due === MAX_COUNTED || later === MAX_COUNTED },
  };
}
