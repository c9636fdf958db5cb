import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { QUEUES } from '../../src/queues.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';
import { ask, get, post, serve } from '../worker/client.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;

type Body = Readonly<Record<string, unknown>>;

async function call(bench: Bench, path: string, body?: unknown): Promise<{ status: number; body: Body }> {
  const init = body === undefined ? { method: 'POST' } : { method: 'POST', body: JSON.stringify(body) };
  const reply = await ask(bench.rt, path, init);
  return { status: reply.status, body: await reply.json<Body>() };
}

async function look(bench: Bench, path: string): Promise<Body> {
  return (await ask(bench.rt, path)).json<Body>();
}

async function queue(bench: Bench, name: string): Promise<Body | undefined> {
  const { items } = await look(bench, '/api/v1/queues');
  return (items as Body[]).find((each) => each['name'] === name);
}

async function audit(bench: Bench, query = ''): Promise<Body[]> {
  return (await look(bench, `/api/v1/audit${query}`))['items'] as Body[];
}

describe('the list of queues', () => {
  test('has every queue, and says of each what it is for, whether it is paused and how much waits', async () => {
    const bench = new Bench();
    const { items, next_cursor } = await look(bench, '/api/v1/queues');
    expect([(items as Body[]).map(({ name }) => name), next_cursor]).toEqual([Object.keys(QUEUES), null]);
    expect(await queue(bench, 'default')).toEqual({
      name: 'default',
      aliases: ['agent-service', 'sync-normal', 'monitoring-normal'],
      priority: 5,
      batch_size: 100,
      max_concurrency: null,
      paused: false,
      paused_at: null,
      paused_until: null,
      backlog: 0,
      jobs: { waiting: 0, scheduled: 0, running: 0, more: false },
    });
    expect((await get('/api/v1/queues')).status).toBe(200);
  });

  test('counts what is due, what comes later and what runs, and no job that has ended', async () => {
    const bench = new Bench();
    await bench.enqueue({ task: 'debug_task' });
    await bench.drain();
    for (const countdown of [0, 0, 3_600]) await bench.enqueue({ task: 'debug_task', options: { countdown } });
    const { id } = await bench.enqueue({ task: 'debug_task' });
    await env.DB.prepare(`UPDATE jobs SET state = 'STARTED' WHERE id = ?`).bind(id).run();
    bench.queues.backlogs = { default: { count: 12, oldestSentAt: START } };
    expect(await queue(bench, 'default')).toMatchObject({
      backlog: 12,
      jobs: { waiting: 2, scheduled: 1, running: 1, more: false },
    });
    expect(await queue(bench, 'bulk')).toMatchObject({ backlog: 0, jobs: { waiting: 0, scheduled: 0, running: 0 } });
  });

  test('has no backlog of a queue that says nothing within a second, and is there all the same', async () => {
    const bench = new Bench();
    bench.queues.backlog = (name) =>
      name === 'email'
        ? new Promise(() => undefined)
        : name === 'ai'
          ? Promise.reject(new Error('no'))
          : Promise.resolve({ count: 1, oldestSentAt: START });
    const from = bench.clock.now();
    const found = (await look(bench, '/api/v1/queues'))['items'] as Body[];
    expect(found.filter(({ backlog }) => backlog === null).map(({ name }) => name)).toEqual(['ai', 'email']);
    expect(bench.clock.now() - from).toBeLessThanOrEqual(1_000);
  });
});

describe('pause and resume', () => {
  test('a queue is paused under any of its names, until it is resumed', async () => {
    const bench = new Bench();
    const paused = await call(bench, '/api/v1/queues/agent_service/pause');
    const at = new Date(START).toISOString();
    expect(paused).toMatchObject({
      status: 200,
      body: { name: 'default', paused: true, paused_at: at, paused_until: null },
    });
    const { id } = await bench.enqueue({ task: 'debug_task' });
    await bench.drain();
    expect((await look(bench, `/api/v1/jobs/${id}`))['waiting_for']).toBe('the queue default is paused');
    const resumed = await call(bench, '/api/v1/queues/default/resume');
    expect(resumed).toMatchObject({ status: 200, body: { name: 'default', paused: false, paused_at: null, woken: 1 } });
    await bench.drain();
    expect((await look(bench, `/api/v1/jobs/${id}`))['state']).toBe('SUCCESS');
  });

  test('a pause takes its end as seconds or as an instant, and a second pause takes the new end', async () => {
    const clock = new FastClock(START);
    const bench = new Bench({ clock });
    await call(bench, '/api/v1/queues/payment.critical/pause', { until: 90 });
    expect(await queue(bench, 'critical')).toMatchObject({ paused_until: new Date(START + 90_000).toISOString() });
    clock.set(START + 1_000);
    const until = new Date(START + 10 * MINUTE).toISOString();
    const again = await call(bench, '/api/v1/queues/critical/pause', { until });
    expect(again.body).toMatchObject({ paused_at: new Date(START).toISOString(), paused_until: until });
    const open = await call(bench, '/api/v1/queues/critical/pause', {});
    expect(open.body).toMatchObject({ paused: true, paused_until: null });
    await call(bench, '/api/v1/queues/critical/pause', { until });
    clock.set(START + 10 * MINUTE);
    expect(await queue(bench, 'critical')).toMatchObject({ paused: false, paused_at: null, paused_until: null });
  });

  test.each([[-1], [0], ['yesterday'], ['2020-01-01T00:00:00Z'], ['2040-02-01T00:00:00'], [{}], [true], [1e300]])(
    'an end that is past, or none at all (%j), is refused and pauses nothing',
    async (until) => {
      const bench = new Bench();
      const { status, body } = await call(bench, '/api/v1/queues/default/pause', { until });
      expect([status, body['errors']]).toMatchObject([422, [{ path: 'until' }]]);
      expect(await queue(bench, 'default')).toMatchObject({ paused: false });
      expect(await audit(bench)).toEqual([]);
    },
  );

  test('a queue nobody knows is not found, whatever is asked of it; a misspelt field is refused', async () => {
    const bench = new Bench();
    for (const [deed, body] of [
      ['pause', {}],
      ['resume', {}],
      ['purge', { confirm: 'nowhere' }],
    ] as const) {
      expect((await call(bench, `/api/v1/queues/nowhere/${deed}`, body)).status).toBe(404);
      expect((await call(bench, `/api/v1/queues/default-dlq/${deed}`, body)).status).toBe(404);
      expect((await call(bench, `/api/v1/queues/default/${deed}`, { ...body, untill: 5 })).status).toBe(422);
    }
  });

  test('a resumption whose wake fails is one all the same, and says that it does not know whom it woke', async () => {
    const bench = new Bench();
    await call(bench, '/api/v1/queues/default/pause');
    await bench.enqueue({ task: 'debug_task' });
    await bench.drain();
    bench.db.fault = (names) => (names === 'wake' ? { when: 'before', error: outage() } : undefined);
    const resumed = await call(bench, '/api/v1/queues/default/resume');
    expect(resumed).toMatchObject({ status: 200, body: { paused: false, woken: null } });
  });

  test('waiting jobs say in lists that their queue is paused, before any message has come', async () => {
    const bench = new Bench();
    const until = new Date(START + MINUTE).toISOString();
    await call(bench, '/api/v1/queues/bulk/pause', { until });
    for (const options of [{ queue: 'bulk' }, { queue: 'bulk', countdown: 30 }, { queue: 'default' }]) {
      await bench.enqueue({ task: 'debug_task', options });
    }
    const { items } = await look(bench, '/api/v1/jobs');
    expect((items as Body[]).map(({ waiting_for }) => waiting_for).sort()).toEqual([
      'a consumer of the queue default',
      `due at ${new Date(START + 30_000).toISOString()}`,
      `the queue bulk is paused until ${until}`,
    ]);
  });

  test('a job that waits for a consumer says how much its queue holds, and does not wait long for the number', async () => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug_task' });
    bench.queues.backlogs = { default: { count: 12, oldestSentAt: START } };
    const waitingFor = async (): Promise<unknown> => (await look(bench, `/api/v1/jobs/${id}`))['waiting_for'];
    expect(await waitingFor()).toBe('a consumer of the queue default (backlog 12)');
    bench.queues.backlog = () => new Promise(() => undefined);
    expect(await waitingFor()).toBe('a consumer of the queue default');
    expect(bench.clock.now() - START).toBeLessThanOrEqual(1_000);
  });
});

test('a pause with its end in the query is refused: it would have been one without an end', async () => {
  const bench = new Bench();
  const refused = await call(bench, '/api/v1/queues/email/pause?until=60');
  expect([refused.status, refused.body['errors']]).toMatchObject([422, [{ path: 'until' }]]);
  expect(await queue(bench, 'email')).toMatchObject({ paused: false });
});

test('lists that have no filters refuse one, for it would filter nothing', async () => {
  for (const path of ['/api/v1/queues?name=email', '/api/v1/tasks?queue=email', '/api/v1/queues?limit=0']) {
    const reply = await get(path);
    expect([path, reply.status]).toEqual([path, 422]);
  }
});

describe('purge over HTTP', () => {
  test.each([[undefined], [{}], [{ confirm: 'bulk' }], [{ confirm: true }], [{ confirm: 'DEFAULT' }]])(
    'without the name of the queue (%j) it is refused, and nothing happens',
    async (body) => {
      const bench = new Bench();
      const { id } = await bench.enqueue({ task: 'debug_task' });
      const refused = await call(bench, '/api/v1/queues/default/purge', body);
      expect([refused.status, refused.body['errors']]).toMatchObject([422, [{ path: 'confirm' }]]);
      expect((await bench.job(id)).state).toBe('PENDING');
      expect(await audit(bench)).toEqual([]);
      const controls = await env.DB.prepare(`SELECT count(*) AS n FROM queue_controls`).first('n');
      expect(controls).toBe(0);
    },
  );

  test.each([['agent_service'], ['default']])('confirmed as %s it cancels what waits, and says so', async (confirm) => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug_task' });
    const other = await bench.enqueue({ task: 'debug_task', options: { queue: 'bulk' } });
    const purged = await call(bench, '/api/v1/queues/agent_service/purge', { confirm });
    expect(purged).toMatchObject({
      status: 200,
      body: { name: 'default', purged: 1, running: 0, remaining: false, jobs: { waiting: 0 } },
    });
    expect(await look(bench, `/api/v1/jobs/${id}`)).toMatchObject({ state: 'REVOKED', error: { code: 'purged' } });
    expect((await bench.job(other.id)).state).toBe('PENDING');
  });
});

describe('the audit log', () => {
  test('has who did what, newest first, in pages', async () => {
    const bench = new Bench({ clock: new FastClock(START) });
    const until = new Date(START + MINUTE).toISOString();
    await bench.enqueue({ task: 'debug_task', options: { queue: 'bulk' } });
    await call(bench, '/api/v1/queues/email/pause', { until });
    (bench.clock as FastClock).set(START + 1);
    await call(bench, '/api/v1/queues/email/resume');
    (bench.clock as FastClock).set(START + 2);
    await call(bench, '/api/v1/queues/bulk/purge', { confirm: 'bulk' });
    const rows = await audit(bench);
    expect(rows.map(({ at, actor, action, target, detail }) => [at, actor, action, target, detail])).toEqual([
      [new Date(START + 2).toISOString(), 'admin', 'queue.purged', 'bulk', { waiting: 1, running: 0 }],
      [new Date(START + 1).toISOString(), 'admin', 'queue.resumed', 'email', {}],
      [new Date(START).toISOString(), 'admin', 'queue.paused', 'email', { until }],
    ]);
    const first = await look(bench, '/api/v1/audit?limit=2');
    const second = await look(bench, `/api/v1/audit?limit=2&cursor=${String(first['next_cursor'])}`);
    expect([...(first['items'] as Body[]), ...(second['items'] as Body[])]).toEqual(rows);
    expect(second['next_cursor']).toBeNull();
    expect((await ask(bench.rt, '/api/v1/audit?limit=500')).status).toBe(422);
  });

  test('is append only', async () => {
    const bench = new Bench();
    await call(bench, '/api/v1/queues/email/pause');
    await expect(env.DB.prepare(`UPDATE audit_log SET actor = 'nobody'`).run()).rejects.toThrow('append only');
  });

  test('an effect and its row are there both or neither', async () => {
    const bench = new Bench();
    await bench.enqueue({ task: 'debug_task' });
    // The row of an audit log that takes no more.
    await env.DB.prepare(
      `CREATE TRIGGER refuse BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'no more'); END`,
    ).run();
    try {
      for (const [path, body] of [
        ['/api/v1/queues/default/pause', {}],
        ['/api/v1/queues/default/purge', { confirm: 'default' }],
        ['/api/v1/jobs/revoke', { filter: { queue: 'default' } }],
      ] as const) {
        expect((await call(bench, path, body)).status).toBeGreaterThanOrEqual(500);
      }
    } finally {
      await env.DB.prepare(`DROP TRIGGER refuse`).run();
    }
    expect(await queue(bench, 'default')).toMatchObject({ paused: false, jobs: { waiting: 1 } });
    expect(await audit(bench)).toEqual([]);
  });

  test('and the queues are closed to whoever brings no key', async () => {
    const bench = new Bench();
    for (const [method, path] of [
      ['GET', '/api/v1/audit'],
      ['GET', '/api/v1/queues'],
      ['POST', '/api/v1/queues/default/pause'],
      ['POST', '/api/v1/queues/default/purge'],
      ['POST', '/api/v1/jobs/revoke'],
    ] as const) {
      expect((await serve(bench.rt, new Request(`http://lovage.test${path}`, { method }))).status).toBe(401);
    }
  });
});

test('on real queues a paused job waits and says so, and runs when its queue is resumed', async () => {
  const waitingFor = async (path: string): Promise<unknown> => (await get(path)).body['waiting_for'];
  expect((await post('/api/v1/queues/email_queue/pause', { until: 3_600 })).status).toBe(200);
  const { body } = await post('/api/v1/jobs', { task: 'debug_task', options: { queue: 'email' } });
  const path = String(body['status_url']);
  expect(await waitingFor(path)).toMatch(/^the queue email is paused until /);
  // Until its message has come and is let go.
  await vi.waitFor(async () => {
    const parked = await env.DB.prepare(`SELECT parked_for FROM jobs WHERE id = ?`)
      .bind(body['id'])
      .first('parked_for');
    expect(parked).toBe('pause');
  }, 10_000);
  expect((await get(path)).body).toMatchObject({ state: 'PENDING', attempt: 0 });
  expect((await post('/api/v1/queues/email/resume')).body).toMatchObject({ name: 'email', paused: false, woken: 1 });
  expect((await get(`${path}?wait=10`)).body).toMatchObject({ state: 'SUCCESS', attempt: 1, waiting_for: null });
});

test.each(['/api/v1/queues', '/api/v1/tasks'])('%s is paged as every list, each item on one page', async (path) => {
  const whole = (await get(path)).body['items'] as { name: string }[];
  const paged: string[] = [];
  let cursor: unknown = undefined;
  do {
    const { status, body } = await get(`${path}?limit=3${typeof cursor === 'string' ? `&cursor=${cursor}` : ''}`);
    expect(status).toBe(200);
    paged.push(...(body['items'] as { name: string }[]).map(({ name }) => name));
    cursor = body['next_cursor'];
  } while (cursor !== null);
  expect(paged).toEqual(whole.map(({ name }) => name));
  expect((await get(`${path}?cursor=nobody`)).body).toEqual({ items: [], next_cursor: null });
});
