import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Env } from '../../src/env.ts';
import { tick } from '../../src/cron/tick.ts';
import { newId } from '../../src/core/ids.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, passing, settled, START } from '../worker/bench.ts';
import { ask, serve } from '../worker/client.ts';
import { formFromMailgun, fromGithub, fromQuo, fromSlack } from '../worker/senders.ts';

beforeEach(emptyDatabase);

const DAY = 86_400_000;

interface Delivery {
  readonly id: string;
  readonly provider: string;
  readonly event: string;
  readonly event_id: string | null;
  readonly verdict: string;
  readonly job_id: string | null;
  readonly redelivered_as: string | null;
}

interface Listed {
  readonly items: readonly Delivery[];
  readonly next_cursor: string | null;
  readonly refused: Record<string, Record<string, number>>;
}

const now = (bench: Bench): number => Math.floor(bench.clock.now() / 1_000);
const unique = (): string => JSON.stringify({ action: 'opened', unique: crypto.randomUUID() });

// Each a moment after the other: within one millisecond there is no order.
async function deliver(bench: Bench, request: Request): Promise<Response> {
  await bench.clock.sleep(1);
  const response = await serve(bench.rt, request);
  await bench.background();
  return response;
}

async function list(bench: Bench, query = ''): Promise<Listed> {
  const response = await ask(bench.rt, `/api/v1/deliveries?${query}`);
  expect(response.status).toBe(200);
  return response.json();
}

describe('the list of deliveries', () => {
  test('says of each what came, from whom, how large, how fast, and what it became; newest first', async () => {
    const bench = new Bench();
    const body = unique();
    await deliver(bench, await fromGithub(body, 'issues', { id: 'guid-1' }));
    await deliver(bench, await fromGithub(body, 'issues', { id: 'guid-1' }));
    await deliver(bench, await fromGithub('{}', 'ping', { id: 'guid-2' }));
    const challenge = JSON.stringify({ type: 'url_verification', challenge: 'x' });
    await deliver(bench, await fromSlack(challenge, { timestamp: now(bench) }));
    const { items, next_cursor: next } = await list(bench);
    expect(next).toBeNull();
    const shown = items.map(({ provider, event, event_id: id, verdict, job_id: job }) => [
      provider,
      event,
      id,
      verdict,
      job !== null,
    ]);
    expect(shown.reverse()).toEqual([
      ['github', 'issues', 'guid-1', 'accepted', true],
      ['github', 'issues', 'guid-1', 'duplicate', true],
      ['github', 'ping', null, 'ignored', false],
      ['slack', 'url_verification', null, 'handshake', false],
    ]);
    const [first] = (await list(bench, 'verdict=accepted')).items;
    expect(first).toEqual({
      id: expect.any(String) as string,
      provider: 'github',
      event: 'issues',
      event_id: 'guid-1',
      verdict: 'accepted',
      job_id: expect.any(String) as string,
      status_url: `/api/v1/jobs/${String(first?.job_id)}`,
      bytes: body.length,
      latency_ms: expect.any(Number) as number,
      received_at: new Date(START + 1).toISOString(),
      redelivered_as: null,
    });
    expect(await (await ask(bench.rt, `/api/v1/deliveries/${String(first?.id)}`)).json()).toEqual(first);
  });

  test('is narrowed by every filter, paged, and refuses what it does not know', async () => {
    const bench = new Bench();
    for (let each = 0; each < 3; each += 1)
      await deliver(bench, await fromGithub(unique(), each === 0 ? 'push' : 'issues', { id: `id-${String(each)}` }));
    await deliver(bench, await formFromMailgun([['event', 'opened']], { timestamp: now(bench) }));
    const [newest] = (await list(bench)).items;
    const counts: [string, number][] = [
      ['provider=github', 3],
      ['provider=mailgun&event=opened', 1],
      ['event=push', 1],
      ['event_id=id-2', 1],
      [`job_id=${String(newest?.job_id)}`, 1],
      ['verdict=duplicate', 0],
      [`since=${new Date(START).toISOString()}`, 4],
      [`until=${new Date(START).toISOString()}`, 0],
      [`since=${new Date(START + DAY).toISOString()}`, 0],
      [`until=${new Date(START + DAY).toISOString()}`, 4],
    ];
    for (const [query, count] of counts)
      expect([query, (await list(bench, query)).items.length]).toEqual([query, count]);
    const first = await list(bench, 'limit=3');
    const second = await list(bench, `limit=3&cursor=${String(first.next_cursor)}`);
    const ids = [...first.items, ...second.items].map(({ id }) => id);
    expect([ids.length, new Set(ids).size, second.next_cursor]).toEqual([4, 4, null]);
    for (const query of ['verdict=lost', 'limit=0', 'cursor=x', 'since=yesterday', 'provder=github']) {
      expect([query, (await ask(bench.rt, `/api/v1/deliveries?${query}`)).status]).toEqual([query, 422]);
    }
    expect((await ask(bench.rt, '/api/v1/deliveries/nonsense')).status).toBe(404);
    expect((await serve(bench.rt, new Request('http://lovage.test/api/v1/deliveries'))).status).toBe(401);
  });

  test('counts what was refused and why, without a row', async () => {
    const bench = new Bench();
    await deliver(bench, await fromGithub(unique(), 'issues', { secret: 'wrong' }));
    await deliver(bench, await fromGithub('no json', 'issues'));
    await deliver(bench, await fromSlack('{}', { timestamp: now(bench) - 400 }));
    await deliver(bench, await fromSlack('x'.repeat(1_100_000), { timestamp: now(bench) }));
    const { items, refused } = await list(bench);
    expect(items).toEqual([]);
    expect(refused).toEqual({
      github: { bad_signature: 1, malformed: 1 },
      slack: { stale_signature: 1, too_large: 1 },
    });
  });

  test('is written after the answer: a database that fails then costs the record, never the delivery', async () => {
    const bench = new Bench();
    bench.db.fault = (names) =>
      names === 'deliveries' ? { when: 'before', error: new Error('Network connection lost') } : undefined;
    const answer = await deliver(bench, await fromGithub(unique(), 'issues'));
    expect(await answer.json()).toMatchObject({ status: 'accepted' });
    bench.db.fault = () => undefined;
    expect((await list(bench)).items).toEqual([]);
    await deliver(bench, await fromGithub(unique(), 'issues'));
    expect((await list(bench)).items.length).toBe(1);
  });

  test('of one moment is one statement, however many they are', async () => {
    const bench = new Bench();
    const requests = await Promise.all(Array.from({ length: 50 }, () => fromGithub(unique(), 'issues')));
    await Promise.all(requests.map((request) => serve(bench.rt, request)));
    await bench.background();
    const writes = bench.statements('deliveries');
    expect((await list(bench, 'limit=200')).items.length).toBe(50);
    expect(writes).toBeLessThanOrEqual(10);
  });
});

test('a delivery that is taken after its sender was sent away is written down all the same', async () => {
  let answers: (() => void) | undefined;
  const slow = new Promise<void>((resolve) => (answers = resolve));
  const ports = ({ replay }: Bench['rt']): Partial<Bench['rt']> => ({
    replay: {
      ...replay,
      claim: async (scope, claim) => {
        await slow;
        return replay.claim(scope, claim);
      },
    },
  });
  const clock = new HeldClock(START);
  const bench = new Bench({ ports, clock });
  const body = JSON.stringify({ type: 'event_callback', event_id: crypto.randomUUID(), event: { type: 'message' } });
  const answering = serve(bench.rt, await fromSlack(body, { timestamp: now(bench) }));
  await settled();
  await clock.advance(2_800);
  expect((await answering).status).toBe(503);
  answers?.();
  await bench.background();
  await bench.background();
  const { items } = await list(bench);
  expect(items.map(({ verdict }) => verdict)).toEqual(['accepted']);
});

test('a database that hangs keeps no later delivery from being written down', async () => {
  const bench = new Bench();
  bench.db.fault = (names) => (names === 'deliveries' ? 'hang' : undefined);
  await deliver(bench, await fromGithub(unique(), 'issues', { id: 'hung' }));
  bench.db.fault = () => undefined;
  await deliver(bench, await fromGithub(unique(), 'issues', { id: 'later' }));
  expect((await list(bench)).items.map(({ event_id: id }) => id)).toEqual(['later']);
});

test('more deliveries than one statement takes are written in several, and refusals are logged once a minute', async () => {
  const bench = new Bench({ clock: new HeldClock(START) });
  const row = { provider: 'github', event: 'push', event_id: null, verdict: 'accepted', job_id: null } as const;
  for (let each = 0; each < 2_500; each += 1) {
    const id = newId(START, crypto.getRandomValues(new Uint8Array(9)));
    bench.rt.isolate.deliveries.write(bench.rt, { ...row, id, bytes: 1, latency_ms: 1, received_at: START });
  }
  await bench.background();
  expect(bench.statements('deliveries')).toBe(4);
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM deliveries`).first()).toEqual({ n: 2_500 });

  const said = vi.spyOn(console, 'log');
  const refuse = (times: number): void => {
    for (let each = 0; each < times; each += 1) bench.rt.isolate.deliveries.refuse(bench.rt, 'github', 'bad_signature');
  };
  refuse(100);
  await (bench.clock as HeldClock).advance(60_000);
  refuse(100);
  const lines = said.mock.calls.filter(([line]) => String(line).includes('webhooks.refused'));
  said.mockRestore();
  expect(lines.length).toBe(2);
  expect(bench.rt.isolate.deliveries.refused()).toEqual({ github: { bad_signature: 200 } });
});

describe('a delivery that is redelivered', () => {
  async function accepted(bench: Bench, request: Request): Promise<Delivery> {
    await deliver(bench, request);
    await bench.drain();
    return newest(bench);
  }

  async function newest(bench: Bench): Promise<Delivery> {
    const [delivery] = (await list(bench)).items;
    if (delivery === undefined) throw new Error('Nothing was written down.');
    return delivery;
  }

  const redeliver = (bench: Bench, { id }: Delivery): Promise<Response> =>
    ask(bench.rt, `/api/v1/deliveries/${id}/redeliver`, { method: 'POST' });

  test('is read again from its stored bytes and headers, and is a job of its own', async () => {
    const bench = new Bench();
    const body = unique();
    const requests = [
      await fromGithub(new URLSearchParams({ payload: body }).toString(), 'issues', {
        type: 'application/x-www-form-urlencoded',
      }),
      await fromQuo(JSON.stringify({ id: 'EV1', type: 'call.missed', data: { resource: { id: 'AC1' } } }), {
        timestamp: now(bench),
      }),
      await formFromMailgun([['recipient', 'a@b.example']], { timestamp: now(bench) }),
    ];
    for (const request of requests) {
      const delivery = await accepted(bench, request);
      const answer = await redeliver(bench, delivery);
      const made = await answer.json<{ id: string }>();
      expect([answer.status, answer.headers.get('location')]).toEqual([202, `/api/v1/jobs/${made.id}`]);
      expect((await redeliver(bench, delivery)).status).toBe(409);
      await bench.drain();
      const [first, again] = [await bench.job(String(delivery.job_id)), await bench.job(made.id)];
      expect([again.state, again.retry_of, again.source]).toEqual(['SUCCESS', first.id, first.source]);
      const { received_at: _, ...said } = again.input as Record<string, unknown>;
      expect(first.input).toMatchObject(said);
      expect((await list(bench, `job_id=${first.id}`)).items[0]?.redelivered_as).toBe(made.id);
    }
  });

  test('waits until its job has ended, and needs a body that is kept and says something', async () => {
    const bench = new Bench();
    await deliver(bench, await fromGithub(unique(), 'issues'));
    const open = await newest(bench);
    const early = await redeliver(bench, open);
    expect([early.status, await early.json()]).toMatchObject([
      409,
      { detail: expect.stringMatching(/PENDING/) as string },
    ]);
    await bench.drain();
    await (env as unknown as Env).OBJECTS.delete(`webhooks/github/${String(open.job_id)}`);
    expect((await redeliver(bench, open)).status).toBe(409);
    await deliver(bench, await fromGithub('{}', 'ping'));
    expect((await redeliver(bench, await newest(bench))).status).toBe(409);
    // Of a provider that this deployment no longer has.
    await env.DB.prepare(`UPDATE deliveries SET provider = 'gone', job_id = ?1`).bind(open.job_id).run();
    expect((await redeliver(bench, await newest(bench))).status).toBe(409);
    expect(
      (await ask(bench.rt, `/api/v1/deliveries/${newId(START, new Uint8Array(9))}/redeliver`, { method: 'POST' }))
        .status,
    ).toBe(404);
  });

  test('is 503 while its body cannot be read', async () => {
    const fails = (): Promise<never> => Promise.reject(new Error('10001: We encountered an internal error.'));
    let broken = false;
    const ports = ({ env: bindings }: Bench['rt']): Partial<Bench['rt']> => ({
      env: { ...bindings, OBJECTS: passing(bindings.OBJECTS, (call) => (broken ? fails() : call())) },
    });
    const bench = new Bench({ ports });
    const delivery = await accepted(bench, await fromGithub(unique(), 'issues'));
    broken = true;
    const answer = await redeliver(bench, delivery);
    expect([answer.status, answer.headers.has('retry-after')]).toEqual([503, true]);
  });

  test('has its body when its job has long left: both are kept for thirty days', async () => {
    const bench = new Bench({ clock: new FastClock(START) });
    const delivery = await accepted(bench, await fromGithub(unique(), 'issues'));
    (bench.clock as FastClock).set(START + 29 * DAY);
    for (let round = 0; round < 3; round += 1) await tick(bench.rt, undefined);
    expect((await ask(bench.rt, `/api/v1/jobs/${String(delivery.job_id)}`)).status).toBe(404);
    expect((await redeliver(bench, delivery)).status).toBe(202);
  });
});

test('deliveries leave after thirty days, after seven where the database fills up', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  await deliver(bench, await fromGithub(unique(), 'issues'));
  clock.set(START + 30 * DAY - 1_000);
  await tick(bench.rt, undefined);
  expect((await list(bench)).items.length).toBe(1);
  clock.set(START + 30 * DAY + 1_000);
  await tick(bench.rt, undefined);
  expect((await list(bench)).items).toEqual([]);

  clock.set(START + 40 * DAY);
  const filling = new Bench({ clock, settings: { DATABASE_LIMIT_MB: '0.001' } });
  await deliver(bench, await fromGithub(unique(), 'issues'));
  clock.set(START + 46 * DAY);
  await tick(filling.rt, undefined);
  expect((await list(bench)).items.length).toBe(1);
  clock.set(START + 48 * DAY);
  await tick(filling.rt, undefined);
  expect((await list(bench)).items).toEqual([]);
});
