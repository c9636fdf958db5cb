import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Json } from '../../src/core/json.ts';
import { Hono } from 'hono';
import type { App } from '../../src/routes/app.ts';
import type { Scope } from '../../src/routes/auth.ts';
import { queueRoutes } from '../../src/routes/queues.ts';
import { revokeRoutes } from '../../src/routes/revoke.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';
import { ask, serve } from '../worker/client.ts';

beforeEach(emptyDatabase);

type Body = Readonly<Record<string, unknown>>;

async function call(
  bench: Bench,
  path: string,
  body: unknown,
  method = 'POST',
): Promise<{ status: number; body: Body }> {
  const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
  const reply = await ask(bench.rt, path, init);
  return { status: reply.status, body: await reply.json<Body>() };
}

async function revokeMany(bench: Bench, body: Json): Promise<Body> {
  const reply = await call(bench, '/api/v1/jobs/revoke', body);
  expect(reply.status).toBe(200);
  return reply.body;
}

/** The routes as somebody with these scopes meets them; `body` undefined looks. */
async function askAs(bench: Bench, scopes: readonly Scope[], path: string, body: Json | undefined): Promise<Response> {
  const app = new Hono<App>();
  app.use(async (c, next) => {
    c.set('rt', bench.rt);
    c.set('principal', { owner: 'somebody', scopes: new Set(scopes) });
    return next();
  });
  app.route('/api/v1/jobs', revokeRoutes);
  app.route('/api/v1/queues', queueRoutes);
  const headers = { 'content-type': 'application/json' };
  return app.request(path, body === undefined ? {} : { method: 'POST', headers, body: JSON.stringify(body) });
}

/** As if an attempt had taken it. */
async function start(id: string): Promise<void> {
  await env.DB.prepare(
    `UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, started_at = due_at, lease_until = due_at + 90000
WHERE id = ?`,
  )
    .bind(id)
    .run();
}

test('INV-F19 cancel: checked before run, compare-and-set, the answer tells what happened: a queued job never runs; a finished one is 409', async () => {
  const bench = new Bench();
  const effect = { task: 'debug.effect', input: { key: 'F-19' } };
  const queued = await bench.enqueue(effect);
  const [message] = bench.queues.take().map(({ envelope }) => envelope);
  const revoked = await call(bench, `/api/v1/jobs/${queued.id}/revoke`, {});
  const done = { id: queued.id, state: 'REVOKED', previous_state: 'PENDING', terminating: false };
  expect(revoked).toEqual({ status: 200, body: done });
  // The message was in its queue all the time.
  expect(await bench.deliver([message])).toEqual([{ id: queued.id, answer: 'ack' }]);
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first('n')).toBe(0);
  const again = await call(bench, `/api/v1/jobs/${queued.id}`, undefined, 'DELETE');
  expect(again).toEqual({ status: 200, body: { ...done, previous_state: 'REVOKED' } });

  const finished = await bench.enqueue(effect);
  await bench.drain();
  for (const [path, method] of [
    [`/api/v1/jobs/${finished.id}/revoke`, 'POST'],
    [`/api/v1/jobs/${finished.id}?terminate=true`, 'DELETE'],
  ] as const) {
    expect((await call(bench, path, undefined, method)).status).toBe(409);
  }
  expect(await bench.job(finished.id)).toMatchObject({ state: 'SUCCESS', error: null, revoke_requested: 0 });

  // A claim and a revocation of one moment: one of them has the job, and the answer says which.
  for (let at = 0; at < 10; at += 1) {
    const { id } = await bench.enqueue(effect);
    const [raced] = bench.queues.take().map(({ envelope }) => envelope);
    const [answer] = await Promise.all([call(bench, `/api/v1/jobs/${id}/revoke`, {}), bench.deliver([raced])]);
    const { state } = await bench.job(id);
    if (answer.status === 409 || answer.body['state'] === 'STARTED') expect(state).toBe('SUCCESS');
    else expect([answer.body['state'], state]).toEqual(['REVOKED', 'REVOKED']);
  }
});

test('a running job says that it is terminating from the request until it has ended, and not before it is asked', async () => {
  const bench = new Bench();
  const { id } = await bench.enqueue({ task: 'debug_task' });
  await start(id);
  const path = `/api/v1/jobs/${id}`;
  const running = { id, state: 'STARTED', previous_state: 'STARTED' };
  expect((await call(bench, `${path}/revoke`, {})).body).toEqual({ ...running, terminating: false });
  expect((await call(bench, path, undefined, 'DELETE')).body).toEqual({ ...running, terminating: false });
  expect((await call(bench, `${path}?terminate=true`, undefined, 'DELETE')).body).toEqual({
    ...running,
    terminating: true,
  });
  expect((await call(bench, `${path}/revoke`, {})).body).toEqual({ ...running, terminating: true });
  expect((await call(bench, `${path}?terminate=perhaps`, undefined, 'DELETE')).status).toBe(422);
});

describe('a bulk revoke', () => {
  test('asked for in the query it is refused, and nothing is revoked', async () => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug_task', options: { tags: ['old'] } });
    const asked = await call(bench, '/api/v1/jobs/revoke?dry_run=true', { filter: { tag: 'old' } });
    const message = 'is unknown here: what a POST asks for goes into its body';
    expect([asked.status, asked.body['errors']]).toEqual([422, [{ path: 'dry_run', message }]]);
    const terminate = await call(bench, `/api/v1/jobs/${id}/revoke?terminate=true`, undefined);
    expect([terminate.status, terminate.body['errors']]).toEqual([422, [{ path: 'terminate', message }]]);
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', revoke_requested: 0 });
  });

  test('cancels what matches and waits, asks what runs, and lets everything else be', async () => {
    const bench = new Bench();
    const options = { tags: ['old'] };
    const ended = await bench.enqueue({ task: 'debug_task', options });
    await bench.drain();
    const waiting = await bench.enqueue({ task: 'debug_task', options });
    const later = await bench.enqueue({ task: 'debug_task', options: { ...options, queue: 'bulk', countdown: 3_600 } });
    const running = await bench.enqueue({ task: 'debug_task', options });
    const other = await bench.enqueue({ task: 'debug_task', options: { tags: ['new'] } });
    await start(running.id);
    const body = await revokeMany(bench, { filter: { tag: 'old' }, terminate: true });
    expect(body).toMatchObject({ dry_run: false, matched: 3, more: false, revoked: 2, terminating: 1 });
    const expected = [
      { id: waiting.id, previous_state: 'PENDING', state: 'REVOKED', terminating: false },
      { id: later.id, previous_state: 'SCHEDULED', state: 'REVOKED', terminating: false },
      { id: running.id, previous_state: 'STARTED', state: 'STARTED', terminating: true },
    ];
    expect(body['jobs']).toHaveLength(3);
    expect(body['jobs']).toEqual(expect.arrayContaining(expected));
    expect(await bench.job(waiting.id)).toMatchObject({ state: 'REVOKED', error: { code: 'revoked' } });
    expect(await bench.job(running.id)).toMatchObject({ state: 'STARTED', revoke_requested: 2 });
    expect((await bench.job(ended.id)).state).toBe('SUCCESS');
    expect(await bench.job(other.id)).toMatchObject({ state: 'PENDING', revoke_requested: 0 });
    const { results } = await env.DB.prepare(`SELECT actor, action, target, detail FROM audit_log`).all();
    const detail = { filter: { tag: 'old' }, terminate: true, waiting: 2, running: 1 };
    expect(results.map((row) => ({ ...row, detail: JSON.parse(String(row['detail'])) as unknown }))).toEqual([
      { actor: 'admin', action: 'jobs.revoked', target: 'jobs', detail },
    ]);
    // Nothing is left to do.
    expect(await revokeMany(bench, { filter: { tag: 'old' }, terminate: true })).toMatchObject({
      matched: 0,
      jobs: [],
    });
  });

  test.each<[string, Json, readonly number[]]>([
    ['a task, by an alias', { task: 'app.tasks.debug_task' }, [0, 1, 2]],
    ['a queue, by an alias', { queue: 'payment.batch' }, [1]],
    ['a tag', { tag: 'x' }, [0]],
    ['a state: a scheduled job that is due is pending', { state: 'PENDING' }, [0, 1, 3]],
    ['the scheduled', { state: 'SCHEDULED' }, [2]],
    ['a part of the input', { q: 'needle' }, [0]],
    ['what came since', { since: new Date(START + 1_000).toISOString() }, [3]],
    ['what came before', { until: new Date(START + 1_000).toISOString() }, [0, 1, 2]],
    ['several at once', { task: 'debug_task', state: 'PENDING', tag: 'y' }, []],
  ])('is about %s', async (_, filter, matching) => {
    const clock = new FastClock(START);
    const bench = new Bench({ clock });
    const jobs = [
      await bench.enqueue({ task: 'debug_task', input: { a: 'needle' }, options: { tags: ['x'] } }),
      await bench.enqueue({ task: 'debug_task', options: { queue: 'bulk', countdown: 1 } }),
      await bench.enqueue({ task: 'debug_task', options: { countdown: 3_600 } }),
    ];
    clock.set(START + 1_000);
    jobs.push(await bench.enqueue({ task: 'debug.effect', input: { key: 'k' } }));
    const expected = matching.map((at) => jobs[at]?.id).sort();
    const ids = (body: Body): unknown => (body['jobs'] as { id: string }[]).map(({ id }) => id).sort();
    expect(ids(await revokeMany(bench, { filter, dry_run: true }))).toEqual(expected);
    expect(ids(await revokeMany(bench, { filter }))).toEqual(expected);
    const states = await Promise.all(jobs.map(async ({ id }) => (await bench.job(id)).state));
    expect(states.map((state) => state === 'REVOKED')).toEqual(jobs.map((_, at) => matching.includes(at)));
  });

  test('tried dry writes nothing and says what it would be about', async () => {
    const bench = new Bench();
    for (let at = 0; at < 3; at += 1) await bench.enqueue({ task: 'debug_task' });
    bench.counts.clear();
    const body = await revokeMany(bench, { filter: { task: 'debug_task' }, dry_run: true, limit: 2 });
    expect(body).toMatchObject({ dry_run: true, matched: 2, more: true, revoked: 0, terminating: 0 });
    expect((body['jobs'] as Body[]).map(({ previous_state, state }) => [previous_state, state])).toEqual([
      ['PENDING', 'PENDING'],
      ['PENDING', 'PENDING'],
    ]);
    expect(bench.rowsWritten()).toBe(0);
  });

  test('takes a thousand at a time, says that there are more, and comes to an end though some run on', async () => {
    const bench = new Bench();
    const jobs = [];
    for (let at = 0; at < 12; at += 1) {
      const accepted = await Promise.all(Array.from({ length: 100 }, () => bench.enqueue({ task: 'debug_task' })));
      jobs.push(...accepted);
    }
    for (const { id } of jobs.slice(0, 5)) await start(id);
    const [first, second, third] = [
      await revokeMany(bench, { filter: { queue: 'default' } }),
      await revokeMany(bench, { filter: { queue: 'default' } }),
      await revokeMany(bench, { filter: { queue: 'default' } }),
    ];
    expect([first, second, third].map(({ matched, more }) => [matched, more])).toEqual([
      [1_000, true],
      [200, false],
      [0, false],
    ]);
    const count = async (where: string): Promise<unknown> =>
      env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE ${where}`).first('n');
    expect(await count(`state = 'REVOKED'`)).toBe(1_195);
    expect(await count(`state = 'STARTED' AND revoke_requested = 1`)).toBe(5);
  }, 30_000);

  test('counts no job that ended between its look and its deed, and asks none that began where it was about those that wait', async () => {
    const bench = new Bench();
    const { id: gone } = await bench.enqueue({ task: 'debug_task' });
    const { id: begun } = await bench.enqueue({ task: 'debug_task' });
    const { id: stays } = await bench.enqueue({ task: 'debug_task' });
    const batch = bench.rt.db.batch.bind(bench.rt.db);
    bench.rt.db.batch = async (statements) => {
      await env.DB.prepare(`UPDATE jobs SET state = 'SUCCESS', finished_at = 1 WHERE id = ?`).bind(gone).run();
      await start(begun);
      return batch(statements);
    };
    const body = await revokeMany(bench, { filter: { state: 'PENDING' } });
    expect(body).toMatchObject({ matched: 1, revoked: 1, jobs: [{ id: stays, state: 'REVOKED' }] });
    expect((await bench.job(gone)).state).toBe('SUCCESS');
    expect(await bench.job(begun)).toMatchObject({ state: 'STARTED', revoke_requested: 0 });
    const detail = await env.DB.prepare(`SELECT detail FROM audit_log`).first<string>('detail');
    expect(JSON.parse(detail ?? '')).toMatchObject({ waiting: 1, running: 0 });
  });

  test('does not look into inputs for whoever may not see them', async () => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug_task', input: { secret: 'needle' } });
    const asked = { filter: { q: 'needle' } };
    const blind = await askAs(bench, ['jobs:write'], '/api/v1/jobs/revoke', asked);
    expect(await blind.json()).toMatchObject({ matched: 0 });
    expect((await askAs(bench, ['jobs:read', 'payload:read'], '/api/v1/jobs/revoke', asked)).status).toBe(403);
    expect((await bench.job(id)).state).toBe('PENDING');
    const seeing = await askAs(bench, ['jobs:write', 'payload:read'], '/api/v1/jobs/revoke', asked);
    expect(await seeing.json()).toMatchObject({ matched: 1 });
  });

  test('is for those who may write; whole queues and the audit log are for admins', async () => {
    const bench = new Bench();
    const all = ['jobs:write', 'jobs:read', 'payload:read'] as const;
    for (const deed of ['pause', 'resume', 'purge']) {
      expect((await askAs(bench, all, `/api/v1/queues/default/${deed}`, { confirm: 'default' })).status).toBe(403);
    }
    expect((await askAs(bench, all, '/api/v1/queues', undefined)).status).toBe(200);
    expect((await askAs(bench, ['jobs:write'], '/api/v1/queues', undefined)).status).toBe(403);
  });

  test.each<[string, Json, string]>([
    ['no filter', {}, 'filter'],
    ['an empty filter', { filter: {} }, 'filter'],
    ['an unknown field', { filter: { tag: 'x', colour: 'green' } }, 'filter.colour'],
    ['an unknown queue', { filter: { queue: 'nowhere' } }, 'filter.queue'],
    ['a state that is final', { filter: { state: 'SUCCESS' } }, 'filter.state'],
    ['a time without a zone', { filter: { since: '2040-01-01T00:00:00' } }, 'filter.since'],
    ['a limit over a thousand', { filter: { tag: 'x' }, limit: 1_001 }, 'limit'],
    ['a wrong terminate', { filter: { tag: 'x' }, terminate: 1 }, 'terminate'],
  ])('with %s is refused and revokes nothing', async (_, body, path) => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug_task' });
    const refused = await call(bench, '/api/v1/jobs/revoke', body);
    expect([refused.status, refused.body['errors']]).toMatchObject([422, [{ path }]]);
    expect((await bench.job(id)).state).toBe('PENDING');
  });

  test('of which the database does not answer is 503', async () => {
    const bench = new Bench();
    bench.db.fault = () => ({ when: 'before', error: outage() });
    expect((await call(bench, '/api/v1/jobs/revoke', { filter: { tag: 'x' } })).status).toBe(503);
    const open = await serve(bench.rt, new Request('http://lovage.test/api/v1/jobs/revoke', { method: 'POST' }));
    expect(open.status).toBe(401);
  });
});
