import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import type { Env } from '../../src/env.ts';
import { Bench, outage } from '../worker/bench.ts';
import { ADMIN_KEY, ask, serve } from '../worker/client.ts';

test('health is 503 and names the binding that does not answer', async () => {
  const bench = new Bench();
  bench.db.fault = () => ({ when: 'before', error: outage() });
  const response = await ask(bench.rt, '/health');
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({
    status: 'unhealthy',
    checks: { database: { status: 'unhealthy' }, queues: { status: 'healthy' } },
  });
});

test('while the database is silent a look at it is 503 with Retry-After, and enqueueing goes on', async () => {
  const bench = new Bench();
  bench.db.fault = () => ({ when: 'before', error: outage() });
  const look = await ask(bench.rt, '/api/v1/jobs');
  expect([look.status, look.headers.get('retry-after')]).toEqual([503, '5']);
  expect((await ask(bench.rt, '/api/v1/jobs', { method: 'POST', body: '{"task":"debug_task"}' })).status).toBe(202);
  bench.queues.fault = 'refuse';
  const unknown = await ask(bench.rt, '/api/v1/jobs', { method: 'POST', body: '{"task":"debug_task"}' });
  expect([unknown.status, unknown.headers.get('retry-after')]).toEqual([503, '5']);
});

test('an error nobody expected is 500, and says nothing of what is inside', async () => {
  const bench = new Bench();
  bench.db.fault = () => ({ when: 'before', error: new Error('secret detail') });
  const response = await ask(bench.rt, '/api/v1/jobs');
  expect(response.status).toBe(500);
  expect(await response.text()).not.toContain('secret');
});

test('without an admin key nobody is let in, and it says why', async () => {
  const bench = new Bench();
  const bindings = { ...(env as unknown as Env), ADMIN_API_KEY: '' };
  const response = await serve(bench.rt, new Request('http://lovage.test/api/v1/jobs'), bindings);
  expect([response.status, await response.json()]).toMatchObject([503, { title: 'Not configured' }]);
});

test('debug tasks and their routes are there only where they are switched on', async () => {
  const bench = new Bench();
  const bindings = { ...(env as unknown as Env), DEBUG_TASKS: '' };
  const headers = { authorization: `Bearer ${ADMIN_KEY}` };
  const request = new Request('http://lovage.test/api/v1/debug/effects', { headers });
  expect((await serve(bench.rt, request, bindings)).status).toBe(404);
});

test('without a secret a webhook is 503 and nothing is read', async () => {
  const bench = new Bench();
  const bindings = { ...(env as unknown as Env), GITHUB_WEBHOOK_SECRET: '', GITHUB_WEBHOOK_SECRET_PREVIOUS: '' };
  const request = new Request('http://lovage.test/webhooks/github', { method: 'POST', body: '{}' });
  expect((await serve(bench.rt, request, bindings)).status).toBe(503);
});
