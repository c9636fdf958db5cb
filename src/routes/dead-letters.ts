// /api/v1/dead-letters: what failed for good, grouped by what went wrong, and run again.

import { Hono } from 'hono';
import { z } from 'zod';
import { isId } from '../core/ids.ts';
import { formatInstant } from '../core/instant.ts';
import type { Json } from '../core/json.ts';
import { MAX_BODY_BYTES, MAX_PAGE } from '../core/limits.ts';
import { faultsOf, queueName } from '../jobs/request.ts';
import { query as select } from '../jobs/database.ts';
import { jobHead, statusUrl } from '../jobs/job-json.ts';
import { requeue, requeueMany, type Requeued } from '../jobs/requeue.ts';
import {
  deleteDeadLetter,
  readDeadLetter,
  readPattern,
  selectDeadLetters,
  selectPatterns,
  type DeadLetterRow,
} from '../store/dead-letters.ts';
import type { App } from './app.ts';
import { may, needs } from './auth.ts';
import { readJson, readOptionalJson } from './body.ts';
import { PAYLOAD_SILENT, problem, problemOf, type Failure } from './problems.ts';
import { page, readQuery } from './query.ts';

const NO_LETTER: Failure = { kind: 'not_found', what: 'dead letter with this id' };

export const deadLetterRoutes = new Hono<App>();

const narrowing = { task: z.string().optional(), queue: queueName.optional(), fingerprint: z.string().optional() };

deadLetterRoutes.get('/', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { ...page, ...narrowing });
  if (!query.ok) return problem(query.failure);
  const { limit, cursor, ...filter } = query.value;
  const rows = await select(c.get('rt'), selectDeadLetters({ ...filter, before: cursor }, limit));
  const letters = rows.map(readDeadLetter);
  const next = letters.length === limit ? (letters.at(-1)?.id ?? null) : null;
  const payload = may(c.get('principal'), 'payload:read');
  return c.json({ items: letters.map((letter) => letterJson(letter, payload)), next_cursor: next });
});

deadLetterRoutes.get('/patterns', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { limit: page.limit, cursor: z.coerce.number().int().min(0).default(0) });
  if (!query.ok) return problem(query.failure);
  const { limit, cursor } = query.value;
  const patterns = (await select(c.get('rt'), selectPatterns(cursor, limit))).map(readPattern);
  const items = patterns.map(({ first_seen, last_seen, ...pattern }) => ({
    ...pattern,
    first_seen: formatInstant(first_seen),
    last_seen: formatInstant(last_seen),
  }));
  return c.json({ items, next_cursor: items.length === limit ? String(cursor + limit) : null });
});

deadLetterRoutes.post('/:id/requeue', needs('jobs:write'), async (c) => {
  const body = await readOptionalJson(c.req.raw, MAX_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const parsed = z.strictObject({ input: z.custom<Json>().optional() }).safeParse(body.value);
  if (!parsed.success) return problem({ kind: 'invalid', errors: faultsOf(parsed.error) });
  const id = c.req.param('id');
  const outcome = isId(id) ? await requeue(c.get('rt'), id, parsed.data.input) : undefined;
  if (outcome === undefined) return problem(NO_LETTER);
  if (outcome.kind === 'refused') return problem({ kind: 'invalid', errors: outcome.faults });
  if (outcome.kind === 'silent') return problem(PAYLOAD_SILENT);
  return c.json(outcomeJson(outcome), 202, { location: statusUrl(outcome.jobId) });
});

const bulk = z
  .strictObject({
    ...narrowing,
    filter: z.strictObject(narrowing).optional(),
    dry_run: z.boolean().default(false),
    limit: z.int().min(1).max(MAX_PAGE).default(MAX_PAGE),
  })
  .refine(
    ({ task, queue: name, fingerprint, filter = {} }) =>
      [task, name, fingerprint, ...Object.values(filter)].some((each) => each !== undefined),
    'name a fingerprint or a filter, so that nothing is requeued by accident',
  );

deadLetterRoutes.post('/requeue', needs('jobs:write'), async (c) => {
  const body = await readJson(c.req.raw, MAX_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const parsed = bulk.safeParse(body.value);
  if (!parsed.success) return problem({ kind: 'invalid', errors: faultsOf(parsed.error) });
  const { filter, dry_run: dryRun, limit, ...direct } = parsed.data;
  const { matched, outcomes } = await requeueMany(c.get('rt'), { ...filter, ...defined(direct) }, limit, dryRun);
  const jobs = outcomes.map(outcomeJson);
  const requeued = outcomes.filter(({ kind }) => kind === 'requeued').length;
  return c.json({ dry_run: dryRun, matched, requeued, jobs });
});

deadLetterRoutes.delete('/:id', needs('jobs:write'), async (c) => {
  const rows = await select(c.get('rt'), deleteDeadLetter(c.req.param('id')));
  return rows.length === 0 ? problem(NO_LETTER) : c.body(null, 204);
});

function letterJson(letter: DeadLetterRow, payload: boolean): Record<string, unknown> {
  const { id, job_id, task, queue: name, error, attempts, failed_at, fingerprint, requeued_as } = letter;
  return {
    id,
    job_id,
    task,
    queue: name,
    // A list does not fetch what is kept aside.
    ...(payload && letter.input_key === null ? { input: letter.input } : {}),
    error,
    attempts,
    failed_at: formatInstant(failed_at),
    fingerprint,
    requeued_as,
  };
}

function outcomeJson(outcome: Requeued): Record<string, unknown> {
  if (outcome.kind === 'refused') {
    return { dead_letter_id: outcome.letter, error: problemOf({ kind: 'invalid', errors: outcome.faults }) };
  }
  if (outcome.kind === 'silent') return { dead_letter_id: outcome.letter, error: problemOf(PAYLOAD_SILENT) };
  const { jobId, task, queue: name, letter } = outcome;
  return { ...jobHead({ id: jobId, task, queue: name, state: 'PENDING' }), dead_letter_id: letter, requeued_as: jobId };
}

function defined<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}
