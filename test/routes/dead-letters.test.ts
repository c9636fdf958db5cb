import { beforeEach, expect, test } from 'vitest';
import { emptyDatabase } from '../worker/bench.ts';
import { get, post, remove, run } from '../worker/client.ts';

beforeEach(emptyDatabase);

interface Letter {
  id: string;
  job_id: string;
  fingerprint: string;
  requeued_as: string | null;
}

async function letters(query = ''): Promise<Letter[]> {
  return (await get(`/api/v1/dead-letters${query}`)).body['items'] as Letter[];
}

test('INV-F17 dead letters: a poisoned job leaves one letter; mended and requeued it succeeds, and both are linked', async () => {
  const failed = await run({
    task: 'debug.fail',
    input: { message: 'poison' },
    options: { max_retries: 0, tags: ['p'] },
  });
  expect([failed['state'], failed['error']]).toMatchObject(['FAILURE', { code: 'exception', message: 'poison' }]);
  const [letter, ...others] = await letters();
  expect(others).toEqual([]);
  expect(letter).toMatchObject({
    job_id: failed['id'],
    task: 'debug.fail',
    queue: 'default',
    input: { message: 'poison' },
    error: { message: 'poison' },
    attempts: 1,
    requeued_as: null,
  });
  const requeued = await post(`/api/v1/dead-letters/${String(letter?.id)}/requeue`, { input: { times: 0 } });
  expect(requeued.status).toBe(202);
  const job = (await get(`/api/v1/jobs/${String(requeued.body['id'])}?wait=10`)).body;
  expect(job).toMatchObject({ state: 'SUCCESS', retry_of: failed['id'], source: 'requeue', tags: ['p'] });
  expect((await letters())[0]?.requeued_as).toBe(requeued.body['id']);
});

test('a requeue whose input the task refuses is 422 and runs nothing', async () => {
  await run({ task: 'debug.fail', options: { max_retries: 0 } });
  const [letter] = await letters();
  const refused = await post(`/api/v1/dead-letters/${String(letter?.id)}/requeue`, { input: { times: 'many' } });
  expect([refused.status, refused.body['errors']]).toMatchObject([422, [{ path: 'input.times' }]]);
  expect((await letters())[0]?.requeued_as).toBeNull();
});

test('INV-F18 failure patterns: messages that differ in ids group together, with counts and samples', async () => {
  for (const id of [17, 99, 4_711]) {
    await run({
      task: 'debug.fail',
      input: { message: `user ${String(id)} has no "mail"` },
      options: { max_retries: 0 },
    });
  }
  await run({ task: 'debug.fail', input: { message: 'the far side is down' }, options: { max_retries: 0 } });
  const { body } = await get('/api/v1/dead-letters/patterns');
  const [first, second, ...others] = body['items'] as (Letter & { count: number; sample_ids: string[] })[];
  expect(others).toEqual([]);
  expect([first?.count, second?.count]).toEqual([3, 1]);
  const same = await letters(`?fingerprint=${String(first?.fingerprint)}`);
  expect(first?.sample_ids).toEqual(same.map(({ id }) => id));
});

test('a pattern is requeued as a whole, after a dry run that says what it would do', async () => {
  for (const id of [1, 2, 3]) {
    await run({ task: 'debug.fail', input: { message: `no ${String(id)}` }, options: { max_retries: 0 } });
  }
  await run({ task: 'debug.fail', input: { message: 'another' }, options: { max_retries: 0 } });
  const pattern = (await letters()).find(({ job_id }, _, all) => job_id !== all[0]?.job_id)?.fingerprint;
  const dry = await post('/api/v1/dead-letters/requeue', { fingerprint: pattern, dry_run: true });
  expect(dry.body).toEqual({ dry_run: true, matched: 3, requeued: 0, jobs: [] });
  const some = await post('/api/v1/dead-letters/requeue', { fingerprint: pattern, limit: 2 });
  expect(some.body).toMatchObject({ matched: 2, requeued: 2 });
  const rest = await post('/api/v1/dead-letters/requeue', { filter: { fingerprint: pattern } });
  expect(rest.body).toMatchObject({ matched: 1, requeued: 1 });
  for (const all of [{}, { filter: {} }]) expect((await post('/api/v1/dead-letters/requeue', all)).status).toBe(422);
  for (const { status_url } of [some, rest].flatMap(({ body }) => body['jobs'] as { status_url: string }[])) {
    expect((await get(`${status_url}?wait=10`)).body['state']).toBe('FAILURE');
  }
});

test('a letter can be deleted once it is dealt with', async () => {
  await run({ task: 'debug.fail', options: { max_retries: 0 } });
  const [letter] = await letters();
  expect((await remove(`/api/v1/dead-letters/${String(letter?.id)}`)).status).toBe(204);
  expect((await remove(`/api/v1/dead-letters/${String(letter?.id)}`)).status).toBe(404);
  expect(await letters()).toEqual([]);
});
