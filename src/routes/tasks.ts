// GET /api/v1/tasks: what is registered.

import type { Context } from 'hono';
import { z } from 'zod';
import { isKeyed } from '../jobs/limits.ts';
import type { Task } from '../jobs/task.ts';
import type { App } from './app.ts';
import { problem } from './problems.ts';
import { namedPage, pageOfNames, readQuery } from './query.ts';

export function listTasks(c: Context<App>): Response {
  const query = readQuery(c, namedPage);
  if (!query.ok) return problem(query.failure);
  const { tasks } = c.get('rt').registry;
  const { names, next } = pageOfNames(
    tasks.map(({ name }) => name),
    query.value,
  );
  return c.json({ items: tasks.filter(({ name }) => names.includes(name)).map(taskJson), next_cursor: next });
}

function taskJson(task: Task): Record<string, unknown> {
  return {
    name: task.name,
    aliases: task.aliases,
    queue: task.queue,
    params: task.params,
    input_schema: z.toJSONSchema(task.input, { io: 'input', unrepresentable: 'any' }),
    max_retries: task.retry.max,
    retry_policy: task.retry.delays,
    soft_time_limit: task.timeLimit.softSeconds,
    time_limit: task.timeLimit.hardSeconds,
    result_ttl: task.resultTtlSeconds,
    rate_limits: task.rateLimits.map((rule) => ({ limit: rule.text, per_key: isKeyed(rule) })),
    concurrency: task.locks.map((rule) => ({ limit: rule.limit, per_key: isKeyed(rule) })),
    unique: task.unique === undefined ? null : { for: task.unique.for ?? null, on: task.unique.on ?? 'return' },
  };
}
