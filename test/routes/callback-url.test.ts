import { expect, it } from 'vitest';
import { post } from '../worker/client.ts';

const job = (callback_url: unknown): unknown => ({ task: 'debug_task', options: { callback_url } });
const WRONG = [
  'ftp://example.com/',
  'no url',
  'https://a:b@example.com/',
  `https://example.com/${'x'.repeat(2_048)}`,
  7,
];

it.each(WRONG)('a callback_url of %s is 422, and its place is named', async (url) => {
  const { status, body } = await post('/api/v1/jobs', job(url));
  expect(status).toBe(422);
  expect(body['errors']).toEqual([{ path: 'options.callback_url', message: expect.any(String) as string }]);
});

it('in a batch a wrong callback_url spoils its own job and no other', async () => {
  const jobs = [job('https://example.com/hook'), job('no url'), { task: 'debug_task' }];
  const { status, body } = await post('/api/v1/jobs/batch', { jobs });
  expect(status).toBe(202);
  expect(body['jobs']).toMatchObject([
    { state: 'PENDING' },
    { error: { status: 422, errors: [{ path: 'options.callback_url' }] } },
    { state: 'PENDING' },
  ]);
});

it('another callback_url under one Idempotency-Key is another call', async () => {
  const headers = { 'idempotency-key': 'one-callback' };
  expect(await post('/api/v1/jobs', job('https://example.com/1'), headers)).toMatchObject({ status: 202 });
  expect(await post('/api/v1/jobs', job('https://example.com/1'), headers)).toMatchObject({ status: 200 });
  expect(await post('/api/v1/jobs', job('https://example.com/2'), headers)).toMatchObject({ status: 422 });
});
