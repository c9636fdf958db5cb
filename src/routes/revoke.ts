// /api/v1/jobs, the part that cancels: one job, or all open ones that match.

import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { isId } from '../core/ids.ts';
import type { Json } from '../core/json.ts';
import { MAX_BODY_BYTES, MAX_REVOKED } from '../core/limits.ts';
import { isFinal, OPEN_STATES } from '../core/states.ts';
import { revoke } from '../jobs/inspect.ts';
import { faultsOf } from '../jobs/request.ts';
import { revokeMany } from '../jobs/revoke-many.ts';
import type { App } from './app.ts';
import { may, needs } from './auth.ts';
import { readJson, readOptionalJson } from './body.ts';
import { NO_JOB, problem } from './problems.ts';
import { jobFilters, readQuery } from './query.ts';

export const revokeRoutes = new Hono<App>();

const bulk = z.strictObject({
  filter: z
    .strictObject({ ...jobFilters, state: z.enum(OPEN_STATES).optional() })
    .refine(
      (filter) => Object.values(filter).some((value) => value !== undefined),
      'name a field, so that nothing is revoked by accident',
    ),
  terminate: z.boolean().default(false),
  dry_run: z.boolean().default(false),
  limit: z.int().min(1).max(MAX_REVOKED).default(MAX_REVOKED),
});

revokeRoutes.post('/revoke', needs('jobs:write'), async (c) => {
  const rt = c.get('rt');
  const body = await readJson(c.req.raw, MAX_BODY_BYTES, rt.clock);
  if (!body.ok) return problem(body.failure);
  const parsed = bulk.safeParse(body.value);
  if (!parsed.success) return problem({ kind: 'invalid', errors: faultsOf(parsed.error) });
  const { filter, terminate, limit, dry_run: dryRun } = parsed.data;
  const task = filter.task === undefined ? undefined : (rt.registry.find(filter.task)?.name ?? filter.task);
  const { jobs, more } = await revokeMany(rt, {
    filter: { ...filter, task, inInput: may(c.get('principal'), 'payload:read') },
    // It parsed, so it is there.
    asked: (body.value as { readonly filter: Json }).filter,
    terminate,
    limit,
    dryRun,
    actor: c.get('principal').owner,
  });
  return c.json({
    dry_run: dryRun,
    matched: jobs.length,
    more,
    revoked: dryRun ? 0 : jobs.filter(({ state }) => state === 'REVOKED').length,
    terminating: dryRun ? 0 : jobs.filter(({ terminating }) => terminating).length,
    jobs: jobs.map(({ id, previous, state, terminating }) => ({ id, previous_state: previous, state, terminating })),
  });
});

revokeRoutes.post('/:id/revoke', needs('jobs:write'), async (c) => {
  const body = await readOptionalJson(c.req.raw, MAX_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const parsed = z.strictObject({ terminate: z.boolean().default(false) }).safeParse(body.value);
  if (!parsed.success) return problem({ kind: 'invalid', errors: faultsOf(parsed.error) });
  return revokeJob(c, c.req.param('id'), parsed.data.terminate);
});

revokeRoutes.delete('/:id', needs('jobs:write'), async (c) => {
  const query = readQuery(c, { terminate: z.enum(['true', 'false']).default('false') });
  if (!query.ok) return problem(query.failure);
  return revokeJob(c, c.req.param('id'), query.value.terminate === 'true');
});

async function revokeJob(c: Context<App>, jobId: string, terminate: boolean): Promise<Response> {
  const revoked = isId(jobId) ? await revoke(c.get('rt'), jobId, terminate) : undefined;
  if (revoked === undefined) return problem(NO_JOB);
  const { previous, state, terminating } = revoked;
  if (isFinal(previous) && previous !== 'REVOKED') {
    return problem({ kind: 'wrong_state', detail: `The job has ended already: ${previous}.` });
  }
  return c.json({ id: jobId, state, previous_state: previous, terminating });
}
