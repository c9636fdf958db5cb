// /api/v1/jobs: enqueue, look, wait, run again.

import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { isId } from '../core/ids.ts';
import type { Json } from '../core/json.ts';
import {
  MAX_BATCH_BODY_BYTES,
  MAX_BATCH_JOBS,
  MAX_BODY_BYTES,
  MAX_IDEMPOTENCY_KEY_CHARS,
  MAX_WAIT_SECONDS,
} from '../core/limits.ts';
import { isFinal } from '../core/states.ts';
import { submit, submitAll, type Enqueued } from '../jobs/enqueue.ts';
import { findJob, listJobs, runAgain, waitForJob } from '../jobs/inspect.ts';
import { jobHead, jobJson, statusUrl } from '../jobs/job-json.ts';
import { fetchPayload, payloadOfRow } from '../jobs/payloads.ts';
import { faultsOf, readCall, withKey, type Checked, type Request as JobRequest } from '../jobs/request.ts';
import { withLatestProgress } from '../jobs/watch.ts';
import { askWhyWaiting } from '../jobs/why-waiting.ts';
import type { App } from './app.ts';
import { needs, showsPayload } from './auth.ts';
import { readJson, readOptionalJson } from './body.ts';
import { NO_JOB, NOT_TAKEN, PAYLOAD_SILENT, problem, problemOf, type Failure } from './problems.ts';
import { jobFilters, page, readQuery } from './query.ts';

const KEY_CONFLICT: Failure = {
  kind: 'invalid',
  errors: [{ path: 'options.idempotency_key', message: 'names another call: its task, input or options differ' }],
};

export const jobRoutes = new Hono<App>();

jobRoutes.post('/', needs('jobs:write'), async (c) => {
  const body = await readJson(c.req.raw, MAX_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const request = withHeaderKey(readCall(c.get('rt').registry, body.value), c.req.header('idempotency-key'));
  if (!request.ok) return problem(failureOf(request));
  const enqueued = await submit(c.get('rt'), request.value, callerOf(c));
  return answerEnqueued(enqueued);
});

jobRoutes.post('/batch', needs('jobs:write'), async (c) => {
  const body = await readJson(c.req.raw, MAX_BATCH_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const parsed = z.strictObject({ jobs: z.array(z.custom<Json>()).min(1).max(MAX_BATCH_JOBS) }).safeParse(body.value);
  if (!parsed.success) return problem({ kind: 'invalid', errors: faultsOf(parsed.error) });
  if (c.req.header('idempotency-key') !== undefined) {
    const message = 'a batch takes its keys per job, as options.idempotency_key';
    return problem({ kind: 'invalid', errors: [{ path: 'Idempotency-Key', message }] });
  }
  const checked = parsed.data.jobs.map((job) => readCall(c.get('rt').registry, job));
  const good = checked.flatMap((request) => (request.ok ? [request.value] : []));
  const enqueued = await submitAll(c.get('rt'), good, callerOf(c));
  let next = 0;
  const jobs = checked.map((request) =>
    request.ok ? batchItem(enqueued[next++] ?? { kind: 'unknown' }) : { error: problemOf(failureOf(request)) },
  );
  return c.json({ jobs }, 202);
});

jobRoutes.get('/', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { ...page, ...jobFilters });
  if (!query.ok) return problem(query.failure);
  const { limit, cursor, task, ...filter } = query.value;
  const name = task === undefined ? undefined : (c.get('rt').registry.find(task)?.name ?? task);
  const { items, next } = await listJobs(
    c.get('rt'),
    { ...filter, inInput: showsPayload(c), task: name, before: cursor },
    limit,
  );
  const now = c.get('rt').clock.now();
  return c.json({
    items: items.map((job) => jobJson(job, now, payloadOfRow(job, now), showsPayload(c))),
    next_cursor: next,
  });
});

jobRoutes.get('/:id', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { wait: z.coerce.number().min(0).default(0) });
  if (!query.ok) return problem(query.failure);
  const wait = Math.min(MAX_WAIT_SECONDS, query.value.wait) * 1_000;
  const jobId = c.req.param('id');
  const found = isId(jobId) ? await waitForJob(c.get('rt'), jobId, wait) : undefined;
  if (found === undefined) return problem(NO_JOB);
  const job = await withLatestProgress(c.get('rt'), found);
  const now = c.get('rt').clock.now();
  const payload = showsPayload(c) ? await fetchPayload(c.get('rt'), job) : payloadOfRow(job, now);
  if (payload === undefined) return problem(PAYLOAD_SILENT);
  return c.json(jobJson(job, now, payload, showsPayload(c), await askWhyWaiting(c.get('rt'), job, now)));
});

jobRoutes.post('/:id/retry', needs('jobs:write'), async (c) => {
  const rt = c.get('rt');
  const body = await readOptionalJson(c.req.raw, MAX_BODY_BYTES, rt.clock);
  if (!body.ok) return problem(body.failure);
  // Another input or other options would be another call: whoever sends them is told, not given the old ones.
  const parsed = z.strictObject({}).safeParse(body.value);
  if (!parsed.success) return problem({ kind: 'invalid', errors: faultsOf(parsed.error) });
  const jobId = c.req.param('id');
  const job = isId(jobId) ? await findJob(rt, jobId) : undefined;
  if (job === undefined) return problem(NO_JOB);
  if (!isFinal(job.state))
    return problem({ kind: 'wrong_state', detail: `The job is ${job.state}; it has not ended.` });
  const enqueued = await runAgain(rt, job);
  switch (enqueued.kind) {
    case 'refused':
      return problem({ kind: 'invalid', errors: enqueued.faults });
    case 'gone':
      return problem({ kind: 'wrong_state', detail: 'What the job was given is no longer kept.' });
    case 'silent':
      return problem(PAYLOAD_SILENT);
    case 'accepted':
    case 'conflict':
    case 'unknown':
    case 'full':
      return answerEnqueued(enqueued);
  }
});

/** 202 with the job, 200 for a replay, and the reason otherwise. */
export function answerEnqueued(enqueued: Enqueued): Response {
  switch (enqueued.kind) {
    case 'conflict':
      return problem(KEY_CONFLICT);
    case 'unknown':
    case 'full':
      return problem(NOT_TAKEN[enqueued.kind]);
    case 'accepted': {
      const headers = new Headers({ location: statusUrl(enqueued.id) });
      if (enqueued.replayed) headers.set('idempotent-replayed', 'true');
      return Response.json(jobHead(enqueued), { status: enqueued.replayed ? 200 : 202, headers });
    }
  }
}

function batchItem(enqueued: Enqueued): Record<string, unknown> {
  switch (enqueued.kind) {
    case 'conflict':
      return { error: problemOf(KEY_CONFLICT) };
    case 'unknown':
    case 'full':
      return { error: problemOf(NOT_TAKEN[enqueued.kind]) };
    case 'accepted':
      return { ...jobHead(enqueued), ...(enqueued.replayed ? { replayed: true } : {}) };
  }
}

/** The call under the key of the header `Idempotency-Key`, where there is one. */
export function withHeaderKey(request: Checked<JobRequest>, header: string | undefined): Checked<JobRequest> {
  if (!request.ok || header === undefined) return request;
  const fault = (message: string): Checked<JobRequest> => ({
    ok: false,
    kind: 'invalid',
    faults: [{ path: 'Idempotency-Key', message }],
  });
  if (header === '' || header.length > MAX_IDEMPOTENCY_KEY_CHARS) {
    return fault(`must have 1 to ${String(MAX_IDEMPOTENCY_KEY_CHARS)} characters`);
  }
  const { options } = request.value;
  if (options.idempotency_key !== undefined && options.idempotency_key !== header) {
    return fault('differs from options.idempotency_key');
  }
  return withKey(request.value, header);
}

/** How a call that may not be accepted is refused. */
export function failureOf({ kind, faults }: Checked<unknown> & { ok: false }): Failure {
  const detail = faults.map(({ path, message }) => `${path} ${message}`).join('; ');
  return kind === 'too_large' ? { kind, detail, errors: faults } : { kind, errors: faults };
}

function callerOf(c: Context<App>): { owner: string; source: string } {
  return { owner: c.get('principal').owner, source: 'api' };
}
