import { env } from 'cloudflare:workers';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { get, post, remove, run } from '../worker/client.ts';

async function countJobs(): Promise<unknown> {
  return (await env.DB.prepare(`SELECT count(*) AS n FROM jobs`).first())?.['n'];
}

describe('enqueue', () => {
  test('a job is answered with 202, its id, and where to look for it', async () => {
    const { status, headers, body } = await post('/api/v1/jobs', { task: 'debug_task', input: { hello: 'world' } });
    expect(status).toBe(202);
    expect(body).toEqual({
      id: body['id'],
      task_id: body['id'],
      task: 'debug_task',
      queue: 'default',
      state: 'PENDING',
      status: 'queued',
      status_url: `/api/v1/jobs/${String(body['id'])}`,
    });
    expect(headers.get('location')).toBe(body['status_url']);
    const done = (await get(`${String(body['status_url'])}?wait=10`)).body;
    expect([done['state'], done['status'], done['progress'], done['ready']]).toEqual([
      'SUCCESS',
      'completed',
      100,
      true,
    ]);
    expect(done['result']).toMatchObject({ input: { hello: 'world' }, request: { id: body['id'], attempt: 1 } });
  });

  test('a Celery-shaped call and an alias name the same task and input', async () => {
    const job = await run({ task: 'debug.effect', args: ['celery-shaped'] });
    expect([job['state'], job['input']]).toEqual(['SUCCESS', { key: 'celery-shaped' }]);
    const alias = await run({ task: 'app.tasks.debug_task', args: [1, 2], kwargs: { three: 3 } });
    expect([alias['task'], alias['input']]).toEqual(['debug_task', { args: [1, 2], three: 3 }]);
  });

  test('a job that fails twice and may be retried ends in SUCCESS at attempt 3, with every attempt listed', async () => {
    const job = await run({ task: 'debug.fail', input: { times: 2 }, options: { retry_delays: [0, 0] } });
    expect([job['state'], job['attempt'], job['error']]).toEqual(['SUCCESS', 3, null]);
    expect(job['attempts']).toMatchObject([
      { attempt: 1, outcome: 'retry', error: { code: 'exception' } },
      { attempt: 2, outcome: 'retry' },
      { attempt: 3, outcome: 'success', error: null },
    ]);
  });

  test('many jobs in one call are answered in order, and one bad item does not spoil the others', async () => {
    const calls = [
      { task: 'debug_task', input: 1 },
      { task: 'nobody' },
      'not a job',
      { task: 'debug.effect', input: { key: 7 } },
      { task: 'debug_task', input: 2 },
    ];
    const { status, body } = await post('/api/v1/jobs/batch', { jobs: calls });
    expect(status).toBe(202);
    expect(body['jobs']).toMatchObject([
      { task: 'debug_task' },
      { error: { status: 422, errors: [{ path: 'task' }] } },
      { error: { status: 422 } },
      { error: { status: 422, errors: [{ path: 'input.key' }] } },
      { task: 'debug_task' },
    ]);
  });

  test('a job due later is SCHEDULED, and says when', async () => {
    const eta = new Date(Date.now() + 3 * 86_400_000).toISOString();
    const { body } = await post('/api/v1/jobs', { task: 'debug_task', options: { eta } });
    expect([body['state'], body['status']]).toEqual(['SCHEDULED', 'scheduled']);
    const job = (await get(String(body['status_url']))).body;
    expect([job['state'], job['due_at'], job['waiting_for']]).toEqual(['SCHEDULED', eta, `due at ${eta}`]);
  });
});

describe('idempotency keys', () => {
  test('a repeated key answers with the first job and how it stands', async () => {
    const call = { task: 'debug_task', input: { a: 1, b: 2 }, options: { tags: ['x'] } };
    const first = await post('/api/v1/jobs', call, { 'idempotency-key': 'again' });
    await get(`${String(first.body['status_url'])}?wait=10`);
    const reordered = { options: { tags: ['x'], idempotency_key: 'again' }, input: { b: 2, a: 1 }, task: 'debug_task' };
    const second = await post('/api/v1/jobs', reordered);
    expect([second.status, second.body['id'], second.body['state']]).toEqual([200, first.body['id'], 'SUCCESS']);
  });

  test('a key with another body, or a header that differs from the option, is refused', async () => {
    const key = { 'idempotency-key': 'other-body' };
    await post('/api/v1/jobs', { task: 'debug_task', input: 1 }, key);
    expect((await post('/api/v1/jobs', { task: 'debug_task', input: 2 }, key)).status).toBe(422);
    const both = { task: 'debug_task', options: { idempotency_key: 'b' } };
    const differing = await post('/api/v1/jobs', both, { 'idempotency-key': 'a' });
    expect([differing.status, differing.body['errors']]).toEqual([
      422,
      [{ path: 'Idempotency-Key', message: 'differs from options.idempotency_key' }],
    ]);
    const long = await post('/api/v1/jobs', { task: 'debug_task' }, { 'idempotency-key': 'k'.repeat(256) });
    expect(long.status).toBe(422);
  });
});

test('an input and a result of 6 MB come back byte for byte, and a list leaves them out', async () => {
  const text = Array.from({ length: 6_000_000 / 8 }, (_, at) => `${String(at % 10)}é"\n€`).join('');
  const input = { text, nested: [{ deep: null }, 1.5e300, 'ż\u0000\ud83d'] };
  const job = await run({ task: 'debug_task', input, options: { tags: ['large'] } });
  expect(JSON.stringify(job['input'])).toBe(JSON.stringify(input));
  expect(JSON.stringify(z.object({ input: z.unknown() }).parse(job['result']).input)).toBe(JSON.stringify(input));
  expect(job).toMatchObject({ state: 'SUCCESS', result_expired: false });
  const { body } = await get('/api/v1/jobs?tag=large');
  const [listed] = z.array(z.record(z.string(), z.unknown())).parse(body['items']);
  expect(listed).toMatchObject({ id: job['id'], state: 'SUCCESS' });
  expect(Object.keys(listed ?? {})).not.toContain('input');
  expect(Object.keys(listed ?? {})).not.toContain('result');
  const again = await post(`/api/v1/jobs/${String(job['id'])}/retry`);
  const repeated = (await get(`${String(again.body['status_url'])}?wait=20`)).body;
  expect(JSON.stringify(repeated['input'])).toBe(JSON.stringify(input));
});

describe('looking and waiting', () => {
  test('INV-F23 result wait: a job that is done early is answered early', async () => {
    const { body } = await post('/api/v1/jobs', { task: 'debug.sleep', input: { seconds: 0.2 } });
    const from = Date.now();
    const job = (await get(`${String(body['status_url'])}?wait=10`)).body;
    expect(job['state']).toBe('SUCCESS');
    expect(Date.now() - from).toBeLessThan(5_000);
  });

  test('an unknown id is 404 and says when to ask again', async () => {
    const unknown = await get('/api/v1/jobs/01a1f8c5-034e-78b3-9cd3-1d3ff2b5a600');
    expect([unknown.status, unknown.headers.get('retry-after')]).toEqual([404, '1']);
    expect((await get('/api/v1/jobs/nonsense')).status).toBe(404);
  });

  test('the list is newest first, filtered, and pages without a gap', async () => {
    const ids = [];
    for (let at = 0; at < 5; at += 1) {
      const { body } = await post('/api/v1/jobs', { task: 'debug_task', input: { at }, options: { tags: ['paged'] } });
      ids.unshift(body['id']);
      await get(`${String(body['status_url'])}?wait=10`);
    }
    const seen = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof get>> = await get(
        `/api/v1/jobs?tag=paged&limit=2${cursor === null ? '' : `&cursor=${cursor}`}`,
      );
      seen.push(...(page.body['items'] as { id: string }[]).map(({ id }) => id));
      cursor = page.body['next_cursor'] as string | null;
    } while (cursor !== null);
    expect(seen).toEqual(ids);
    expect((await get('/api/v1/jobs?tag=paged&state=FAILURE')).body['items']).toEqual([]);
    expect((await get('/api/v1/jobs?state=SUCCESS&queue=agent_service&tag=paged')).body['items']).toHaveLength(5);
    expect((await get(`/api/v1/jobs?q=${String(ids[2])}`)).body['items']).toHaveLength(1);
    expect((await get('/api/v1/jobs?until=2020-01-01T00:00:00Z')).body['items']).toEqual([]);
    expect((await get('/api/v1/jobs?since=yesterday')).body['errors']).toMatchObject([{ path: 'since' }]);
    expect((await get('/api/v1/jobs?limit=201')).status).toBe(422);
    expect((await get('/api/v1/jobs?colour=green')).status).toBe(422);
    // One of them would have been left out without a word.
    expect((await get('/api/v1/jobs?state=SUCCESS&state=FAILURE')).body['errors']).toEqual([
      { path: 'state', message: 'is given 2 times' },
    ]);
  });

  test('registered tasks are listed with the schema of their input', async () => {
    const { body } = await get('/api/v1/tasks');
    const effect = (body['items'] as { name: string }[]).find(({ name }) => name === 'debug.effect');
    expect(effect).toMatchObject({
      queue: 'default',
      params: ['key'],
      input_schema: { type: 'object', required: ['key'] },
      time_limit: 60,
      rate_limits: [],
    });
    const limited = (body['items'] as { name: string }[]).find(({ name }) => name === 'debug.limited');
    expect(limited).toMatchObject({
      rate_limits: [{ limit: '10/s', per_key: false }],
      concurrency: [{ limit: 1, per_key: true }],
    });
  });
});

describe('revoke and retry', () => {
  test('a waiting job that is revoked never runs', async () => {
    const { body } = await post('/api/v1/jobs', {
      task: 'debug.effect',
      input: { key: 'revoked' },
      options: { countdown: 3600 },
    });
    const path = String(body['status_url']);
    const revoked = await post(`${path}/revoke`);
    expect([revoked.status, revoked.body]).toEqual([
      200,
      { id: body['id'], state: 'REVOKED', previous_state: 'SCHEDULED', terminating: false },
    ]);
    const job = (await get(path)).body;
    expect([job['state'], job['status'], job['error']]).toMatchObject(['REVOKED', 'cancelled', { code: 'revoked' }]);
    expect((await remove(path)).body).toMatchObject({ state: 'REVOKED', previous_state: 'REVOKED' });
  });

  test('a final job cannot be revoked, an unknown one is not found', async () => {
    const job = await run({ task: 'debug_task' });
    expect((await remove(String(job['status_url']))).status).toBe(409);
    expect((await post(`${String(job['status_url'])}/revoke`, { terminate: 'yes' })).status).toBe(422);
    expect((await remove('/api/v1/jobs/01a1f8c5-034e-78b3-9cd3-1d3ff2b5a600')).status).toBe(404);
  });

  test('a final job can be run again, each time as a job of its own that names it', async () => {
    const first = await run({ task: 'debug_task', input: { again: true }, options: { tags: ['t'], priority: 4 } });
    const path = String(first['status_url']);
    const second = await post(`${path}/retry`);
    const third = await post(`${path}/retry`);
    expect([second.status, third.status]).toEqual([202, 202]);
    expect(new Set([first['id'], second.body['id'], third.body['id']]).size).toBe(3);
    const job = (await get(`${String(second.body['status_url'])}?wait=10`)).body;
    expect(job).toMatchObject({
      state: 'SUCCESS',
      retry_of: first['id'],
      input: { again: true },
      tags: ['t'],
      priority: 4,
    });
    const { body } = await post('/api/v1/jobs', { task: 'debug_task', options: { countdown: 3600 } });
    expect((await post(`${String(body['status_url'])}/retry`)).status).toBe(409);
  });

  test('a run again takes what the first run was given: whoever sends something else is told, and nothing runs', async () => {
    const path = String((await run({ task: 'debug_task', input: 1 }))['status_url']);
    const before = await countJobs();
    const refused = await post(`${path}/retry`, { input: 2 });
    expect([refused.status, refused.body['errors']]).toEqual([422, [{ path: 'input', message: 'is unknown' }]]);
    expect((await post(`${path}/retry`, 'nonsense')).status).toBe(400);
    expect(await countJobs()).toBe(before);
    expect((await post(`${path}/retry`, {})).status).toBe(202);
  });
});

describe('who may', () => {
  test('every route but the open ones wants the key, in either header', async () => {
    for (const path of ['/api/v1/jobs', '/api/v1/tasks', '/health', '/api/v1/nonsense', '/api/v1/dead-letters']) {
      expect((await get(path, { authorization: '' })).status).toBe(401);
      expect((await get(path, { authorization: 'Bearer wrong' })).status).toBe(401);
    }
    expect((await get('/api/v1/tasks', { authorization: '', 'x-api-key': 'test-admin-key' })).status).toBe(200);
    expect((await get('/health/live', { authorization: '' })).status).toBe(200);
    expect((await get('/api/v1/nonsense')).status).toBe(404);
  });

  test('spelling a path oddly opens nothing', async () => {
    for (const path of [
      '//api/v1/jobs',
      '/api//v1/jobs',
      '/API/v1/jobs',
      '/webhooks/../api/v1/jobs',
      '/api%2fv1/jobs',
      '/health/live/../../api/v1/jobs',
    ]) {
      expect((await get(path, { authorization: '' })).status).toBe(401);
    }
  });

  test('health really asks every binding', async () => {
    const { status, body } = await get('/health');
    expect([status, body['status']]).toEqual([200, 'healthy']);
    expect(Object.keys(body['checks'] as object).sort()).toEqual([
      'database',
      'job_stream',
      'objects',
      'queues',
      'rate_limiter',
      'replay_guard',
      'results',
      'semaphore',
      'watchdog',
    ]);
  });

  test('health says which secrets and credentials are there; what is missing makes nothing unhealthy', async () => {
    const { body } = await get('/health');
    expect([body['status'], body['settings']]).toEqual([
      'healthy',
      {
        'webhooks.github': 'configured',
        'webhooks.mailgun': 'configured',
        'webhooks.openphone': 'configured',
        'webhooks.slack': 'configured',
        callbacks: 'not_configured',
        'recovery.github': 'not_configured',
        'recovery.mailgun': 'not_configured',
      },
    ]);
  });
});

describe('bad input is a clear problem that names the place, and writes nothing', () => {
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  const refused: [name: string, body: string, status: number, place: string][] = [
    ['not JSON', '{"task": ', 400, 'not JSON'],
    ['a depth of 100,000', `{"task":"debug_task","input":${deep}}`, 400, '64'],
    [
      'a key __proto__',
      '{"task":"debug_task","input":{"a":[{"__proto__":{"admin":true}}]}}',
      400,
      'input.a[0].__proto__',
    ],
    ['an escaped __proto__', '{"task":"debug_task","input":{"__pro\\u0074o__":1}}', 400, 'input.__proto__'],
    ['a wrong schema', '{"task":"debug.effect","input":{"key":5}}', 422, 'input.key'],
    ['an unknown task', '{"task":"nobody.knows"}', 422, 'task'],
    ['no task', '{"input":{}}', 422, 'task'],
    ['an unknown queue', '{"task":"debug_task","options":{"queue":"nowhere"}}', 422, 'options.queue'],
    ['a negative countdown', '{"task":"debug_task","options":{"countdown":-1}}', 422, 'options.countdown'],
    ['an unknown option', '{"task":"debug_task","options":{"contdown":1}}', 422, 'options'],
    ['an eta without a zone', '{"task":"debug_task","options":{"eta":"2026-01-01T00:00:00"}}', 422, 'options.eta'],
    ['an array', '[]', 422, ''],
  ];
  for (const [name, body, status, place] of refused) {
    test(name, async () => {
      const before = await countJobs();
      const reply = await post('/api/v1/jobs', body);
      expect(reply.status).toBe(status);
      expect(reply.headers.get('content-type')).toBe('application/problem+json');
      expect(reply.body).toMatchObject({
        status,
        type: expect.any(String) as string,
        title: expect.any(String) as string,
      });
      expect(String(reply.body['detail'])).toContain(place);
      expect(await countJobs()).toBe(before);
    });
  }

  test('another content type, and a compressed body', async () => {
    expect((await post('/api/v1/jobs', '{}', { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await post('/api/v1/jobs', '{}', { 'content-encoding': 'gzip' })).status).toBe(415);
  });

  test('a body over 8 MiB, and a batch over its limits', async () => {
    const big = await post('/api/v1/jobs', `{"task":"debug_task","input":"${'x'.repeat(9 * 1024 * 1024)}"}`);
    expect(big.status).toBe(413);
    expect((await post('/api/v1/jobs/batch', { jobs: [] })).status).toBe(422);
    const many = Array.from({ length: 1_001 }, () => ({ task: 'debug_task' }));
    expect((await post('/api/v1/jobs/batch', { jobs: many })).status).toBe(422);
  });
});
