import { afterEach, describe, expect, test } from 'vitest';
import { MAX_PROVIDER_ANSWER_BYTES, PROVIDER_DEADLINE_MS } from '../../src/core/limits-outside.ts';
import { ConfigurationError, Discard, RateLimited, Retry, SoftTimeLimitExceeded } from '../../src/jobs/outcome.ts';
import { exchange, nextPage, type Reply } from '../../src/providers/exchange.ts';
import { GithubHooks, nextOf } from '../../src/providers/github.ts';
import { listen, type Listening } from '../fakes/listen.ts';
import { manualClock } from './manual-clock.ts';

const NOW = Date.UTC(2026, 10, 21, 12);
const SECRET = 'a-very-secret-token';

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
});

async function serving(handle: (request: Request) => Response | Promise<Response>): Promise<string> {
  const server = await listen(handle);
  open.push(server);
  return server.address;
}

function ask(address: string, clock = manualClock(NOW), signal = new AbortController().signal): Promise<Reply> {
  const headers = { authorization: SECRET };
  const url = new URL(`/?key=${SECRET}`, address);
  return exchange({ clock, signal }, { what: 'The question', url, method: 'GET', headers, advice: 'Do this.' });
}

async function errorOf(asking: Promise<unknown>): Promise<Error> {
  const error: unknown = await asking.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error('It did not fail.');
  expect(`${error.message} ${String(error.stack)} ${JSON.stringify(error)}`).not.toContain(SECRET);
  return error;
}

describe('what an answer means for the job', () => {
  const headers = (entries: Record<string, string>): Response => new Response('', { status: 403, headers: entries });
  const reset = String(NOW / 1_000 + 60);

  test.each([
    [401, () => new Response('', { status: 401 }), ConfigurationError],
    [403, () => new Response('', { status: 403 }), ConfigurationError],
    [404, () => new Response('', { status: 404 }), ConfigurationError],
    ['301', () => new Response('', { status: 301, headers: { location: '/elsewhere' } }), ConfigurationError],
    [422, () => new Response(SECRET, { status: 422 }), Discard],
    [429, () => new Response('', { status: 429 }), RateLimited],
    [
      '403 for coming too often',
      () => headers({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset }),
      RateLimited,
    ],
    ['403 to wait', () => headers({ 'retry-after': '5' }), RateLimited],
    ['403 that only its text explains', () => new Response('secondary rate limit', { status: 403 }), RateLimited],
    ['503 to wait', () => new Response('', { status: 503, headers: { 'retry-after': '9' } }), Retry],
    [500, () => new Response('', { status: 500 }), Error],
    [408, () => new Response('', { status: 408 }), Error],
  ])('%s', async (_, answer, kind) => {
    const error = await errorOf(ask(await serving(answer)));
    expect(error.constructor).toBe(kind);
    expect(error.message).toMatch(/^The question: answered \d+/);
  });

  test('how long to wait is what it says: seconds, the reset of its limit, or a minute', async () => {
    const afterSeconds = async (response: () => Response): Promise<unknown> => {
      const error = await errorOf(ask(await serving(response)));
      return error instanceof Retry ? error.afterSeconds : error;
    };
    expect(await afterSeconds(() => headers({ 'retry-after': '5' }))).toBe(5);
    expect(await afterSeconds(() => headers({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset }))).toBe(61);
    expect(await afterSeconds(() => new Response('', { status: 429 }))).toBe(60);
  });
});

test('an address that moves is not followed: whoever it moves to would be handed the token', async () => {
  const seen: string[] = [];
  const elsewhere = await serving((request) => {
    seen.push(request.url);
    return new Response('');
  });
  const here = await serving(() => new Response('', { status: 307, headers: { location: elsewhere } }));
  await errorOf(ask(here));
  expect(seen).toEqual([]);
});

test('nobody waits longer than the limit for an answer that does not come', async () => {
  const clock = manualClock(NOW);
  const asking = errorOf(ask(await serving(() => new Promise<never>(() => undefined)), clock));
  while (clock.sleepers() === 0) await new Promise((turn) => setTimeout(turn, 1));
  clock.advance(PROVIDER_DEADLINE_MS);
  expect((await asking).message).toBe('The question: no answer within 10 s');
});

test('a job that is told to stop stops asking, with what it was told', async () => {
  const controller = new AbortController();
  const address = await serving(() => new Promise<never>(() => undefined));
  const asking = errorOf(ask(address, manualClock(NOW), controller.signal));
  controller.abort(new SoftTimeLimitExceeded('over'));
  expect(await asking).toBeInstanceOf(SoftTimeLimitExceeded);
});

test('an answer larger than any is not read to its end', async () => {
  const chunk = new Uint8Array(MAX_PROVIDER_ANSWER_BYTES / 4).fill(97);
  const body = (chunks: number): Response => new Response(new Blob(Array.from({ length: chunks }, () => chunk)));
  expect((await ask(await serving(() => body(4)))).text).toHaveLength(MAX_PROVIDER_ANSWER_BYTES);
  expect((await errorOf(ask(await serving(() => body(5))))).message).toContain('larger than any');
});

test('nobody at the address is an error that may pass', async () => {
  const server = await listen(() => new Response(''));
  await server.close();
  expect((await errorOf(ask(server.address))).constructor).toBe(Error);
});

test('a next page is taken from the same host only', () => {
  const base = new URL('https://api.example.com/v3/');
  expect(nextPage('x', base, 'https://api.example.com/anything?page=2').href).toBe(
    'https://api.example.com/anything?page=2',
  );
  for (const foreign of [
    'https://api.example.com.evil.test/',
    'http://api.example.com/',
    'https://api.example.com:444/',
    '//evil.test/',
    'https://',
  ]) {
    expect(() => nextPage('x', base, foreign)).toThrow(Discard);
  }
});

test.each([
  ['<https://a.test/?page=2>; rel="next"', 'https://a.test/?page=2'],
  ['<https://a.test/?p=1>; rel="prev", <https://a.test/?p=3,4>; rel="next"', 'https://a.test/?p=3,4'],
  ['<https://a.test/?p=3>; rel=next; title="x"', 'https://a.test/?p=3'],
  ['<https://a.test/?p=1>; rel="prev"', undefined],
  ['nonsense', undefined],
  [null, undefined],
])('the next page of Link %j is %j', (link, next) => {
  expect(nextOf(link)).toBe(next);
});

test('ids of GitHub are kept to their last digit, and one odd attempt hides no other', async () => {
  const attempt = '"guid":"g","delivered_at":"2026-11-21T11:00:00Z","redelivery":false,"event":"push"';
  const text = `[{"id":9007199254740993,${attempt}},{"id":12,"guid":7},{"id": 13,${attempt},"new":{"id":1}}]`;
  const base = new URL(await serving(() => new Response(text)));
  const asker = { clock: manualClock(NOW), signal: new AbortController().signal };
  const hooks = new GithubHooks(asker, { token: 't', hooks: [], base });
  const { attempts } = await hooks.deliveries('repos/a/b/hooks/1');
  expect(attempts.map(({ id }) => id)).toEqual(['9007199254740993', '13']);
});
