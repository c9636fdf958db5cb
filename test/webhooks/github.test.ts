import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Env } from '../../src/env.ts';
import { Bench, emptyDatabase, FastClock, START } from '../worker/bench.ts';
import { encode, get, post, send, serve, type Reply } from '../worker/client.ts';
import { fromGithub } from '../worker/senders.ts';

const payloads = import.meta.glob('../fixtures/webhooks/github/*/*.json', {
  query: '?raw',
  import: 'default',
  eager: true,
});

const push = encode(payloads['../fixtures/webhooks/github/push/1.payload.json'] ?? '');

beforeEach(emptyDatabase);

interface Delivery {
  event?: string;
  id?: string;
  signature?: string;
  secret?: string;
  type?: string;
}

async function deliver(body: Uint8Array<ArrayBuffer>, delivery: Delivery = {}): Promise<Reply> {
  const { event = 'push', signature, ...sending } = delivery;
  if (signature === undefined) return send(await fromGithub(body, event, sending));
  const headers = { 'x-hub-signature-256': signature === 'none' ? null : signature };
  return send(await fromGithub(body, event, { ...sending, headers }));
}

/** What GitHub would send beside this body. */
async function signatureOf(body: Uint8Array<ArrayBuffer>): Promise<string> {
  return (await fromGithub(body)).headers.get('x-hub-signature-256') ?? '';
}

async function jobs(): Promise<unknown> {
  return (await env.DB.prepare(`SELECT count(*) AS n FROM jobs`).first())?.['n'];
}

// A payload of its own for each test: the guard remembers bodies.
function unique(note: string): Uint8Array<ArrayBuffer> {
  return encode(JSON.stringify({ ref: 'refs/heads/main', note }));
}

test('a signed push is accepted, becomes one job, and its raw bytes are kept', async () => {
  const { status, headers, body } = await deliver(push);
  expect([status, body['status']]).toEqual([200, 'accepted']);
  const id = String(body['job_id']);
  expect(headers.get('x-job-id')).toBe(id);
  const job = (await get(`/api/v1/jobs/${id}?wait=10`)).body;
  expect(job).toMatchObject({
    state: 'SUCCESS',
    task: 'process_webhook',
    queue: 'webhooks',
    source: 'webhook:github',
    result: { provider: 'github', event: 'push', repository: 'Codertocat/Hello-World', bytes: push.byteLength },
  });
  const kept = await (env as unknown as Env).OBJECTS.get(String((job['result'] as Record<string, unknown>)['raw_key']));
  expect(new Uint8Array((await kept?.arrayBuffer()) ?? new ArrayBuffer())).toEqual(push);
});

test('the same delivery again, and the same bytes under another delivery id, are duplicates of the same job', async () => {
  const body = unique('duplicate');
  const first = await deliver(body, { id: 'delivery-1' });
  const again = await deliver(body, { id: 'delivery-1' });
  const replayed = await deliver(body, { id: 'delivery-2' });
  expect([first, again, replayed].map((reply) => [reply.status, reply.body['status'], reply.body['job_id']])).toEqual([
    [200, 'accepted', first.body['job_id']],
    [200, 'duplicate', first.body['job_id']],
    [200, 'duplicate', first.body['job_id']],
  ]);
  expect(await jobs()).toBe(1);
});

test('a delivery whose first try died after its claim is accepted when it comes again', async () => {
  const body = unique('died');
  const first = await deliver(body, { id: 'died' });
  await get(`/api/v1/jobs/${String(first.body['job_id'])}?wait=10`);
  await env.DB.prepare(`DELETE FROM jobs`).run();
  const again = await deliver(body, { id: 'died' });
  expect(again.body).toEqual({ status: 'accepted', job_id: first.body['job_id'] });
  expect(await jobs()).toBe(1);
});

test('two equal dispatches are two events: nothing in them ever differs', async () => {
  const bodies = [
    { ref: 'main', workflow: 'ci.yml', inputs: {} },
    { action: 'deploy', client_payload: {} },
  ];
  for (const body of bodies.map((each) => encode(JSON.stringify(each)))) {
    const first = await deliver(body, { event: 'workflow_dispatch' });
    const second = await deliver(body, { event: 'workflow_dispatch' });
    expect([first.body['status'], second.body['status']]).toEqual(['accepted', 'accepted']);
    expect(first.body['job_id']).not.toBe(second.body['job_id']);
  }
});

test('a signed body is one event, whatever the headers say, which anybody can set', async () => {
  const body = unique('relabelled');
  const first = await deliver(body, { event: 'push' });
  for (const event of ['push_a', 'workflow_dispatch', 'repository_dispatch']) {
    const again = await deliver(body, { event });
    expect([again.body['status'], again.body['job_id']]).toEqual(['duplicate', first.body['job_id']]);
  }
});

test('the same bytes count once for as long as a copy may come; with the time of their event in them, for a month', async () => {
  const clock = new FastClock(START);
  const status = async (body: string): Promise<unknown> => {
    const answer = await serve(new Bench({ clock }).rt, await fromGithub(body, 'membership'));
    return (await answer.json<{ status: string }>()).status;
  };
  const nonce = crypto.randomUUID();
  const joins = JSON.stringify({ action: 'added', nonce, repository: { created_at: '2019-05-15T15:19:25Z' } });
  const dated = JSON.stringify({ action: 'created', nonce, starred_at: new Date(START).toISOString() });
  const pushed = JSON.stringify({ ref: 'main', nonce, repository: { pushed_at: START / 1_000 } });
  const at = async (minutes: number): Promise<readonly unknown[]> => {
    clock.set(START + minutes * 60_000);
    return [await status(joins), await status(dated), await status(pushed)];
  };
  expect(await at(0)).toEqual(['accepted', 'accepted', 'accepted']);
  expect(await at(9)).toEqual(['duplicate', 'duplicate', 'duplicate']);
  // Somebody has left and joined again.
  expect(await at(11)).toEqual(['accepted', 'duplicate', 'duplicate']);
  expect(await at(29 * 24 * 60)).toEqual(['accepted', 'duplicate', 'duplicate']);
});

test('the secret before the last rotation is still accepted', async () => {
  const reply = await deliver(unique('rotation'), { secret: 'test-github-secret-before' });
  expect([reply.status, reply.body['status']]).toEqual([200, 'accepted']);
});

test('a ping is answered and makes no job', async () => {
  const reply = await deliver(unique('ping'), { event: 'ping' });
  expect([reply.status, reply.body]).toEqual([200, { status: 'ignored' }]);
  expect(await jobs()).toBe(0);
});

test('the form encoding is verified over the raw form and read like JSON', async () => {
  const form = encode(`payload=${encodeURIComponent('{"action":"opened","note":"form"}')}`);
  const type = 'application/x-www-form-urlencoded';
  const reply = await deliver(form, { event: 'issues', type });
  const job = (await get(`/api/v1/jobs/${String(reply.body['job_id'])}?wait=10`)).body;
  expect(job['result']).toMatchObject({ event: 'issues', action: 'opened' });
});

test('a payload too large for a message is the input of its job all the same', async () => {
  const text = JSON.stringify({ action: 'created', filler: 'x'.repeat(200_000) });
  const bytes = encode(text);
  const form = encode(`payload=${encodeURIComponent(text.replace('created', 'edited'))}`);
  for (const [body, type, action] of [
    [bytes, 'application/json', 'created'],
    [form, 'application/x-www-form-urlencoded', 'edited'],
  ] as const) {
    const reply = await deliver(body, { event: 'issues', type });
    const job = (await get(`/api/v1/jobs/${String(reply.body['job_id'])}?wait=10`)).body;
    expect(job).toMatchObject({ state: 'SUCCESS', result: { action, bytes: body.byteLength } });
    const { webhook_data: data } = job['input'] as { webhook_data: { filler: string } };
    expect(data.filler.length).toBe(200_000);
  }
});

test('one too large to be looked into is kept in its bytes, and its next run has a copy that leaves with it', async () => {
  const body = encode(JSON.stringify({ action: 'created', filler: 'y'.repeat(9 * 1024 * 1024) }));
  const first = await deliver(body, { event: 'issues' });
  const id = String(first.body['job_id']);
  const job = (await get(`/api/v1/jobs/${id}?wait=10`)).body;
  const key = `webhooks/github/${id}`;
  expect(job).toMatchObject({
    state: 'SUCCESS',
    input: { webhook_data: null, raw_key: key },
    result: { event: 'issues', action: null, bytes: body.byteLength },
  });
  const { OBJECTS } = env as unknown as Env;
  expect((await OBJECTS.head(key))?.size).toBe(body.byteLength);
  const again = (await post(`/api/v1/jobs/${id}/retry`)).body;
  await OBJECTS.delete(key);
  const copy = (await get(`${String(again['status_url'])}?wait=10`)).body;
  expect(copy).toMatchObject({ state: 'SUCCESS', input: { raw_key: `webhooks/github/${String(copy['id'])}` } });
  expect((await OBJECTS.head(`webhooks/github/${String(copy['id'])}`))?.size).toBe(body.byteLength);
  expect((await post(`/api/v1/jobs/${id}/retry`)).status).toBe(409);
});

describe('what is not signed by GitHub is refused, and nothing is written', () => {
  test('one flipped byte', async () => {
    const signature = await signatureOf(push);
    const flipped = push.slice();
    flipped[100] = (flipped[100] ?? 0) ^ 1;
    const reply = await deliver(flipped, { signature });
    expect([reply.status, reply.body['title']]).toEqual([401, 'Bad signature']);
    expect(await jobs()).toBe(0);
  });

  test('no signature, an odd one, a truncated one, the right one of another secret', async () => {
    const good = await signatureOf(push);
    for (const signature of [
      'none',
      '',
      'sha256=',
      'sha256=zz',
      good.slice(0, -2),
      good.replace('sha256', 'sha1'),
      good.slice(7),
    ]) {
      expect((await deliver(push, { signature })).status).toBe(401);
    }
    expect((await deliver(push, { secret: 'wrong' })).status).toBe(401);
    expect(await jobs()).toBe(0);
  });

  test('signed bytes that are no payload are 400, an unknown provider 404', async () => {
    expect((await deliver(encode('{"half":'))).status).toBe(400);
    expect((await deliver(unique('no event'), { event: 'Not An Event!' })).status).toBe(400);
    const unknown = new Request('http://lovage.test/webhooks/nobody', { method: 'POST', body: '{}' });
    expect((await send(unknown)).status).toBe(404);
    expect(await jobs()).toBe(0);
  });

  test('signed odd bytes are accepted: a byte order mark, a trailing newline, invalid UTF-8', async () => {
    const odd = [
      new Uint8Array([0xef, 0xbb, 0xbf, ...unique('bom')]),
      new Uint8Array([...unique('newline'), 0x0a]),
      new Uint8Array([...encode('{"note":"'), 0xff, 0xfe, ...encode('"}')]),
    ];
    // 60,000 odd bytes are 180,000 once each has become a replacement character.
    odd.push(new Uint8Array([...encode('{"note":"'), ...new Uint8Array(60_000).fill(0xff), ...encode('"}')]));
    for (const body of odd) {
      const reply = await deliver(body);
      expect(reply.body['status']).toBe('accepted');
      expect((await get(`/api/v1/jobs/${String(reply.body['job_id'])}?wait=10`)).body['state']).toBe('SUCCESS');
    }
  });
});

test('every example payload of every event is accepted once, and its job succeeds', async () => {
  const entries = Object.entries(payloads);
  expect(entries.length).toBeGreaterThan(55);
  for (const [file, text] of entries) {
    const event = file.split('/').at(-2) ?? '';
    const body = encode(text.replace(/\}\s*$/, `,"lovage_test":"${file}"}`));
    const reply = await deliver(body, { event });
    expect([file, reply.status, reply.body['status']]).toEqual([file, 200, event === 'ping' ? 'ignored' : 'accepted']);
    if (event === 'ping') continue;
    const job = (await get(`/api/v1/jobs/${String(reply.body['job_id'])}?wait=10`)).body;
    expect([file, job['state']]).toEqual([file, 'SUCCESS']);
  }
}, 60_000);
