// /api/v1/schedules: make, look, change, pause, resume, delete, run now, backfill, history.

import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { formatInstant, instant } from '../core/instant.ts';
import type { Json } from '../core/json.ts';
import { MAX_BODY_BYTES } from '../core/limits.ts';
import { MAX_CATCH_UP } from '../core/limits-schedules.ts';
import { fireOne } from '../cron/fire.ts';
import { isOfCode, listSchedules, seeSchedule, whyUnavailable, type ScheduleSeen } from '../cron/list.ts';
import { backfill } from '../jobs/backfill.ts';
import { faultsOf } from '../jobs/request.ts';
import { bodyOfChange, callOf, readChange, readDefinition, SCHEDULE_NAME } from '../jobs/schedule.ts';
import { changeSchedule, createSchedule, findSchedule, removeSchedule, runNow } from '../jobs/schedule-control.ts';
import { readFiring, selectFirings } from '../store/firings.ts';
import { query as select } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import type { Schedule } from '../store/schedules.ts';
import type { App } from './app.ts';
import { needs, showsPayload } from './auth.ts';
import { readJson, readMembers, readOptionalJson } from './body.ts';
import { answerEnqueued, failureOf, withHeaderKey } from './jobs.ts';
import { problem, type Failure } from './problems.ts';
import { namedPage, readQuery } from './query.ts';
import { firingJson, scheduleJson } from './schedule-json.ts';

export const scheduleRoutes = new Hono<App>();

const SCHEDULES_PATH = '/api/v1/schedules';
/** Where the schedules of the code stand. */
const CODE = 'src/cron/schedules.ts';
const NO_SCHEDULE: Failure = { kind: 'not_found', what: 'schedule of this name' };
const CHANGED_MEANWHILE: Failure = {
  kind: 'wrong_state',
  detail: 'Somebody else changed the schedule at the same moment. Look at it again, and repeat what is still wanted.',
};

scheduleRoutes.get('/', needs('jobs:read'), async (c) => {
  const query = readQuery(c, namedPage);
  if (!query.ok) return problem(query.failure);
  const { limit, cursor = '' } = query.value;
  const { items, next } = await listSchedules(c.get('rt'), cursor, limit);
  return c.json({ items: items.map((seen) => json(c, seen)), next_cursor: next });
});

const created = z.object({
  name: z
    .string()
    .regex(SCHEDULE_NAME, 'must be 1–100 letters, digits, "_", ".", ":" or "-", the first a letter or digit'),
});

scheduleRoutes.post('/', needs('jobs:write'), async (c) => {
  const rt = c.get('rt');
  const body = await readJson(c.req.raw, MAX_BODY_BYTES, rt.clock);
  if (!body.ok) return problem(body.failure);
  const named = created.safeParse(body.value);
  if (!named.success) return problem({ kind: 'invalid', errors: faultsOf(named.error) });
  const { name } = named.data;
  if (isOfCode(rt, name)) {
    const detail = `The name ${name} is that of a schedule of the code, ${CODE}: take another one.`;
    return problem({ kind: 'wrong_state', detail });
  }
  // It parsed as an object.
  const { name: _, ...members } = body.value as Readonly<Record<string, Json>>;
  const definition = readDefinition(rt.registry, members);
  if (!definition.ok) return problem(failureOf(definition));
  const paused = members['paused'] === true;
  const actor = c.get('principal').owner;
  const schedule = await createSchedule(rt, name, definition.value, { paused, actor });
  if (schedule === undefined) {
    return problem({ kind: 'wrong_state', detail: `There is a schedule ${name} already; PATCH changes it.` });
  }
  return answer(c, schedule, 201, { location: `${SCHEDULES_PATH}/${encodeURIComponent(name)}` });
});

scheduleRoutes.get('/:name', needs('jobs:read'), async (c) => {
  const query = readQuery(c, {});
  if (!query.ok) return problem(query.failure);
  const seen = await seeSchedule(c.get('rt'), c.req.param('name'));
  return seen === undefined ? problem(NO_SCHEDULE) : c.json(json(c, seen));
});

scheduleRoutes.get('/:name/history', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { limit: namedPage.limit, cursor: instant.optional() });
  if (!query.ok) return problem(query.failure);
  const { limit, cursor = Number.MAX_SAFE_INTEGER } = query.value;
  const rt = c.get('rt');
  const firings = (await select(rt, selectFirings(c.req.param('name'), cursor, limit))).map(readFiring);
  // What a schedule that is gone has done is still told.
  if (firings.length === 0 && (await seeSchedule(rt, c.req.param('name'))) === undefined) return problem(NO_SCHEDULE);
  const last = firings.length === limit ? firings.at(-1) : undefined;
  return c.json({
    items: firings.map((firing) => firingJson(firing, rt.clock.now())),
    next_cursor: last === undefined ? null : formatInstant(last.due_at),
  });
});

scheduleRoutes.patch('/:name', needs('jobs:write'), async (c) => {
  const body = await readJson(c.req.raw, MAX_BODY_BYTES, c.get('rt').clock);
  if (!body.ok) return problem(body.failure);
  const says = readChange(body.value);
  return says.ok ? change(c, says.value) : problem(failureOf(says));
});

for (const deed of ['pause', 'resume'] as const) {
  scheduleRoutes.post(`/:name/${deed}`, needs('jobs:write'), async (c) => {
    const body = readMembers(await readOptionalJson(c.req.raw, MAX_BODY_BYTES, c.get('rt').clock), {});
    return body.ok ? change(c, { paused: deed === 'pause' }) : problem(body.failure);
  });
}

scheduleRoutes.delete('/:name', needs('jobs:write'), async (c) => {
  const query = readQuery(c, {});
  if (!query.ok) return problem(query.failure);
  const schedule = await findOwn(c);
  if ('failure' in schedule) return problem(schedule.failure);
  const gone = await removeSchedule(c.get('rt'), schedule.value, c.get('principal').owner);
  return gone ? c.body(null, 204) : problem(CHANGED_MEANWHILE);
});

scheduleRoutes.post('/:name/run', needs('jobs:write'), async (c) => {
  const rt = c.get('rt');
  const body = readMembers(await readOptionalJson(c.req.raw, MAX_BODY_BYTES, rt.clock), {});
  if (!body.ok) return problem(body.failure);
  const found = await findRun(c);
  if ('failure' in found) return problem(found.failure);
  const call = withHeaderKey(callOf(rt.registry, found.value), c.req.header('idempotency-key'));
  if (!call.ok) return problem(failureOf(call));
  return answerEnqueued(await runNow(rt, found.value, call.value, { owner: c.get('principal').owner }));
});

const range = {
  from: instant,
  to: instant,
  limit: z.int().min(1).max(MAX_CATCH_UP).default(MAX_CATCH_UP),
  dry_run: z.boolean().default(false),
};

scheduleRoutes.post('/:name/backfill', needs('jobs:write'), async (c) => {
  const rt = c.get('rt');
  const body = readMembers(await readJson(c.req.raw, MAX_BODY_BYTES, rt.clock), range);
  if (!body.ok) return problem(body.failure);
  const { from, to, limit, dry_run: dryRun } = body.value;
  if (to < from) return problem({ kind: 'invalid', errors: [{ path: 'to', message: 'must not be before from' }] });
  const found = await findRun(c);
  if ('failure' in found) return problem(found.failure);
  const call = callOf(rt.registry, found.value);
  if (!call.ok) return problem(failureOf(call));
  const done = await backfill(rt, found.value, { from, to, limit, dryRun, actor: c.get('principal').owner });
  if (done === undefined) return problem(CHANGED_MEANWHILE);
  const jobs = done.fired.map(({ dueAt, jobId }) => ({ id: jobId, due_at: formatInstant(dueAt) }));
  const said = { dry_run: dryRun, matched: jobs.length, already_fired: done.already, more: done.more };
  return c.json({ ...said, fired: dryRun ? 0 : jobs.length, jobs }, dryRun ? 200 : 202);
});

type Found = { readonly value: Schedule } | { readonly failure: Failure };

/** A schedule that this deployment runs. */
async function findRun(c: Context<App>): Promise<Found> {
  const rt = c.get('rt');
  const schedule = await findSchedule(rt, c.req.param('name') ?? '');
  if (schedule === undefined) return { failure: await notThere(c) };
  const why = whyUnavailable(rt, schedule);
  return why === undefined ? { value: schedule } : { failure: notRun(schedule.name, why) };
}

/** A schedule that may be changed here. One of the code is changed in the code. */
async function findOwn(c: Context<App>): Promise<Found> {
  const name = c.req.param('name') ?? '';
  const schedule = await findSchedule(c.get('rt'), name);
  if (schedule === undefined && !isOfCode(c.get('rt'), name)) return { failure: NO_SCHEDULE };
  if (schedule?.origin === 'api') return { value: schedule };
  // One that this deployment does not run cannot be paused.
  const here = schedule === undefined ? '' : ', or pause it here';
  const detail = `The schedule ${name} is one of the code, ${CODE}: change it there${here}.`;
  return { failure: { kind: 'wrong_state', detail } };
}

// One that the code lists and this deployment does not run.
async function notThere(c: Context<App>): Promise<Failure> {
  const seen = await seeSchedule(c.get('rt'), c.req.param('name') ?? '');
  if (seen === undefined) return NO_SCHEDULE;
  return notRun(seen.name, seen.unavailable ?? 'it has just gone');
}

function notRun(name: string, why: string): Failure {
  return { kind: 'wrong_state', detail: `The schedule ${name} is not run here: ${why}.` };
}

/** Changes what `members` say, as they would be said of a new schedule, and answers with all of it. */
async function change(c: Context<App>, { paused, ...members }: Readonly<Record<string, Json>>): Promise<Response> {
  const rt = c.get('rt');
  const times = Object.keys(members).length > 0;
  const found = times ? await findOwn(c) : undefined;
  if (found !== undefined && 'failure' in found) return problem(found.failure);
  const schedule = found?.value ?? (await findSchedule(rt, c.req.param('name') ?? ''));
  if (schedule === undefined) return problem(await notThere(c));
  // Resumed, it would be due.
  const why = schedule.origin === 'code' ? whyUnavailable(rt, schedule) : undefined;
  if (why !== undefined) return problem(notRun(schedule.name, why));
  const isPaused = schedule.paused_at !== null;
  const wanted = typeof paused === 'boolean' ? paused : isPaused;
  if (!times && wanted === isPaused) return answer(c, schedule, 200);
  if (handsOnInput(rt, schedule, members) && !showsPayload(c))
    return problem({ kind: 'forbidden', scope: 'payload:read' });
  const definition = times ? readDefinition(rt.registry, bodyOfChange(schedule, members)) : undefined;
  if (definition?.ok === false) return problem(failureOf(definition));
  const actor = c.get('principal').owner;
  const changed = await changeSchedule(rt, schedule, definition?.value ?? schedule, { paused: wanted, actor });
  return changed === undefined ? problem(CHANGED_MEANWHILE) : answer(c, changed, 200);
}

/** Whether a change gives the input that is there to another task, or what is made of it to another URL. */
function handsOnInput(rt: Runtime, { task, options }: Schedule, says: Readonly<Record<string, Json>>): boolean {
  if (['input', 'args', 'kwargs'].some((name) => Object.hasOwn(says, name))) return false;
  const { task: other, options: others } = says;
  if (typeof other === 'string' && rt.registry.find(other)?.name !== task) return true;
  const url = callbackUrlOf(others);
  return url !== undefined && url !== callbackUrlOf(options);
}

function callbackUrlOf(options: Json | undefined): Json | undefined {
  return typeof options === 'object' && options !== null && 'callback_url' in options
    ? options['callback_url']
    : undefined;
}

async function answer(
  c: Context<App>,
  schedule: Schedule,
  status: 200 | 201,
  headers: Record<string, string> = {},
): Promise<Response> {
  // Its first runs may be due before the next tick.
  await fireOne(c.get('rt'), schedule);
  const seen = await seeSchedule(c.get('rt'), schedule.name);
  return seen === undefined ? problem(NO_SCHEDULE) : c.json(json(c, seen), status, headers);
}

function json(c: Context<App>, seen: ScheduleSeen): Record<string, unknown> {
  return scheduleJson(seen, c.get('rt').clock.now(), showsPayload(c));
}
