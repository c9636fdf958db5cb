import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import vectors from '../fixtures/webhooks/vectors.json';
import type { Env } from '../../src/env.ts';
import { keysOf } from '../../src/webhooks/provider.ts';
import { findProvider } from '../../src/webhooks/providers.ts';
import { WebhookRequest } from '../../src/webhooks/request.ts';
import { emptyDatabase } from '../worker/bench.ts';
import { encode, get, send, type Reply } from '../worker/client.ts';
import { FIXTURES, send as signed } from '../worker/senders.ts';

beforeEach(emptyDatabase);

/** Everything else is accepted. */
const OTHERWISE: Readonly<Record<string, string>> = {
  'github/ping/payload.json': 'ignored',
  'slack/docs/url_verification.json': 'handshake',
};

const PROVIDERS = ['github', 'mailgun', 'slack', 'openphone'];

test('there is a payload of every kind to try', () => {
  const counts = PROVIDERS.map((name) => FIXTURES.filter(({ file }) => file.startsWith(`${name}/`)).length);
  for (const [at, least] of [60, 20, 25, 17].entries()) expect(counts[at]).toBeGreaterThanOrEqual(least);
  for (const file of Object.keys(OTHERWISE)) expect(FIXTURES.map((each) => each.file)).toContain(file);
});

test.for(PROVIDERS)(
  'every real payload of %s gets its verdict once, and the job of every accepted one succeeds',
  { timeout: 120_000 },
  async (provider) => {
    const seen = new Set<string>();
    for (const fixture of FIXTURES.filter(({ file }) => file.startsWith(`${provider}/`))) {
      const wanted = OTHERWISE[fixture.file] ?? 'accepted';
      const reply = await send(await signed(fixture));
      expect([fixture.file, reply.status, verdictOf(reply)]).toEqual([fixture.file, 200, wanted]);
      const id = reply.headers.get('x-job-id');
      if (wanted !== 'accepted') {
        expect(id).toBeNull();
        continue;
      }
      const job = (await get(`/api/v1/jobs/${String(id)}?wait=10`)).body;
      expect([fixture.file, job['state'], job['source']]).toEqual([fixture.file, 'SUCCESS', `webhook:${provider}`]);
      const { event } = job['result'] as { event: string };
      expect([fixture.file, event]).not.toContain('unknown');
      seen.add(String(id));
    }
    const { items } = (await get(`/api/v1/deliveries?provider=${provider}&limit=200`)).body as {
      items: { verdict: string; job_id: string | null }[];
    };
    expect(new Set(items.filter(({ verdict }) => verdict === 'accepted').map(({ job_id }) => job_id))).toEqual(seen);
    expect(items.length).toBe(FIXTURES.filter(({ file }) => file.startsWith(`${provider}/`)).length);
  },
);

// A person who waits at Slack is answered with nothing: then the job's id says that it was taken.
function verdictOf({ headers, body }: Reply): unknown {
  if (body['text'] === undefined) return body['status'];
  if (body['text'] === '') return headers.has('x-job-id') ? 'accepted' : 'nothing';
  return headers.get('content-type')?.startsWith('text/plain') === true ? 'handshake' : 'nothing';
}

describe('the examples that providers publish', () => {
  test.for(vectors.vectors)('of $provider verify, and no longer with one bit flipped', async (vector) => {
    const name = vector.provider.startsWith('standard') ? 'openphone' : vector.provider;
    const provider = findProvider(name);
    if (provider === undefined) throw new Error(name);
    const settings = {
      GITHUB_WEBHOOK_SECRET: vector.secret,
      SLACK_SIGNING_SECRET: vector.secret,
      OPENPHONE_SIGNING_KEY: vector.secret,
    } as Env;
    const headers: Record<string, string | undefined> = vector.headers;
    const at = Number(headers['x-slack-request-timestamp'] ?? headers['webhook-timestamp'] ?? '0') * 1_000;
    const body = encode(vector.body);
    const verify = (bytes: Uint8Array<ArrayBuffer>, now = at): Promise<string> =>
      provider.verify(
        new WebhookRequest(new Headers(headers as Record<string, string>), bytes),
        keysOf(provider, settings),
        now,
        settings,
      );
    expect(await verify(body)).toBe('good');
    for (const bit of [0, 8 * body.length - 1]) {
      const flipped = body.slice();
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(await verify(flipped)).toBe('bad');
    }
    if (at > 0)
      expect([await verify(body, at + 301_000), await verify(body, at - 301_000)]).toEqual(['stale', 'stale']);
    if (at > 0) expect([await verify(body, at + 300_000), await verify(body, at - 300_000)]).toEqual(['good', 'good']);
  });
});

test('what is signed by nobody is counted and never written', async () => {
  const before = await counted();
  const reply = await send(await signed(FIXTURES[0] ?? { file: '', text: '' }, { signature: 'sha256=00' }));
  expect(reply.status).toBe(401);
  expect(await counted()).toBe(before + 1);
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM deliveries`).first()).toEqual({ n: 0 });
});

async function counted(): Promise<number> {
  const { refused } = (await get('/api/v1/deliveries')).body as { refused: Record<string, Record<string, number>> };
  return refused['github']?.['bad_signature'] ?? 0;
}
