import { describe, expect, test } from 'vitest';
import { get, post } from '../worker/client.ts';

let keys = 0;

function key(): string {
  keys += 1;
  return `http-${String(keys)}`;
}

const later = { countdown: 3_600 };

function call(input: unknown, options: object): unknown {
  return { task: 'debug_task', input, options };
}

describe('unique jobs over HTTP', () => {
  test('a further call is answered 200 with the first job, and said to be a repetition', async () => {
    const options = { ...later, unique: { key: key() } };
    const first = await post('/api/v1/jobs', call(1, options));
    const second = await post('/api/v1/jobs', call(2, options));
    expect([first.status, second.status]).toEqual([202, 200]);
    expect(second.body).toEqual(first.body);
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(second.headers.get('location')).toBe(first.body['status_url']);
    expect((await get(String(first.body['status_url']))).body['input']).toBe(1);
  });

  test('a call that replaces is answered 202 with the same job, which is now what this call asks for', async () => {
    const unique = { key: key(), on: 'replace' };
    const first = await post('/api/v1/jobs', call(1, { ...later, unique }));
    const second = await post('/api/v1/jobs', call(2, { countdown: 7_200, tags: ['second'], priority: 9, unique }));
    expect([second.status, second.body['id']]).toEqual([202, first.body['id']]);
    expect(second.headers.get('idempotent-replayed')).toBeNull();
    const job = (await get(String(first.body['status_url']))).body;
    expect(job).toMatchObject({ input: 2, tags: ['second'], queue: 'critical', priority: 9, state: 'SCHEDULED' });
    const wait = Date.parse(String(job['due_at'])) - Date.parse(String(job['created_at']));
    expect(wait).toBeGreaterThanOrEqual(7_200_000);
  });

  test('a burst of debounced calls is one job that runs once, with the last input', async () => {
    const options = { unique: { key: key(), for: 1, on: 'debounce' } };
    const answers = [];
    for (let at = 1; at <= 5; at += 1) answers.push(await post('/api/v1/jobs', call(at, options)));
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202, 202, 202]);
    const ids = new Set(answers.map(({ body }) => body['id']));
    expect(ids.size).toBe(1);
    const [id] = [...ids];
    const job = (await get(`/api/v1/jobs/${String(id)}?wait=20`)).body;
    expect([job['state'], job['result']]).toMatchObject(['SUCCESS', { input: 5 }]);
  });

  test('in bulk each item is decided by itself, and a wrong one spoils none', async () => {
    const unique = { key: key() };
    const jobs = [
      call(1, { ...later, unique }),
      call(2, { ...later, unique }),
      call(3, { unique, idempotency_key: 'both' }),
      call(4, { ...later, unique: { key: key() } }),
    ];
    const { status, body } = await post('/api/v1/jobs/batch', { jobs });
    expect(status).toBe(202);
    const [one, two, three, four] = body['jobs'] as Record<string, unknown>[];
    expect([two?.['id'], two?.['replayed'], one?.['replayed']]).toEqual([one?.['id'], true, undefined]);
    expect(three).toMatchObject({ error: { status: 422, errors: [{ path: 'options.unique' }] } });
    expect(four?.['id']).not.toBe(one?.['id']);
    expect((await get(String(one?.['status_url']))).body['input']).toBe(1);
  });

  test('what contradicts itself is refused with its place, and writes nothing', async () => {
    const unique = { key: key() };
    const place = async (options: object, headers = {}): Promise<unknown> => {
      const { status, body } = await post('/api/v1/jobs', call(1, options), headers);
      return [status, ...(body['errors'] as { path: string }[]).map(({ path }) => path)];
    };
    expect(await place({ unique, idempotency_key: 'k' })).toEqual([422, 'options.unique']);
    expect(await place({ unique }, { 'idempotency-key': 'k' })).toEqual([422, 'options.unique']);
    expect(await place({ unique: { ...unique, on: 'debounce' } })).toEqual([422, 'options.unique.for']);
    const debounce = { ...unique, on: 'debounce', for: 5 };
    expect(await place({ unique: debounce, countdown: 1 })).toEqual([422, 'options.countdown']);
    expect(await place({ unique: debounce, eta: '2040-01-01T00:00:00Z' })).toEqual([422, 'options.eta']);
    expect(await place({ unique: { key: 'k'.repeat(256) } })).toEqual([422, 'options.unique.key']);
    expect(await place({ unique: true })).toEqual([422, 'options.unique']);
    expect((await post('/api/v1/jobs', call(1, { ...later, unique }))).status).toBe(202);
  });
});
