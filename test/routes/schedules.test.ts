import { env } from 'cloudflare:workers';
import { Hono } from 'hono';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { MAX_BOUND_BYTES } from '../../src/core/limits.ts';
import { fireSchedules } from '../../src/cron/fire.ts';
import { tick } from '../../src/cron/tick.ts';
import { DatabaseError } from '../../src/core/ports.ts';
import type { CodeSchedule } from '../../src/jobs/schedule.ts';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import type { App } from '../../src/routes/app.ts';
import type { Scope } from '../../src/routes/auth.ts';
import { scheduleRoutes } from '../../src/routes/schedules.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, outage, START } from '../worker/bench.ts';
import { ask, get, serve } from '../worker/client.ts';

beforeEach(emptyDatabase);

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const PATH = '/api/v1/schedules';

type Body = Readonly<Record<string, unknown>>;

/** What `test.report` was run for: its day, and the due time it was given. */
const told: { day: string; dueAt: number | undefined }[] = [];
beforeEach(() => void told.splice(0));

const report = defineTask({
  name: 'test.report',
  aliases: ['app.tasks.report'],
  queue: 'default',
  params: ['day', 'pages'],
  input: z.object({ day: z.string(), pages: z.number().default(1) }),
  run: ({ day }, job) => void told.push({ day, dueAt: job.schedule?.dueAt }),
});
const once = defineTask({
  name: 'test.once',
  queue: 'default',
  input: z.object({}),
  unique: { key: () => 'one', for: 3_600 },
  run: () => null,
});

/** Schedules of the code, whose tasks only some deployments have. */
const LINES: readonly CodeSchedule[] = [
  { name: 'token_rotation', cron: '*/5 * * * *', options: { queue: 'priority' } },
  { name: 'morning_calls', cron: '30 8 * * *', timezone: 'America/New_York', options: { queue: 'campaigns' } },
  { name: 'recover_github_deliveries', cron: '0 * * * *', needs: ['GITHUB_TOKEN', 'GITHUB_HOOKS'] },
];

function benchOf(tasks: readonly Task[] = [report, once]): Bench {
  return new Bench({ schedules: LINES, clock: new FastClock(START), tasks });
}

function set(bench: Bench, now: number): void {
  (bench.clock as FastClock).set(now);
}

async function call(
  bench: Bench,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: Body }> {
  const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
  const reply = await ask(bench.rt, `${PATH}${path}`, init);
  return { status: reply.status, body: reply.status === 204 ? {} : await reply.json<Body>() };
}

const EVERY_MINUTE = { name: 'nightly', task: 'test.report', input: { day: 'today' }, every: '1m' };

/** A schedule like {@link EVERY_MINUTE}, but for what is said. */
async function create(bench: Bench, says: Body = {}): Promise<Body> {
  const { status, body } = await call(bench, 'POST', '', { ...EVERY_MINUTE, ...says });
  expect([status, body['errors']]).toEqual([201, undefined]);
  return body;
}

async function history(bench: Bench, name = 'nightly'): Promise<Body[]> {
  return (await call(bench, 'GET', `/${name}/history`)).body['items'] as Body[];
}

/** Due time, cause and outcome of each firing, oldest first. */
async function fired(bench: Bench, name = 'nightly'): Promise<unknown[]> {
  const items = await history(bench, name);
  return items.map(({ due_at: due, cause, outcome }) => [secondsIn(String(due)), cause, outcome]).reverse();
}

async function openAlerts(bench: Bench): Promise<unknown[]> {
  const reply = await ask(bench.rt, '/api/v1/alerts?state=open');
  const { items } = await reply.json<{ items: Body[] }>();
  return items.map(({ kind, target }) => [kind, target]).sort();
}

function secondsIn(instant: string): number {
  return (Date.parse(instant) - START) / SECOND;
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

/** Delivers what was sent and is due now; the rest stays in its queue. */
async function deliverDue(bench: Bench): Promise<void> {
  const now = bench.clock.now();
  const sent = bench.queues.take();
  const due = sent.filter(({ envelope }) => envelope.dueAt <= now);
  bench.queues.sent.push(...sent.filter(({ envelope }) => envelope.dueAt > now));
  for (const queue of new Set(due.map(({ envelope }) => envelope.queue))) {
    await bench.deliver(
      due.filter(({ envelope }) => envelope.queue === queue).map(({ envelope }) => envelope),
      { queue },
    );
  }
}

/** An isolate like `bench`, before whose transactions that begin with `name` somebody else does something. */
function overtaken(bench: Bench, name: string, meanwhile: () => Promise<unknown>): Bench {
  return new Bench({
    schedules: LINES,
    clock: bench.clock,
    tasks: [report, once],
    ports: ({ db }) => ({
      db: {
        run: (statement) => db.run(statement),
        batch: async (statements) => {
          if (statements[0]?.name === name) await meanwhile();
          return db.batch(statements);
        },
      },
    }),
  });
}

/** From one instant to another: a tick each minute, and every message as soon as it is due. */
async function live(bench: Bench, from: number, until: number, step = 10 * SECOND): Promise<void> {
  for (let now = from; now <= until; now += step) {
    set(bench, now);
    if ((now - START) % MINUTE === 0) await tick(bench.rt, undefined);
    await deliverDue(bench);
  }
}

async function rows(sql: string, ...params: unknown[]): Promise<Record<string, unknown>[]> {
  return (
    await env.DB.prepare(sql)
      .bind(...params)
      .all()
  ).results;
}

/** Of every schedule: drawn anew with every change. */
async function revisions(): Promise<Record<string, unknown>[]> {
  return rows(`SELECT name, revision FROM schedules`);
}

async function audit(bench: Bench): Promise<Body[]> {
  const { items } = await (await ask(bench.rt, '/api/v1/audit')).json<{ items: Body[] }>();
  return items.map(({ actor, action, target, detail }) => ({ actor, action, target, detail })).reverse();
}

/** The routes as somebody with these scopes meets them. */
async function askAs(
  bench: Bench,
  scopes: readonly Scope[],
  method: string,
  path: string,
  body?: Body,
): Promise<Response> {
  const app = new Hono<App>();
  app.use(async (c, next) => {
    c.set('rt', bench.rt);
    c.set('principal', { owner: 'somebody', scopes: new Set(scopes) });
    return next();
  });
  app.route(PATH, scheduleRoutes);
  const headers = { 'content-type': 'application/json' };
  return app.request(`${PATH}${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

describe('making a schedule', () => {
  test('answers with where it is, all that it is, and its next five runs', async () => {
    const bench = benchOf();
    const reply = await ask(bench.rt, PATH, { method: 'POST', body: JSON.stringify(EVERY_MINUTE) });
    expect([reply.status, reply.headers.get('location')]).toEqual([201, `${PATH}/nightly`]);
    const made = await reply.json();
    expect(made).toEqual({
      name: 'nightly',
      origin: 'api',
      task: 'test.report',
      input: { day: 'today' },
      options: {},
      cron: null,
      every: expect.any(String) as unknown,
      timezone: 'UTC',
      overlap: 'skip',
      catch_up: 'last',
      jitter: 0,
      starts_at: null,
      ends_at: null,
      paused: false,
      paused_at: null,
      state: 'active',
      reason: null,
      next_runs: [1, 2, 3, 4, 5].map((minutes) => iso(START + minutes * MINUTE)),
      last_run: null,
      created_at: iso(START),
      updated_at: iso(START),
    });
    expect((await call(bench, 'GET', '/nightly')).body).toEqual(made);
    await live(bench, START, START + 2 * MINUTE);
    expect(told).toEqual([1, 2].map((minutes) => ({ day: 'today', dueAt: START + minutes * MINUTE })));
  });

  test('takes a cron pattern, Celery-shaped input, an alias of the task, and every other thing it may say', async () => {
    const bench = benchOf();
    const says = {
      name: 'a.B:c-d_1',
      task: 'app.tasks.report',
      args: ['monday'],
      kwargs: { pages: 3 },
      cron: '*/15 * * * *',
      timezone: 'Europe/Berlin',
      overlap: 'Queue One',
      catch_up: { all: 7 },
      jitter: 2.5,
      starts_at: iso(START + HOUR),
      ends_at: iso(START + 2 * HOUR),
      paused: true,
      options: { queue: 'agent_service', priority: 7, expires: 90, max_retries: 1, tags: ['a'] },
    };
    const { status, body } = await call(bench, 'POST', '', says);
    expect([status, body]).toMatchObject([
      201,
      {
        name: 'a.B:c-d_1',
        task: 'test.report',
        input: { day: 'monday', pages: 3 },
        cron: '*/15 * * * *',
        every: null,
        timezone: 'Europe/Berlin',
        overlap: 'queue_one',
        catch_up: { all: 7 },
        jitter: 2.5,
        starts_at: says.starts_at,
        ends_at: says.ends_at,
        options: says.options,
        paused: true,
        paused_at: iso(START),
        state: 'paused',
        next_runs: [],
      },
    ]);
  });

  test('with starts_at and ends_at it is due within them, both included, and has ended afterwards', async () => {
    const bench = benchOf();
    const bounds = { starts_at: iso(START + 2 * MINUTE), ends_at: iso(START + 3 * MINUTE) };
    const { next_runs: next } = await create(bench, bounds);
    expect(next).toEqual([bounds.starts_at, bounds.ends_at]);
    await live(bench, START, START + 6 * MINUTE);
    expect(await fired(bench)).toEqual([
      [120, 'due', 'fired'],
      [180, 'due', 'fired'],
    ]);
    expect((await call(bench, 'GET', '/nightly')).body).toMatchObject({ state: 'ended', next_runs: [] });
  });

  test('that begins in the past is due from now on: what has been before it was made is not made good', async () => {
    const bench = benchOf();
    await create(bench, { catch_up: 'all', starts_at: iso(START - HOUR), every: '10m' });
    await live(bench, START, START + 10 * MINUTE);
    expect(await fired(bench)).toEqual([[600, 'due', 'fired']]);
  });

  const refused: [what: string, says: Body, path: string, message: RegExp][] = [
    ['no name', { name: undefined }, 'name', /./],
    ['an empty name', { name: '' }, 'name', /1–100 letters/],
    ['a name with a slash', { name: 'a/b' }, 'name', /1–100 letters/],
    ['a name that begins with a dot', { name: '..' }, 'name', /1–100 letters/],
    ['a name that begins with no letter and no digit', { name: '_x' }, 'name', /the first a letter or digit/],
    ['a name that is too long', { name: 'x'.repeat(101) }, 'name', /1–100 letters/],
    ['a name that is none', { name: 7 }, 'name', /string/],
    ['no task', { task: undefined }, 'task', /./],
    ['an unknown task', { task: 'nobody' }, 'task', /there is no task "nobody"/],
    ['an input that the task refuses', { input: { day: 7 } }, 'input.day', /expected string/],
    ['an input beside args', { args: ['today'] }, 'input', /exclude each other/],
    ['more args than the task takes', { input: undefined, args: ['a', 1, 2] }, 'args', /at most 2/],
    ['the same argument twice', { input: undefined, args: ['a'], kwargs: { day: 'b' } }, 'kwargs.day', /already/],
    ['neither cron nor every', { every: undefined }, 'cron', /or every is required/],
    ['neither, both null', { every: null, cron: null }, 'cron', /or every is required/],
    ['both cron and every', { cron: '* * * * *' }, 'every', /cron exclude each other/],
    ['a cron pattern that is none', { every: undefined, cron: 'daily' }, 'cron', /./],
    ['a cron pattern of another type', { every: undefined, cron: 5 }, 'cron', /string/],
    ['an interval that is none', { every: 'often' }, 'every', /./],
    ['an interval of another type', { every: true }, 'every', /"30s"/],
    ['a zone for an interval', { timezone: 'Europe/Berlin' }, 'timezone', /is for cron.* null/],
    ['a zone of another type', { timezone: 1 }, 'timezone', /string/],
    ['an overlap policy nobody knows', { overlap: 'maybe' }, 'overlap', /"skip"\|"queue_one"/],
    [
      'a catch-up policy nobody knows',
      { catch_up: 'some' },
      'catch_up',
      /"none", "last", "all" or \{ "all": 1–1000 \}/,
    ],
    ['a catch-up of nothing', { catch_up: { all: 0 } }, 'catch_up', /1–1000/],
    ['a catch-up of too many', { catch_up: { all: 1_001 } }, 'catch_up', /1–1000/],
    ['a jitter below zero', { jitter: -1 }, 'jitter', />=0/],
    ['a jitter above a day', { jitter: 86_401 }, 'jitter', /<=86400/],
    ['a jitter of another type', { jitter: '5s' }, 'jitter', /number/],
    ['a start without a zone', { starts_at: '2040-01-02T12:00:00' }, 'starts_at', /zone/],
    ['an end that is a number', { ends_at: 5 }, 'ends_at', /string/],
    [
      'an end before its start',
      { starts_at: iso(START + 1), ends_at: iso(START) },
      'ends_at',
      /must not be before starts_at/,
    ],
    ['a pause that is no yes or no', { paused: 'yes' }, 'paused', /boolean/],
    ['a member nobody knows', { crno: '* * * * *' }, 'crno', /is unknown/],
    ['options of another type', { options: 'none' }, 'options', /object/],
    ['an option nobody knows', { options: { queu: 'email' } }, 'options.queu', /is unknown/],
    ['an unknown queue', { options: { queue: 'nowhere' } }, 'options.queue', /there is no queue "nowhere"/],
    ['a tag that is none', { options: { tags: ['a', 5] } }, 'options.tags[1]', /string/],
    ['a countdown', { options: { countdown: 5 } }, 'options.countdown', /is not for schedules/],
    ['an eta', { options: { eta: iso(START) } }, 'options.eta', /is not for schedules/],
    ['an idempotency key', { options: { idempotency_key: 'k' } }, 'options.idempotency_key', /is not for schedules/],
    ['a unique key', { options: { unique: { key: 'k' } } }, 'options.unique', /overlap says/],
    ['an expiry at one instant', { options: { expires: iso(START) } }, 'options.expires', /^must be seconds: it/],
    ['an expiry that is none', { options: { expires: '5m' } }, 'options.expires', /^must be seconds: it/],
    ['an expiry before its time', { options: { expires: -1 } }, 'options.expires', /^must be seconds: it/],
    [
      'a soft limit above the hard one',
      { options: { soft_time_limit: 20, time_limit: 10 } },
      'options.soft_time_limit',
      /10 s/,
    ],
  ];

  test.each(refused)('with %s is refused: it says where, and nothing is made', async (_, says, path, message) => {
    const bench = benchOf();
    const { status, body } = await call(bench, 'POST', '', { ...EVERY_MINUTE, ...says });
    const [fault] = (body['errors'] ?? []) as { path: string; message: string }[];
    expect([status, fault?.path]).toEqual([422, path]);
    expect(fault?.message).toMatch(message);
    expect(body['detail']).toContain(path);
    expect(await rows(`SELECT name FROM schedules`)).toEqual([]);
    expect(await audit(bench)).toEqual([]);
  });

  test('says everything that is wrong with the options at once', async () => {
    const { body } = await call(benchOf(), 'POST', '', {
      ...EVERY_MINUTE,
      options: { countdown: 1, eta: 1, retries: 2 },
    });
    expect((body['errors'] as Body[]).map(({ path }) => path)).toContain('options.retries');
    const { body: both } = await call(benchOf(), 'POST', '', { ...EVERY_MINUTE, options: { countdown: 1, eta: 1 } });
    expect((both['errors'] as Body[]).map(({ path }) => path)).toEqual(['options.countdown', 'options.eta']);
  });

  test('bodies that are hostile, too large or no object at all are refused as everywhere', async () => {
    const bench = benchOf();
    const bodies: [body: string, status: number][] = [
      ['{"name": "x", "__proto__": {"task": "test.report"}}', 400],
      ['{"name": "x", "task": "test.report", "input": {"__proto__": 1}, "every": "1m"}', 400],
      [JSON.stringify({ ...EVERY_MINUTE, input: { day: 'x'.repeat(8 << 20) } }), 413],
      [JSON.stringify({ ...EVERY_MINUTE, input: { day: 'x'.repeat(64_001) } }), 413],
      ['[]', 422],
      ['null', 422],
      ['"nightly"', 422],
      ['{', 400],
      ['', 400],
    ];
    for (const [body, expected] of bodies) {
      const reply = await ask(bench.rt, PATH, { method: 'POST', body });
      expect([body.slice(0, 40), reply.status]).toEqual([body.slice(0, 40), expected]);
    }
    const text = await serve(
      bench.rt,
      new Request(`http://lovage.test${PATH}`, {
        method: 'POST',
        headers: { authorization: 'Bearer test-admin-key', 'content-type': 'text/plain' },
        body: JSON.stringify(EVERY_MINUTE),
      }),
    );
    expect(text.status).toBe(415);
    expect(await rows(`SELECT name FROM schedules`)).toEqual([]);
  });

  test('under a name that is taken is refused with what to do, and the one that is there stays as it is', async () => {
    const bench = benchOf();
    const made = await create(bench);
    const { status, body } = await call(bench, 'POST', '', { ...EVERY_MINUTE, every: '5m' });
    expect([status, body['detail']]).toEqual([409, 'There is a schedule nightly already; PATCH changes it.']);
    expect((await call(bench, 'GET', '/nightly')).body).toEqual(made);
    expect((await audit(bench)).map(({ action }) => action)).toEqual(['schedule.created']);
  });

  test('ten at once under one name make one', async () => {
    const bench = benchOf();
    const replies = await Promise.all(
      Array.from({ length: 10 }, (_, at) => call(bench, 'POST', '', { ...EVERY_MINUTE, every: `${String(at + 1)}m` })),
    );
    expect(replies.map(({ status }) => status).sort()).toEqual([201, ...Array.from({ length: 9 }, () => 409)]);
    expect(await audit(bench)).toHaveLength(1);
  });

  test('under the name of a schedule of the code is refused, also where that one is not run here', async () => {
    const bench = benchOf();
    const { status, body } = await call(bench, 'POST', '', { ...EVERY_MINUTE, name: 'token_rotation' });
    expect([status, body['detail']]).toEqual([
      409,
      'The name token_rotation is that of a schedule of the code, src/cron/schedules.ts: take another one.',
    ]);
  });
});

describe('between two ticks', () => {
  const messages = (bench: Bench): unknown[] =>
    bench.queues.take().map(({ envelope, delaySeconds }) => [secondsIn(iso(envelope.dueAt)), delaySeconds]);

  test('one that is made does not wait for the next: its first runs are planned and sent at once', async () => {
    const bench = benchOf();
    set(bench, START + SECOND);
    await create(bench, { every: '30s' });
    expect(messages(bench)).toEqual([
      [30, 29],
      [60, 59],
    ]);
    await tick(bench.rt, undefined);
    expect(messages(bench)).toEqual([]);
    await live(bench, START + 10 * SECOND, START + 5 * MINUTE);
    const outcomes = (await fired(bench)).map((line) => (line as unknown[])[2]);
    expect(new Set(outcomes)).toEqual(new Set(['fired', 'skipped']));
  });

  test('one that is changed goes on at once, one that is resumed too, and one that is made paused does nothing', async () => {
    const bench = benchOf();
    await create(bench, { every: '1h' });
    await create(bench, { name: 'quiet', every: '10s', paused: true });
    expect(messages(bench)).toEqual([]);
    await call(bench, 'PATCH', '/nightly', { every: '50s' });
    expect(messages(bench)).toEqual([[50, 50]]);
    await call(bench, 'POST', '/nightly/pause');
    set(bench, START + 2 * SECOND);
    await call(bench, 'POST', '/nightly/resume');
    expect(messages(bench)).toEqual([[50, 48]]);
  });

  test('one is made all the same where its first runs cannot be planned: the tick does it', async () => {
    const bench = benchOf();
    bench.db.fault = (names) => (names.startsWith('fire') ? { when: 'before', error: outage() } : undefined);
    await create(bench, { every: '1m' });
    expect(messages(bench)).toEqual([]);
    bench.db.fault = () => undefined;
    await tick(bench.rt, undefined);
    expect(messages(bench)).toEqual([[60, 60]]);
  });
});

test('one whose firing the database refuses keeps no other from its time', async () => {
  const bench = benchOf();
  for (const name of ['one', 'hostile', 'other']) await create(bench, { name });
  set(bench, START + MINUTE);
  const picky = new Bench({
    schedules: LINES,
    clock: bench.clock,
    tasks: [report],
    ports: ({ db }) => ({
      db: {
        run: (statement) => db.run(statement),
        batch: async (statements) => {
          if (JSON.stringify(statements).includes('hostile')) throw new DatabaseError('refused', 'too big');
          return db.batch(statements);
        },
      },
    }),
  });
  await fireSchedules(picky.rt);
  expect(await rows(`SELECT schedule FROM firings WHERE due_at = ?1 ORDER BY 1`, START + 2 * MINUTE)).toEqual([
    { schedule: 'one' },
    { schedule: 'other' },
  ]);
  await fireSchedules(bench.rt);
  expect(await fired(bench, 'hostile')).toEqual([60, 120].map((due) => [due, 'due', 'fired']));
});

test('a long silence of many large inputs is made good by several ticks: none takes the statements its sweeps need', async () => {
  const bench = benchOf();
  const input = { day: 'x'.repeat(60_000) };
  for (let at = 0; at < 8; at += 1)
    await create(bench, { name: `s${String(at)}`, every: '1s', catch_up: 'all', input });
  set(bench, START + 4 * MINUTE);
  bench.counts.clear();
  await fireSchedules(bench.rt);
  expect(bench.statements('fire')).toBe(100);
  const undecided = `SELECT count(*) AS n FROM schedules WHERE next_at <= ?1`;
  expect((await rows(undecided, START + 4 * MINUTE))[0]).not.toEqual({ n: 0 });
  for (let round = 0; round < 2; round += 1) await fireSchedules(bench.rt);
  expect((await rows(undecided, START + 4 * MINUTE))[0]).toEqual({ n: 0 });
  expect((await rows(`SELECT count(*) AS n FROM firings`))[0]).toEqual({ n: 8 * (4 * 60 + 75) });
}, 30_000);

test('of several that passed while a tick was late, catch_up: all loses none to the overlap policy', async () => {
  const bench = benchOf();
  await create(bench, { every: '20s', catch_up: 'all', overlap: 'skip' });
  set(bench, START + 61 * SECOND);
  await bench.drain();
  told.splice(0);
  set(bench, START + 130 * SECOND);
  await tick(bench.rt, undefined);
  await deliverDue(bench);
  for (let round = 0; round < 3; round += 1) {
    await bench.background();
    await deliverDue(bench);
  }
  expect(told.map(({ dueAt = 0 }) => (dueAt - START) / SECOND)).toEqual([120, 80, 100]);
  expect((await fired(bench)).slice(3, 6)).toEqual([
    [80, 'catch_up', 'fired'],
    [100, 'catch_up', 'fired'],
    [120, 'due', 'fired'],
  ]);
});

describe('looking at schedules', () => {
  test('lists those of the API and of the code by name, each on one page; what this deployment does not have says why', async () => {
    const bench = benchOf();
    for (const name of ['zz', 'backup_mine', 'aa']) await create(bench, { name });
    const whole = (await call(bench, 'GET', '?limit=200')).body['items'] as Body[];
    const names = ['aa', 'backup_mine', 'zz', ...LINES.map(({ name }) => name)].sort();
    expect(whole.map(({ name }) => name)).toEqual(names);
    const paged: unknown[] = [];
    let cursor: unknown = '';
    do {
      const { status, body } = await call(bench, 'GET', `?limit=7${cursor === '' ? '' : `&cursor=${String(cursor)}`}`);
      expect(status).toBe(200);
      paged.push(...(body['items'] as Body[]));
      cursor = body['next_cursor'];
    } while (cursor !== null && paged.length < 100);
    expect(paged).toEqual(whole);
    expect(whole.find(({ name }) => name === 'morning_calls')).toEqual({
      name: 'morning_calls',
      origin: 'code',
      task: 'morning_calls',
      input: {},
      options: { queue: 'campaigns' },
      cron: '30 8 * * *',
      every: null,
      timezone: 'America/New_York',
      overlap: 'skip',
      catch_up: 'last',
      jitter: 0,
      starts_at: null,
      ends_at: null,
      paused: false,
      paused_at: null,
      state: 'unavailable',
      reason: 'there is no task "morning_calls" in this deployment',
      next_runs: [],
      last_run: null,
      created_at: null,
      updated_at: null,
    });
    expect(whole.find(({ name }) => name === 'recover_github_deliveries')).toMatchObject({
      state: 'unavailable',
      reason: 'not set: GITHUB_TOKEN, GITHUB_HOOKS',
    });
    await live(bench, START, START + 10 * MINUTE, MINUTE);
    const origins = await rows(`SELECT DISTINCT source FROM jobs ORDER BY 1`);
    expect(origins.map(({ source }) => source)).toEqual(['schedule:aa', 'schedule:backup_mine', 'schedule:zz']);
    expect((await call(bench, 'GET', '/morning_calls')).body).toMatchObject({ state: 'unavailable' });
  });

  test('one whose task has left says so, waits for it with an alert open, and goes on where it was once it is back', async () => {
    const bench = benchOf();
    await create(bench, { overlap: 'allow' });
    await live(bench, START, START);
    const without = new Bench({ schedules: LINES, clock: bench.clock });
    for (let minute = 1; minute <= 3; minute += 1) {
      set(without, START + minute * MINUTE);
      await tick(without.rt, undefined);
    }
    expect(await fired(without)).toEqual([[60, 'due', 'fired']]);
    expect((await call(without, 'GET', '/nightly')).body).toMatchObject({
      state: 'unavailable',
      reason: 'there is no task "test.report" in this deployment',
    });
    expect(await openAlerts(bench)).toEqual([['schedule_failing', 'nightly']]);
    await live(bench, START + 4 * MINUTE, START + 4 * MINUTE);
    expect(await openAlerts(bench)).toEqual([]);
    expect(await fired(bench)).toEqual([
      [60, 'due', 'fired'],
      [180, 'catch_up', 'missed'],
      [240, 'due', 'fired'],
      [300, 'due', 'fired'],
    ]);
  });

  test.each([
    ['changed', 'PATCH', '', { every: '1h' }],
    ['paused', 'POST', '/pause', undefined],
    ['deleted', 'DELETE', '', undefined],
  ])('the alert of one whose task has left is over when it is %s', async (_, method, path, body) => {
    const bench = benchOf();
    await create(bench);
    await create(bench, { name: 'other' });
    set(bench, START + MINUTE);
    await tick(new Bench({ schedules: LINES, clock: bench.clock }).rt, undefined);
    expect(await openAlerts(bench)).toEqual([
      ['schedule_failing', 'nightly'],
      ['schedule_failing', 'other'],
    ]);
    await call(bench, method, `/nightly${path}`, body);
    expect(await openAlerts(bench)).toEqual([['schedule_failing', 'other']]);
  });

  test('of a thousand whose tasks have left a tick says so in a few statements', async () => {
    const bench = benchOf();
    await create(bench);
    await env.DB.prepare(
      `INSERT INTO schedules SELECT 'n' || value, v, origin, task, input, options, cron, every_ms, timezone, overlap, catch_up,
  catch_up_most, jitter_ms, starts_at, ends_at, paused_at, revision, decided_until, ?1, failing, created_at, updated_at
FROM schedules, json_each(?2)`,
    )
      .bind(START, JSON.stringify(Array.from({ length: 999 }, (_, at) => at)))
      .run();
    set(bench, START + MINUTE);
    const without = new Bench({ schedules: LINES, clock: bench.clock });
    await fireSchedules(without.rt);
    expect(without.statements('alert')).toBe(10);
    expect((await rows(`SELECT count(*) AS n FROM alerts`))[0]).toEqual({ n: 1_000 });
  });

  test('says its last run, with the job and what became of it', async () => {
    const bench = benchOf();
    await create(bench);
    await live(bench, START, START + MINUTE);
    const { last_run: last } = (await call(bench, 'GET', '/nightly')).body;
    const [job] = await rows(`SELECT id FROM jobs WHERE finished_at IS NOT NULL`);
    expect(last).toEqual({
      due_at: iso(START + MINUTE),
      cause: 'due',
      outcome: 'fired',
      reason: null,
      job_id: job?.['id'],
      state: 'SUCCESS',
      status: 'completed',
      decided_at: iso(START),
    });
    const [, listed] = ((await call(bench, 'GET', '')).body['items'] as Body[]).filter(
      ({ last_run: run }, at) => at === 0 || run !== null,
    );
    expect(listed).toMatchObject({ name: 'nightly', last_run: last });
    expect(await (await ask(bench.rt, `/api/v1/jobs/${String(job?.['id'])}`)).json()).toMatchObject({
      source: 'schedule:nightly',
      schedule: { name: 'nightly', due_at: iso(START + MINUTE), cause: 'due' },
    });
  });

  test('the history has every due time, newest first, in pages', async () => {
    const bench = benchOf();
    await create(bench, { every: '10s' });
    await live(bench, START, START + 2 * MINUTE);
    const whole = await history(bench);
    expect(whole.map(({ due_at: due }) => secondsIn(String(due)))).toEqual(
      Array.from({ length: 19 }, (_, at) => 190 - at * 10),
    );
    const paged: Body[] = [];
    let cursor: unknown = '';
    do {
      const after = cursor === '' ? '' : `&cursor=${encodeURIComponent(String(cursor))}`;
      const { body } = await call(bench, 'GET', `/nightly/history?limit=4${after}`);
      paged.push(...(body['items'] as Body[]));
      cursor = body['next_cursor'];
    } while (cursor !== null && paged.length < 100);
    expect(paged).toEqual(whole);
  });

  test('a name that nobody has is not found, whatever is asked of it; a query that nobody reads is refused', async () => {
    const bench = benchOf();
    for (const [method, path, body] of [
      ['GET', '/nobody', undefined],
      ['GET', '/nobody/history', undefined],
      ['PATCH', '/nobody', { every: '2m' }],
      ['DELETE', '/nobody', undefined],
      ['POST', '/nobody/run', undefined],
      ['POST', '/nobody/pause', undefined],
      ['POST', '/nobody/resume', {}],
      ['POST', '/nobody/backfill', { from: iso(START), to: iso(START) }],
    ] as const) {
      const reply = await call(bench, method, path, body);
      expect([method, path, reply.status, reply.body['detail']]).toEqual([
        method,
        path,
        404,
        'There is no schedule of this name.',
      ]);
    }
    await create(bench, { every: '1h' });
    for (const [method, path] of [
      ['GET', '?task=test.report'],
      ['GET', '?limit=0'],
      ['GET', '/nightly?wait=5'],
      ['GET', '/nightly/history?cursor=5'],
      ['GET', '/nightly/history?since=2040-01-01T00:00:00Z'],
      ['POST', '?dry_run=true'],
      ['POST', '/nightly/run?wait=5'],
      ['POST', '/nightly/pause?until=60'],
      ['POST', '/nightly/backfill?dry_run=true'],
      ['PATCH', '/nightly?paused=true'],
      ['DELETE', '/nightly?dry_run=true'],
    ] as const) {
      const reply = await call(bench, method, path, method === 'PATCH' ? {} : undefined);
      expect([method, path, reply.status]).toEqual([method, path, 422]);
    }
    expect(await rows(`SELECT name, paused_at FROM schedules`)).toEqual([{ name: 'nightly', paused_at: null }]);
    expect(await rows(`SELECT id FROM jobs`)).toEqual([]);
  });
});

describe('changing a schedule', () => {
  const ALL = {
    options: { priority: 3 },
    overlap: 'allow',
    catch_up: 'none',
    jitter: 1,
    starts_at: iso(START + MINUTE),
    ends_at: iso(START + HOUR),
  };

  test.each<[says: Body, expected: Body]>([
    [
      { task: 'test.once', input: {} },
      { task: 'test.once', input: {} },
    ],
    [{ input: { day: 'other' } }, { input: { day: 'other' } }],
    [{ args: ['other', 2] }, { input: { day: 'other', pages: 2 } }],
    [{ kwargs: { day: 'other' } }, { input: { day: 'other' } }],
    [{ options: { queue: 'bulk' } }, { options: { queue: 'bulk' } }],
    [{ options: {} }, { options: {} }],
    [{ cron: '*/5 * * * *' }, { cron: '*/5 * * * *', every: null }],
    [{ overlap: 'cancel-previous' }, { overlap: 'cancel_previous' }],
    [{ catch_up: { all: 3 } }, { catch_up: { all: 3 } }],
    [{ jitter: 30 }, { jitter: 30 }],
    [{ starts_at: iso(START + 2 * MINUTE) }, { starts_at: iso(START + 2 * MINUTE) }],
    [
      { starts_at: null, ends_at: null },
      { starts_at: null, ends_at: null },
    ],
    [
      { options: null, overlap: null, catch_up: null, jitter: null },
      { options: {}, overlap: 'skip', catch_up: 'last', jitter: 0 },
    ],
    [{ paused: true }, { paused: true, state: 'paused' }],
    [{}, {}],
  ])('changes what is said (%j) and nothing else', async (says, expected) => {
    const bench = benchOf();
    const made = await create(bench, ALL);
    const before = await revisions();
    set(bench, START + SECOND);
    const { status, body } = await call(bench, 'PATCH', '/nightly', says);
    const { next_runs: _, updated_at: at, paused_at: pausedAt, ...is } = body;
    const { next_runs: _before, updated_at: madeAt, paused_at: _pausedAt, ...was } = made;
    expect([status, is]).toEqual([200, { ...was, ...expected }]);
    const touched = Object.keys(says).length > 0;
    expect([at, pausedAt]).toEqual([
      touched ? iso(START + SECOND) : madeAt,
      says['paused'] ? iso(START + SECOND) : null,
    ]);
    const after = await revisions();
    if (touched) expect(after).not.toEqual(before);
    else expect(after).toEqual(before);
  });

  test('cron and every replace each other, and a zone goes with a pattern', async () => {
    const bench = benchOf();
    await create(bench);
    const zoned = await call(bench, 'PATCH', '/nightly', { cron: '*/2 * * * *', timezone: 'Asia/Tokyo' });
    expect(zoned.body).toMatchObject({ cron: '*/2 * * * *', every: null, timezone: 'Asia/Tokyo' });
    const { status, body } = await call(bench, 'PATCH', '/nightly', { every: '30s' });
    expect([status, body['errors']]).toMatchObject([422, [{ path: 'timezone' }]]);
    const every = await call(bench, 'PATCH', '/nightly', { every: '30s', timezone: null });
    expect(every.body).toMatchObject({ cron: null, timezone: 'UTC' });
    expect((every.body['next_runs'] as string[]).map(secondsIn)).toEqual([30, 60, 90, 120, 150]);
  });

  test.each<[says: unknown, path: string]>([
    [{ input: { day: 7 } }, 'input.day'],
    [{ input: null }, 'input'],
    [{ task: 'nobody' }, 'task'],
    [{ task: null }, 'task'],
    [{ cron: null, every: null }, 'cron'],
    [{ cron: '* * * * *', every: '5m' }, 'every'],
    [{ ends_at: iso(START - 1), starts_at: iso(START) }, 'ends_at'],
    [{ options: { countdown: 5 } }, 'options.countdown'],
    [{ name: 'other' }, 'name'],
    [{ paused: null }, 'paused'],
    [[], ''],
    ['pause', ''],
  ])('into what it may not be (%j) is refused, and it stays as it was', async (says, path) => {
    const bench = benchOf();
    const made = await create(bench);
    const before = await revisions();
    set(bench, START + SECOND);
    const { status, body } = await call(bench, 'PATCH', '/nightly', says);
    expect([status, body['errors']]).toMatchObject([422, [{ path }]]);
    expect((await call(bench, 'GET', '/nightly')).body).toEqual(made);
    expect(await revisions()).toEqual(before);
  });

  test('between two ticks fires the new times and none of the old ones that were planned', async () => {
    const bench = benchOf();
    await create(bench);
    await live(bench, START, START + 10 * SECOND);
    const planned = bench.queues.sent.map(({ envelope }) => envelope);
    expect(planned).toHaveLength(1);
    await call(bench, 'PATCH', '/nightly', { every: '40s' });
    await live(bench, START + 20 * SECOND, START + 3 * MINUTE);
    expect(told.map(({ dueAt }) => ((dueAt ?? 0) - START) / SECOND)).toEqual([40, 80, 120, 160]);
    expect(await fired(bench)).toEqual([
      [40, 'due', 'fired'],
      [60, 'due', 'revoked'],
      ...[80, 120, 160, 200, 240].map((due) => [due, 'due', 'fired']),
    ]);
    expect((await history(bench)).find(({ outcome }) => outcome === 'revoked')).toMatchObject({
      reason: 'Its schedule was changed before it started.',
      state: 'REVOKED',
    });
  });

  test('keeps the times that stay, with what is said now: one run each', async () => {
    const bench = benchOf();
    await create(bench);
    await live(bench, START, START + 10 * SECOND);
    await call(bench, 'PATCH', '/nightly', { input: { day: 'new' } });
    await live(bench, START + 20 * SECOND, START + 2 * MINUTE);
    expect(told).toEqual([1, 2].map((minutes) => ({ day: 'new', dueAt: START + minutes * MINUTE })));
  });

  test('a run that was due and is only late in its queue is made anew with the new input', async () => {
    const bench = benchOf();
    await create(bench);
    await tick(bench.rt, undefined);
    set(bench, START + MINUTE + 30 * SECOND);
    await call(bench, 'PATCH', '/nightly', { input: { day: 'new' } });
    await tick(bench.rt, undefined);
    await live(bench, START + 100 * SECOND, START + 2 * MINUTE);
    expect(told).toEqual([1, 2].map((minutes) => ({ day: 'new', dueAt: START + minutes * MINUTE })));
    expect((await fired(bench)).slice(0, 2)).toEqual([
      [60, 'due', 'fired'],
      [120, 'due', 'fired'],
    ]);
  });

  test('what no tick has decided yet is not lost by a new input; by new times it is over', async () => {
    const bench = benchOf();
    await create(bench, { every: '10m' });
    await create(bench, { name: 'moved', every: '10m' });
    await tick(bench.rt, undefined);
    // Half an hour without a tick.
    set(bench, START + 35 * MINUTE);
    await call(bench, 'PATCH', '/nightly', { input: { day: 'new' } });
    await call(bench, 'PATCH', '/moved', { every: '7m' });
    await live(bench, START + 36 * MINUTE, START + 37 * MINUTE);
    expect(await fired(bench)).toEqual([
      [1_200, 'catch_up', 'missed'],
      [1_800, 'catch_up', 'fired'],
    ]);
    expect(told[0]).toEqual({ day: 'new', dueAt: START + 30 * MINUTE });
    // The first one after the change: 12:37.
    expect(await fired(bench, 'moved')).toEqual([[2_220, 'due', 'fired']]);
  });

  test('a run that is under way ends as it was, whatever becomes of its schedule', async () => {
    const bench = benchOf();
    await create(bench);
    await tick(bench.rt, undefined);
    set(bench, START + MINUTE);
    await env.DB.prepare(`UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, lease_until = ?`)
      .bind(START + HOUR)
      .run();
    for (const [method, path, body] of [
      ['PATCH', '/nightly', { input: { day: 'new' } }],
      ['POST', '/nightly/pause', undefined],
      ['DELETE', '/nightly', undefined],
    ] as const) {
      await call(bench, method, path, body);
      const running = await rows(`SELECT state, revoke_requested AS asked FROM jobs WHERE claim > 0`);
      expect(running).toEqual([{ state: 'STARTED', asked: 0 }]);
    }
    expect(await fired(bench)).toEqual([
      [60, 'due', 'fired'],
      [120, 'due', 'revoked'],
    ]);
  });

  test('a run that is claimed at the very moment of a change runs once, as it was', async () => {
    const bench = benchOf();
    await create(bench);
    await tick(bench.rt, undefined);
    set(bench, START + MINUTE);
    const slow = overtaken(bench, 'schedule', () => deliverDue(bench));
    expect((await call(slow, 'PATCH', '/nightly', { input: { day: 'new' } })).status).toBe(200);
    bench.queues.sent.push(...slow.queues.take());
    await live(bench, START + 70 * SECOND, START + 2 * MINUTE);
    expect(told).toEqual([
      { day: 'today', dueAt: START + MINUTE },
      { day: 'new', dueAt: START + 2 * MINUTE },
    ]);
  });

  test('a tick that looked before a change and writes after it fires nothing of what it saw', async () => {
    const bench = benchOf();
    await create(bench, { every: '2m' });
    set(bench, START + MINUTE);
    const slow = overtaken(bench, 'fire', () => call(bench, 'PATCH', '/nightly', { every: '50s' }));
    await tick(slow.rt, undefined);
    expect(await fired(bench)).toEqual([[100, 'due', 'fired']]);
    expect(await rows(`SELECT count(*) AS n FROM jobs`)).toEqual([{ n: 1 }]);
  });

  test('a tick that looked before another one and writes after it takes nothing back', async () => {
    const bench = benchOf();
    await create(bench, { every: '10m' });
    set(bench, START + 21 * MINUTE);
    const slow = overtaken(bench, 'fire', async () => {
      set(bench, START + 45 * MINUTE);
      await tick(bench.rt, undefined);
    });
    const after = async (): Promise<unknown> => [await fired(bench), await rows(`SELECT decided_until FROM schedules`)];
    await tick(slow.rt, undefined);
    const firings = [
      [30 * 60, 'catch_up', 'missed'],
      [40 * 60, 'catch_up', 'fired'],
    ];
    expect(await after()).toEqual([firings, [{ decided_until: START + 45 * MINUTE + 75 * SECOND }]]);
  });

  test('two changes of one moment: one is done, the other is told to look again', async () => {
    const bench = benchOf();
    await create(bench);
    set(bench, START + SECOND);
    const replies = await Promise.all(
      ['2m', '3m', '4m', '5m'].map((every) => call(bench, 'PATCH', '/nightly', { every })),
    );
    const done = replies.filter(({ status }) => status === 200);
    expect(done).toHaveLength(1);
    expect(replies.filter(({ status }) => status === 409)).toHaveLength(3);
    expect(replies.find(({ status }) => status === 409)?.body['detail']).toMatch(/^Somebody else changed the schedule/);
    expect((await call(bench, 'GET', '/nightly')).body).toEqual(done[0]?.body);
    expect((await audit(bench)).map(({ action }) => action)).toEqual(['schedule.created', 'schedule.changed']);
  });

  test('a change and a tick of one moment: the new times, and each once', async () => {
    for (let round = 0; round < 5; round += 1) {
      await emptyDatabase();
      told.splice(0);
      const bench = benchOf();
      await create(bench);
      const [{ status }] = await Promise.all([
        call(bench, 'PATCH', '/nightly', { input: { day: 'new' } }),
        tick(bench.rt, undefined),
        fireSchedules(benchOf().rt),
      ]);
      expect(status).toBe(200);
      await live(bench, START + 30 * SECOND, START + 3 * MINUTE);
      expect(told).toEqual([1, 2, 3].map((minutes) => ({ day: 'new', dueAt: START + minutes * MINUTE })));
    }
  });
});

describe('pause and resume', () => {
  test('paused, nothing of it starts; resumed, it goes on with the next time and makes nothing good', async () => {
    const bench = benchOf();
    await create(bench, { catch_up: 'all' });
    await live(bench, START, START + 2 * MINUTE);
    set(bench, START + 2 * MINUTE + SECOND);
    const paused = await call(bench, 'POST', '/nightly/pause');
    const pausedAt = iso(START + 121 * SECOND);
    expect(paused).toMatchObject({
      status: 200,
      body: { paused: true, paused_at: pausedAt, state: 'paused', next_runs: [] },
    });
    await live(bench, START + 3 * MINUTE, START + 10 * MINUTE);
    expect(told).toHaveLength(2);
    expect((await call(bench, 'POST', '/nightly/pause', {})).body).toMatchObject({ paused_at: pausedAt });
    set(bench, START + 10 * MINUTE + SECOND);
    const resumed = await call(bench, 'POST', '/nightly/resume');
    expect(resumed).toMatchObject({ status: 200, body: { paused: false, paused_at: null, state: 'active' } });
    await live(bench, START + 11 * MINUTE, START + 12 * MINUTE);
    expect(await fired(bench)).toEqual([
      [60, 'due', 'fired'],
      [120, 'due', 'fired'],
      [180, 'due', 'revoked'],
      [660, 'due', 'fired'],
      [720, 'due', 'fired'],
      [780, 'due', 'fired'],
    ]);
    expect((await history(bench)).find(({ outcome }) => outcome === 'revoked')).toMatchObject({
      reason: 'Its schedule was paused before it started.',
      state: 'REVOKED',
    });
    expect((await audit(bench)).map(({ action, target }) => [action, target])).toEqual([
      ['schedule.created', 'nightly'],
      ['schedule.paused', 'nightly'],
      ['schedule.resumed', 'nightly'],
    ]);
  });

  test('paused and resumed within the minute it has its run', async () => {
    const bench = benchOf();
    await create(bench);
    await tick(bench.rt, undefined);
    set(bench, START + 10 * SECOND);
    await call(bench, 'POST', '/nightly/pause');
    await call(bench, 'POST', '/nightly/resume');
    await live(bench, START + MINUTE, START + MINUTE);
    await live(bench, START + 2 * MINUTE, START + 2 * MINUTE);
    expect(told.map(({ dueAt }) => dueAt)).toEqual([START + MINUTE, START + 2 * MINUTE]);
  });

  test('a paused one may be changed, and stays paused; made paused, it waits for its resumption', async () => {
    const bench = benchOf();
    await create(bench, { paused: true });
    expect((await call(bench, 'PATCH', '/nightly', { every: '2m' })).body).toMatchObject({
      paused: true,
      paused_at: iso(START),
    });
    await live(bench, START, START + 3 * MINUTE);
    expect(await fired(bench)).toEqual([]);
    await call(bench, 'PATCH', '/nightly', { paused: false });
    await live(bench, START + 4 * MINUTE, START + 4 * MINUTE);
    expect(await fired(bench)).toMatchObject([[240, 'due', 'fired']]);
  });

  test('a body with anything in it is refused: a pause has no end', async () => {
    const bench = benchOf();
    await create(bench);
    const { status, body } = await call(bench, 'POST', '/nightly/pause', { until: 60 });
    expect([status, body['errors']]).toEqual([422, [{ path: 'until', message: 'is unknown' }]]);
    expect((await call(bench, 'GET', '/nightly')).body).toMatchObject({ paused: false });
  });
});

describe('deleting a schedule', () => {
  test('is 204; what was planned is cancelled, what has been stays to be looked at', async () => {
    const bench = benchOf();
    await create(bench);
    await live(bench, START, START + MINUTE);
    expect((await call(bench, 'DELETE', '/nightly')).status).toBe(204);
    expect((await call(bench, 'GET', '/nightly')).status).toBe(404);
    expect((await call(bench, 'DELETE', '/nightly')).status).toBe(404);
    await live(bench, START + 2 * MINUTE, START + 5 * MINUTE);
    expect(told).toHaveLength(1);
    expect(await history(bench)).toMatchObject([
      { outcome: 'revoked', reason: 'Its schedule was deleted before it started.', state: 'REVOKED' },
      { outcome: 'fired', state: 'SUCCESS' },
    ]);
  });

  test('frees its name: made again it has its runs, also those that were planned and cancelled', async () => {
    const bench = benchOf();
    await create(bench);
    await tick(bench.rt, undefined);
    set(bench, START + 10 * SECOND);
    await call(bench, 'DELETE', '/nightly');
    set(bench, START + 11 * SECOND);
    await create(bench, { input: { day: 'again' } });
    await tick(bench.rt, undefined);
    await live(bench, START + MINUTE, START + 2 * MINUTE);
    expect(told).toEqual([1, 2].map((minutes) => ({ day: 'again', dueAt: START + minutes * MINUTE })));
    expect((await audit(bench)).map(({ action }) => action)).toEqual([
      'schedule.created',
      'schedule.deleted',
      'schedule.created',
    ]);
  });
});

describe('schedules of the code', () => {
  test('are changed and deleted in the code alone; what is not run here cannot be paused either', async () => {
    const bench = new Bench({
      schedules: LINES,
      clock: new FastClock(START),
      tasks: [{ ...report, name: 'token_rotation', aliases: [], input: z.object({}) }],
    });
    await tick(bench.rt, undefined);
    const where =
      'The schedule token_rotation is one of the code, src/cron/schedules.ts: change it there, or pause it here.';
    for (const [method, body] of [
      ['PATCH', { every: '1m' }],
      ['PATCH', { every: '1m', paused: true }],
      ['DELETE', undefined],
    ] as const) {
      const reply = await call(bench, method, '/token_rotation', body);
      expect([method, reply.status, reply.body['detail']]).toEqual([method, 409, where]);
    }
    expect((await call(bench, 'PATCH', '/token_rotation', { paused: true })).body).toMatchObject({ paused: true });
    expect((await call(bench, 'POST', '/token_rotation/resume')).body).toMatchObject({ paused: false });
    const elsewhere =
      'The schedule morning_calls is not run here: there is no task "morning_calls" in this deployment.';
    for (const deed of ['pause', 'resume', 'run']) {
      const reply = await call(bench, 'POST', `/morning_calls/${deed}`);
      expect([deed, reply.status, reply.body['detail']]).toEqual([deed, 409, elsewhere]);
    }
    const there = 'The schedule morning_calls is one of the code, src/cron/schedules.ts: change it there.';
    for (const [method, body] of [
      ['PATCH', { every: '1m' }],
      ['DELETE', undefined],
    ] as const) {
      const reply = await call(bench, method, '/morning_calls', body);
      expect([method, reply.status, reply.body['detail']]).toEqual([method, 409, there]);
    }
  });

  test('one that has fallen out of use is not brought back by pausing and resuming it, nor run', async () => {
    const task = { ...report, name: 'token_rotation', aliases: [], input: z.object({}) };
    const bench = benchOf([task]);
    await tick(bench.rt, undefined);
    const without = new Bench({ schedules: LINES, clock: bench.clock });
    set(bench, START + MINUTE);
    await tick(without.rt, undefined);
    const range = { from: iso(START - HOUR), to: iso(START) };
    for (const [deed, body] of [['pause'], ['resume'], ['run'], ['backfill', range]] as const) {
      expect((await call(without, 'POST', `/token_rotation/${deed}`, body)).status).toBe(409);
    }
    await live(without, START + 2 * MINUTE, START + 10 * MINUTE);
    expect(await fired(without, 'token_rotation')).toEqual([]);
    expect(await rows(`SELECT id FROM jobs`)).toEqual([]);
  });
});

describe('run now', () => {
  async function runOf(bench: Bench, headers: Record<string, string> = {}, name = 'nightly'): Promise<Response> {
    return ask(bench.rt, `${PATH}/${name}/run`, { method: 'POST', headers });
  }

  test('answers as POST /jobs does, and the run is in the history', async () => {
    const bench = benchOf();
    await create(bench, { every: '1h', options: { queue: 'bulk', tags: ['by-hand'], expires: 60 } });
    set(bench, START + 5 * SECOND);
    const reply = await runOf(bench);
    const job = await reply.json<Body>();
    expect([reply.status, reply.headers.get('location')]).toEqual([202, `/api/v1/jobs/${String(job['id'])}`]);
    expect(job).toMatchObject({ task: 'test.report', task_id: job['id'], queue: 'bulk', state: 'PENDING' });
    await deliverDue(bench);
    expect(told).toHaveLength(1);
    expect(await history(bench)).toMatchObject([
      { cause: 'run', outcome: 'fired', job_id: job['id'], state: 'SUCCESS', due_at: iso(START + 5 * SECOND - 1) },
    ]);
    const seen = await (await ask(bench.rt, String(reply.headers.get('location')))).json<Body>();
    expect(seen).toMatchObject({
      source: 'schedule:nightly',
      tags: ['by-hand'],
      schedule: { name: 'nightly', cause: 'run' },
    });
    expect((await call(bench, 'GET', '/nightly')).body).toMatchObject({ last_run: { job_id: job['id'] } });
  });

  test('runs a paused one too, beside one that runs, and no pause, change or deletion cancels it', async () => {
    const bench = benchOf();
    await create(bench);
    await tick(bench.rt, undefined);
    set(bench, START + MINUTE);
    await env.DB.prepare(`UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, lease_until = ?`)
      .bind(START + HOUR)
      .run();
    bench.queues.take();
    await call(bench, 'POST', '/nightly/pause');
    const { id } = await (await runOf(bench)).json<{ id: string }>();
    await call(bench, 'PATCH', '/nightly', { input: { day: 'new' } });
    await call(bench, 'DELETE', '/nightly');
    set(bench, START + MINUTE + SECOND);
    await deliverDue(bench);
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS' });
    expect(told).toMatchObject([{ day: 'today' }]);
  });

  test('under one Idempotency-Key is one run, and one line of the history', async () => {
    // However busy the machine, the guard answers in time.
    const clock = new HeldClock(START);
    const bench = new Bench({ schedules: LINES, clock, tasks: [report, once] });
    const key = crypto.randomUUID();
    await create(bench, { every: '1h' });
    const replies = await Promise.all([1, 2, 3].map(() => runOf(bench, { 'idempotency-key': key })));
    await clock.advance(SECOND);
    replies.push(await runOf(bench, { 'idempotency-key': key }));
    const ids = await Promise.all(replies.map(async (reply) => (await reply.json<Body>())['id']));
    expect(new Set(ids).size).toBe(1);
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 200, 200, 202]);
    expect(replies.at(-1)?.headers.get('idempotent-replayed')).toBe('true');
    expect(await history(bench)).toMatchObject([{ cause: 'run', job_id: ids[0] }]);
    await call(bench, 'PATCH', '/nightly', { input: { day: 'new' } });
    const other = await runOf(bench, { 'idempotency-key': key });
    expect(other.status).toBe(422);
    expect((await runOf(bench, { 'idempotency-key': '' })).status).toBe(422);
  });

  test('as often as it is asked for, also in one moment, and each is in the history', async () => {
    const bench = benchOf();
    await create(bench, { every: '1h' });
    set(bench, START + 998);
    const replies = await Promise.all([1, 2, 3, 4].map(() => runOf(bench)));
    const ids = await Promise.all(replies.map(async (reply) => (await reply.json<Body>())['id']));
    expect(new Set(ids).size).toBe(4);
    const items = await history(bench);
    expect(items.map(({ job_id: id }) => id).sort()).toEqual([...ids].sort());
    // Never a due time: that would count as fired.
    expect(items.filter(({ due_at: due }) => String(due).endsWith('.000Z'))).toEqual([]);
  });

  test('what makes two calls of its task the same does not make two runs of it one', async () => {
    const bench = benchOf();
    await create(bench, { task: 'test.once', input: {}, overlap: 'allow' });
    const replies = [await runOf(bench), await runOf(bench, { 'idempotency-key': 'of-once' })];
    expect(replies.map(({ status }) => status)).toEqual([202, 202]);
    const byHand = `SELECT count(*) AS n FROM jobs WHERE options ->> '$.schedule.cause' = 'run'`;
    expect(await rows(byHand)).toEqual([{ n: 2 }]);
    await live(bench, START, START + 2 * MINUTE);
    expect((await fired(bench)).filter((line) => (line as unknown[])[1] === 'due')).toHaveLength(3);
    expect(await rows(`SELECT count(*) AS n FROM jobs`)).toEqual([{ n: 5 }]);
  });

  test('of a call that the task does not take any more is refused with what is wrong', async () => {
    const bench = benchOf();
    await create(bench, { every: '1h' });
    const newer = benchOf([{ ...report, input: z.object({ week: z.int() }) }]);
    const { status, body } = await call(newer, 'POST', '/nightly/run');
    expect([status, body['errors']]).toMatchObject([422, [{ path: 'input.week' }]]);
    expect(await rows(`SELECT id FROM jobs`)).toEqual([]);
  });

  test('takes no body that says something', async () => {
    const bench = benchOf();
    await create(bench);
    const { status, body } = await call(bench, 'POST', '/nightly/run', { input: { day: 'other' } });
    expect([status, body['errors']]).toEqual([422, [{ path: 'input', message: 'is unknown' }]]);
  });

  test('whose line in the history cannot be written is a run all the same', async () => {
    const bench = benchOf();
    await create(bench, { every: '1h' });
    bench.db.fault = (names) => (names === 'fire' ? { when: 'before', error: outage() } : undefined);
    expect((await runOf(bench)).status).toBe(202);
    expect(await rows(`SELECT state FROM jobs`)).toEqual([{ state: 'PENDING' }]);
  });
});

describe('backfill', () => {
  const RANGE = { from: iso(START), to: iso(START + 30 * MINUTE) };

  /** Paused from the beginning, so that nothing fired; resumed after half an hour. */
  async function quiet(bench: Bench, says: Body = {}): Promise<void> {
    await create(bench, { every: '10m', paused: true, ...says });
    set(bench, START + 30 * MINUTE + SECOND);
    await call(bench, 'POST', '/nightly/resume');
  }

  test('tried dry says what it would fire, and fires nothing', async () => {
    const bench = benchOf();
    await quiet(bench);
    const { status, body } = await call(bench, 'POST', '/nightly/backfill', { ...RANGE, dry_run: true });
    expect([status, body]).toEqual([
      200,
      {
        dry_run: true,
        matched: 4,
        already_fired: 0,
        more: false,
        fired: 0,
        jobs: [0, 10, 20, 30].map((minutes) => ({ id: null, due_at: iso(START + minutes * MINUTE) })),
      },
    ]);
    expect(await history(bench)).toEqual([]);
    expect(await rows(`SELECT id FROM jobs`)).toEqual([]);
    expect((await audit(bench)).map(({ action }) => action)).not.toContain('schedule.backfilled');
  });

  test('fires each due time of its range that has not fired, one after the other, each told its own time', async () => {
    const bench = benchOf();
    await quiet(bench);
    const { status, body } = await call(bench, 'POST', '/nightly/backfill', RANGE);
    expect([status, body]).toMatchObject([
      202,
      { dry_run: false, matched: 4, already_fired: 0, more: false, fired: 4 },
    ]);
    for (let runs = 0; runs < 4; runs += 1) {
      await deliverDue(bench);
      await bench.background();
    }
    expect(told.map(({ dueAt }) => dueAt)).toEqual([0, 10, 20, 30].map((minutes) => START + minutes * MINUTE));
    const items = await history(bench);
    expect(items.map(({ cause, outcome, state, job_id: id }) => [cause, outcome, state, id])).toEqual(
      (body['jobs'] as Body[]).map(({ id }) => ['backfill', 'fired', 'SUCCESS', id]).reverse(),
    );
    const again = await call(bench, 'POST', '/nightly/backfill', RANGE);
    expect([again.status, again.body]).toEqual([
      202,
      { dry_run: false, matched: 0, already_fired: 4, more: false, fired: 0, jobs: [] },
    ]);
    expect((await audit(bench)).filter(({ action }) => action === 'schedule.backfilled')).toEqual([
      {
        actor: 'admin',
        action: 'schedule.backfilled',
        target: 'nightly',
        detail: { from: RANGE.from, to: RANGE.to, firings: 4 },
      },
    ]);
  });

  test('leaves alone what fired by itself, and makes good what was missed or revoked', async () => {
    const bench = benchOf();
    await create(bench, { catch_up: 'none' });
    await live(bench, START, START + 2 * MINUTE);
    // Four minutes without a tick.
    await live(bench, START + 7 * MINUTE, START + 8 * MINUTE);
    told.splice(0);
    const range = { from: iso(START + SECOND), to: iso(START + 8 * MINUTE) };
    const { body } = await call(bench, 'POST', '/nightly/backfill', range);
    expect(body).toMatchObject({ matched: 3, already_fired: 5 });
    expect((body['jobs'] as Body[]).map(({ due_at: due }) => secondsIn(String(due)))).toEqual([240, 300, 360]);
  });

  test('takes the latest of its limit, and says that there are more', async () => {
    const bench = benchOf();
    await quiet(bench);
    const { body } = await call(bench, 'POST', '/nightly/backfill', { ...RANGE, limit: 2 });
    expect(body).toMatchObject({ matched: 2, more: true });
    expect((body['jobs'] as Body[]).map(({ due_at: due }) => secondsIn(String(due)))).toEqual([1_200, 1_800]);
    const older = { from: RANGE.from, to: iso(START + 20 * MINUTE - 1) };
    expect((await call(bench, 'POST', '/nightly/backfill', older)).body).toMatchObject({ matched: 2, more: false });
    expect(await history(bench)).toHaveLength(4);
  });

  test('goes no further than now: what is still to come fires by itself', async () => {
    const bench = benchOf();
    await quiet(bench);
    const { body } = await call(bench, 'POST', '/nightly/backfill', { ...RANGE, to: iso(START + 24 * HOUR) });
    expect(body).toMatchObject({ matched: 4 });
    const future = { from: iso(START + HOUR), to: iso(START + 2 * HOUR) };
    expect((await call(bench, 'POST', '/nightly/backfill', future)).body).toMatchObject({ matched: 0, fired: 0 });
  });

  test('of a paused one takes the time of its pause, and it stays paused', async () => {
    const bench = benchOf();
    await create(bench, { every: '10m', paused: true });
    set(bench, START + 30 * MINUTE + SECOND);
    expect((await call(bench, 'POST', '/nightly/backfill', RANGE)).body).toMatchObject({ matched: 4, fired: 4 });
    await call(bench, 'POST', '/nightly/resume');
    await live(bench, START + 31 * MINUTE, START + 32 * MINUTE);
    expect(await history(bench)).toHaveLength(4);
  });

  test('many at once of one range fire each due time once, and each says what it fired itself', async () => {
    const bench = benchOf();
    await quiet(bench);
    const ranges = [RANGE, RANGE, { ...RANGE, from: iso(START + 20 * MINUTE) }, RANGE];
    const replies = await Promise.all(ranges.map((range) => call(bench, 'POST', '/nightly/backfill', range)));
    expect(replies.map(({ status }) => status)).toEqual([202, 202, 202, 202]);
    const ids = replies.flatMap(({ body }) => (body['jobs'] as Body[]).map(({ id }) => id));
    expect([ids.length, new Set(ids).size]).toEqual([4, 4]);
    for (const { body } of replies) expect(Number(body['matched']) + Number(body['already_fired'])).toBeGreaterThan(1);
    expect(await rows(`SELECT count(*) AS n FROM jobs`)).toEqual([{ n: 4 }]);
  });

  test('of many large inputs goes in several portions', async () => {
    const bench = benchOf();
    const day = 'x'.repeat(60_000);
    await quiet(bench, { every: '30s', input: { day } });
    const { status, body } = await call(bench, 'POST', '/nightly/backfill', RANGE);
    expect([status, body['fired']]).toEqual([202, 61]);
    const made = `SELECT count(*) AS n FROM jobs WHERE options ->> '$.schedule.cause' = 'backfill'`;
    expect(await rows(made)).toEqual([{ n: 61 }]);
  });

  test('of many large options does, too: no statement is larger than the database takes', async () => {
    let largest = 0;
    const bench = new Bench({
      schedules: LINES,
      clock: new FastClock(START),
      tasks: [report, once],
      ports: ({ db }) => ({
        db: {
          run: (statement) => db.run(statement),
          batch: (statements) => {
            const bound = statements.flatMap(({ params }) => params.map((param) => String(param).length));
            largest = Math.max(largest, ...bound);
            return db.batch(statements);
          },
        },
      }),
    });
    const options = {
      tags: Array.from({ length: 20 }, (_, at) => `${String(at)} `.padEnd(100, '"')),
      callback_url: `https://example.com/${'x'.repeat(2_000)}`,
      retry_delays: Array.from({ length: 100 }, (_, at) => at + 0.123456789),
    };
    await quiet(bench, { every: '1s', options });
    const { status, body } = await call(bench, 'POST', '/nightly/backfill', RANGE);
    expect([status, body['fired']]).toEqual([202, 1_000]);
    expect(largest).toBeLessThanOrEqual(MAX_BOUND_BYTES);
  });

  test('is safe to repeat when its answer was lost', async () => {
    for (const when of ['before', 'after'] as const) {
      await emptyDatabase();
      const bench = benchOf();
      await quiet(bench);
      bench.db.fault = (names) => (names.startsWith('fire+') ? { when, error: outage() } : undefined);
      expect((await call(bench, 'POST', '/nightly/backfill', RANGE)).status).toBe(503);
      bench.db.fault = () => undefined;
      expect((await call(bench, 'POST', '/nightly/backfill', RANGE)).body['fired']).toBe(when === 'before' ? 4 : 0);
      await tick(bench.rt, undefined);
      expect(bench.queues.sent).toHaveLength(4);
    }
  });

  test.each<[says: unknown, path: string]>([
    [{}, 'from'],
    [{ from: RANGE.from }, 'to'],
    [{ from: RANGE.to, to: RANGE.from }, 'to'],
    [{ ...RANGE, from: 'yesterday' }, 'from'],
    [{ ...RANGE, from: 5 }, 'from'],
    [{ ...RANGE, limit: 0 }, 'limit'],
    [{ ...RANGE, limit: 1_001 }, 'limit'],
    [{ ...RANGE, dry_run: 'yes' }, 'dry_run'],
    [{ ...RANGE, dryrun: true }, 'dryrun'],
    [[], ''],
  ])('of a range that is none (%j) is refused, and nothing fires', async (says, path) => {
    const bench = benchOf();
    await quiet(bench);
    const { status, body } = await call(bench, 'POST', '/nightly/backfill', says);
    expect([status, (body['errors'] as Body[])[0]]).toMatchObject([422, { path }]);
    expect(await history(bench)).toEqual([]);
  });
});

describe('two Workers that tick in the same minute', () => {
  test.each([
    ['nothing goes wrong', undefined],
    ['one is told that it did not get through', 'before'],
    ['one is not told that it got through', 'after'],
  ] as const)('fire a due time once: %s', async (_, when) => {
    for (let round = 0; round < 5; round += 1) {
      await emptyDatabase();
      told.splice(0);
      const bench = benchOf();
      const other = new Bench({ schedules: LINES, clock: bench.clock, tasks: [report, once] });
      await create(bench, { every: '30s', overlap: 'allow' });
      if (when !== undefined) {
        bench.db.fault = (names) => (names.startsWith('fire+') ? { when, error: outage() } : undefined);
      }
      await Promise.all([tick(bench.rt, undefined), tick(other.rt, undefined)]);
      bench.db.fault = () => undefined;
      expect(await rows(`SELECT due_at, outcome FROM firings`)).toEqual(
        [30, 60].map((due) => ({ due_at: START + due * SECOND, outcome: 'fired' })),
      );
      expect(await rows(`SELECT count(*) AS n FROM jobs`)).toEqual([{ n: 2 }]);
      expect(bench.queues.sent.length + other.queues.sent.length).toBe(2);
      await Promise.all([tick(bench.rt, undefined), tick(other.rt, undefined)]);
      set(bench, START + MINUTE);
      await deliverDue(bench);
      await deliverDue(other);
      expect(told.map(({ dueAt }) => dueAt).sort()).toEqual([START + 30 * SECOND, START + MINUTE]);
    }
  });
});

describe('who may', () => {
  const ASKED: [scope: Scope, method: string, path: string, body: Body | undefined][] = [
    ['jobs:read', 'GET', '', undefined],
    ['jobs:read', 'GET', '/nightly', undefined],
    ['jobs:read', 'GET', '/nightly/history', undefined],
    ['jobs:write', 'POST', '', { ...EVERY_MINUTE, name: 'another' }],
    ['jobs:write', 'PATCH', '/nightly', { every: '2m' }],
    ['jobs:write', 'POST', '/nightly/pause', {}],
    ['jobs:write', 'POST', '/nightly/resume', {}],
    ['jobs:write', 'POST', '/nightly/run', {}],
    ['jobs:write', 'POST', '/nightly/backfill', { from: iso(START), to: iso(START) }],
    ['jobs:write', 'DELETE', '/nightly', undefined],
  ];

  test.each(ASKED)('%s opens %s %s, and nothing else does', async (scope, method, path, body) => {
    const bench = benchOf();
    await create(bench);
    const before = await revisions();
    const others = (['jobs:read', 'jobs:write', 'payload:read'] as const).filter((each) => each !== scope);
    const refused = await askAs(bench, others, method, path, body);
    expect([refused.status, await refused.text()]).toEqual([403, expect.stringContaining(scope)]);
    expect(await revisions()).toEqual(before);
    expect((await askAs(bench, [scope], method, path, body)).status).toBeLessThan(300);
    const keyless = new Request(`http://lovage.test${PATH}${path}`, { method });
    expect((await serve(bench.rt, keyless)).status).toBe(401);
  });

  test('without payload:read nobody is shown what a schedule gives its task, also not by making or changing it', async () => {
    const bench = benchOf();
    await create(bench, { input: { day: 'a secret' } });
    for (const [method, path, body] of [
      ['GET', '', undefined],
      ['GET', '/nightly', undefined],
      ['GET', '/nightly/history', undefined],
      ['PATCH', '/nightly', { every: '2m' }],
      ['POST', '/nightly/pause', {}],
      ['POST', '/nightly/run', {}],
      ['POST', '', { ...EVERY_MINUTE, name: 'another', input: { day: 'a secret' } }],
    ] as const) {
      const reply = await askAs(bench, ['jobs:read', 'jobs:write'], method, path, body);
      const text = await reply.text();
      expect([method, path, text.includes('secret'), text.includes('"input"')]).toEqual([method, path, false, false]);
    }
    const shown = await askAs(bench, ['jobs:read', 'payload:read'], 'GET', '/nightly');
    expect(await shown.json()).toMatchObject({ input: { day: 'a secret' } });
  });

  test('nor where its results go, which is often a secret by itself', async () => {
    const bench = benchOf();
    const options = { priority: 3, callback_url: 'https://example.com/secret' };
    await create(bench, { options });
    const hidden = await askAs(bench, ['jobs:read', 'jobs:write'], 'GET', '/nightly');
    expect((await hidden.json<Body>())['options']).toEqual({ priority: 3 });
    const shown = await askAs(bench, ['jobs:read', 'payload:read'], 'GET', '/nightly');
    expect((await shown.json<Body>())['options']).toEqual(options);
  });

  test('without payload:read nobody hands what is hidden to another task or URL', async () => {
    const bench = benchOf();
    await create(bench, { input: { day: 'a secret' } });
    const before = await revisions();
    const elsewhere = { options: { callback_url: 'https://example.com/elsewhere' } };
    for (const says of [{ task: 'test.once' }, { task: 'no.such' }, elsewhere, { every: '2m', ...elsewhere }]) {
      const refused = await askAs(bench, ['jobs:read', 'jobs:write'], 'PATCH', '/nightly', says);
      expect([refused.status, await refused.text()]).toEqual([403, expect.stringContaining('payload:read')]);
    }
    expect(await revisions()).toEqual(before);
    const own = { ...elsewhere, input: { day: 'mine' } };
    expect((await askAs(bench, ['jobs:write'], 'PATCH', '/nightly', own)).status).toBe(200);
    expect(
      (await askAs(bench, ['jobs:write'], 'PATCH', '/nightly', { ...elsewhere, task: 'app.tasks.report' })).status,
    ).toBe(200);
    const other = { options: { callback_url: 'https://example.com/other' } };
    expect((await askAs(bench, ['jobs:write', 'payload:read'], 'PATCH', '/nightly', other)).status).toBe(200);
  });
});

test('every deed has its row in the audit log, by whom and when it is due, never what its task is given', async () => {
  const bench = benchOf();
  const steps: [method: string, path: string, body: Body | undefined][] = [
    ['POST', '', EVERY_MINUTE],
    ['PATCH', '/nightly', { cron: '*/2 * * * *', timezone: 'Europe/Berlin' }],
    ['POST', '/nightly/pause', undefined],
    ['POST', '/nightly/pause', undefined],
    ['POST', '/nightly/resume', undefined],
    ['POST', '/nightly/backfill', { from: iso(START - 4 * MINUTE), to: iso(START) }],
    ['DELETE', '/nightly', undefined],
  ];
  for (const [at, [method, path, body]] of steps.entries()) {
    set(bench, START + at);
    expect((await call(bench, method, path, body)).status).toBeLessThan(300);
  }
  const every = { task: 'test.report', cron: null, every_seconds: 60, timezone: 'UTC' };
  const cron = { task: 'test.report', cron: '*/2 * * * *', every_seconds: null, timezone: 'Europe/Berlin' };
  expect(await audit(bench)).toEqual(
    [
      ['schedule.created', every],
      ['schedule.changed', cron],
      ['schedule.paused', cron],
      ['schedule.resumed', cron],
      ['schedule.backfilled', { from: iso(START - 4 * MINUTE), to: iso(START), firings: 3 }],
      ['schedule.deleted', cron],
    ].map(([action, detail]) => ({ actor: 'admin', action, target: 'nightly', detail })),
  );
});

test('a deed and its row in the audit log are there both or neither', async () => {
  const bench = benchOf();
  await create(bench, { every: '1h' });
  const was = await rows(`SELECT * FROM schedules`);
  await env.DB.prepare(
    `CREATE TRIGGER refuse BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no more'); END`,
  ).run();
  try {
    for (const [method, path, body] of [
      ['POST', '', { ...EVERY_MINUTE, name: 'another' }],
      ['PATCH', '/nightly', { every: '2m' }],
      ['POST', '/nightly/pause', {}],
      ['POST', '/nightly/backfill', { from: iso(START - HOUR), to: iso(START) }],
      ['DELETE', '/nightly', undefined],
    ] as const) {
      expect((await call(bench, method, path, body)).status).toBeGreaterThanOrEqual(500);
    }
  } finally {
    await env.DB.prepare(`DROP TRIGGER refuse`).run();
  }
  expect(await rows(`SELECT * FROM schedules`)).toEqual(was);
  expect([await history(bench), await rows(`SELECT id FROM jobs`)]).toEqual([[], []]);
});

test('while the database is silent every route says so, and when to come again', async () => {
  const bench = benchOf();
  await create(bench);
  bench.db.fault = () => ({ when: 'before', error: outage() });
  for (const [method, path, body] of [
    ['GET', '', undefined],
    ['GET', '/nightly', undefined],
    ['GET', '/nightly/history', undefined],
    ['POST', '', { ...EVERY_MINUTE, name: 'another' }],
    ['PATCH', '/nightly', { every: '2m' }],
    ['POST', '/nightly/pause', {}],
    ['POST', '/nightly/run', {}],
    ['POST', '/nightly/backfill', { from: iso(START), to: iso(START) }],
    ['DELETE', '/nightly', undefined],
  ] as const) {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    const reply = await ask(bench.rt, `${PATH}${path}`, init);
    expect([method, path, reply.status, reply.headers.get('retry-after')]).toEqual([method, path, 503, '5']);
  }
});

test('the real Worker serves them', async () => {
  const { status, body } = await get(`${PATH}?limit=1`);
  expect([status, (body['items'] as Body[]).length, body['next_cursor']]).toEqual([200, 1, expect.any(String)]);
});
