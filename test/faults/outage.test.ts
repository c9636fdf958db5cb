import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { tick } from '../../src/cron/tick.ts';
import { processWebhook } from '../../src/tasks/webhooks/process-webhook.ts';
import { emptyDatabase, START, type Bench } from '../worker/bench.ts';
import { ADMIN_KEY, serve } from '../worker/client.ts';
import { fromGithub } from '../worker/senders.ts';
import { World, type Fate, type Port } from '../worker/world.ts';

beforeEach(emptyDatabase);
afterEach(() => {
  vi.restoreAllMocks();
});

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
/** As many webhooks, and as many calls, in a minute. */
const EACH = 500;
/** Arrive together. */
const AT_ONCE = 10;

interface Reply {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly id: string;
}

async function answered(bench: Bench, request: Request): Promise<Reply> {
  const response = await serve(bench.rt, request);
  const reply: { id?: string; job_id?: string } = await response.json();
  return {
    status: response.status,
    retryAfter: response.headers.get('retry-after'),
    id: reply.id ?? reply.job_id ?? '',
  };
}

async function webhook(bench: Bench, name: string): Promise<Reply> {
  return answered(bench, await fromGithub(JSON.stringify({ action: 'opened', name }), 'issues', { id: name }));
}

async function call(bench: Bench, key: string): Promise<Reply> {
  const body = JSON.stringify({ task: 'debug.effect', input: { key } });
  const headers = {
    authorization: `Bearer ${ADMIN_KEY}`,
    'content-type': 'application/json',
    'idempotency-key': key,
  };
  return answered(bench, new Request('http://lovage.test/api/v1/jobs', { method: 'POST', headers, body }));
}

/** Webhooks and calls, distinct, spread over a minute, several at once. Names are scoped: the guard remembers them. */
async function arrive(world: World, bench: Bench, scope: string): Promise<readonly Reply[]> {
  const arrivals = Array.from({ length: EACH }, async (_, at) => {
    await world.clock.sleep((Math.floor(at / AT_ONCE) * AT_ONCE * MINUTE) / EACH);
    const name = `${scope}-${String(at)}`;
    return Promise.all([webhook(bench, name), call(bench, name)]);
  });
  return (await Promise.all(arrivals)).flat();
}

/** Who ran how often: every key of debug.effect once, and every webhook once. */
async function expectAllRanOnce(processed: readonly string[]): Promise<void> {
  const { results } = await env.DB.prepare(
    `SELECT task, state, count(*) AS n FROM jobs GROUP BY 1, 2 ORDER BY 1`,
  ).all();
  expect(results).toEqual([
    { task: 'debug.effect', state: 'SUCCESS', n: EACH },
    { task: 'process_webhook', state: 'SUCCESS', n: EACH },
  ]);
  const effects = await env.DB.prepare(
    `SELECT count(*) AS runs, count(DISTINCT key) AS keys FROM debug_effects`,
  ).first();
  expect(effects).toEqual({ runs: EACH, keys: EACH });
  expect([processed.length, new Set(processed).size]).toEqual([EACH, EACH]);
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM dead_letters`).first()).toEqual({ n: 0 });
}

/** The ids of webhooks that were processed, in order, while the test lasts. */
function watchWebhooks(): readonly string[] {
  const processed: string[] = [];
  const run = processWebhook.run.bind(processWebhook);
  vi.spyOn(processWebhook, 'run').mockImplementation((input, job) => {
    processed.push(job.id);
    return run(input, job);
  });
  return processed;
}

async function open(): Promise<number> {
  return Number((await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE finished_at IS NULL`).first())?.['n']);
}

/** A minute of arrivals with consumers at work, then minutes of ticks and deliveries until nothing is left. */
async function live(
  world: World,
  scope: string,
  fault: (port: Port, elapsed: number) => Fate,
): Promise<readonly Reply[]> {
  const now = (port: Port): Fate => fault(port, world.clock.now() - START);
  const [front, back] = [world.isolate({ fault: now }), world.isolate({ fault: now })];
  const minute = arrive(world, front, scope);
  const delivering = world.keepDelivering(back, START + MINUTE, SECOND);
  const replies = await world.run(minute);
  await world.run(delivering);
  await world.run(front.background());
  for (let passed = 1; passed <= 15 && (await open()) > 0; passed += 1) {
    await world.run(tick(back.rt, undefined));
    await world.run(world.keepDelivering(back, START + (passed + 1) * MINUTE, MINUTE));
  }
  expect(world.broker.size).toBe(0);
  return replies;
}

test('the database fails for a minute in which 500 webhooks and 500 calls come: all are taken, and each runs once', async () => {
  const processed = watchWebhooks();
  const fates: Fate[] = [];
  const replies = await live(new World(), 'database', (port, elapsed) => {
    if (port !== 'database' || elapsed >= MINUTE) return 'answered';
    const fate = elapsed < 30 * SECOND ? 'refused' : elapsed < 40 * SECOND ? 'done, refused' : 'silent';
    fates.push(fate);
    return fate;
  });
  expect(new Set(fates)).toEqual(new Set(['refused', 'done, refused', 'silent']));
  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200, 202]));
  expect(new Set(replies.map(({ id }) => id)).size).toBe(2 * EACH);
  await expectAllRanOnce(processed);
}, 120_000);

test('the queues refuse for that minute: the rows stand for the messages, and each message is sent once', async () => {
  const processed = watchWebhooks();
  const world = new World();
  const replies = await live(world, 'queue', (port, elapsed) =>
    port === 'queue' && elapsed < MINUTE ? 'refused' : 'answered',
  );
  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200, 202]));
  expect([world.broker.taken.length, new Set(world.broker.taken).size]).toEqual([2 * EACH, 2 * EACH]);
  expect(await env.DB.prepare(`SELECT sum(resends) AS n FROM jobs`).first()).toEqual({ n: 0 });
  await expectAllRanOnce(processed);
}, 120_000);

test('both fail: the caller is told when to come again, and who does so under the same key has one job', async () => {
  const world = new World();
  const down = world.isolate({ fault: (port) => (port === 'guard' || port === 'objects' ? 'answered' : 'refused') });
  const names = Array.from({ length: 20 }, (_, at) => `both-${String(at)}`);
  const refused = await world.run(Promise.all(names.flatMap((name) => [webhook(down, name), call(down, name)])));
  expect(new Set(refused.map(({ status, retryAfter }) => `${String(status)} ${String(retryAfter)}`))).toEqual(
    new Set(['503 5']),
  );
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM jobs`).first()).toEqual({ n: 0 });
  expect(world.broker.taken).toEqual([]);

  await world.pass(5 * SECOND);
  const up = world.isolate();
  // Twice, and both at once: whoever was refused may well be impatient.
  const again = await world.run(
    Promise.all([...names, ...names].flatMap((name) => [webhook(up, name), call(up, name)])),
  );
  expect(again.filter(({ status }) => status >= 300)).toEqual([]);
  expect(new Set(again.map(({ id }) => id)).size).toBe(2 * names.length);
  await world.deliver(up);
  const { results } = await env.DB.prepare(`SELECT state, attempt, count(*) AS n FROM jobs GROUP BY 1, 2`).all();
  expect(results).toEqual([{ state: 'SUCCESS', attempt: 1, n: 2 * names.length }]);
  const effects = await env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first();
  expect(effects).toEqual({ n: names.length });
  expect(new Set(world.broker.taken).size).toBe(world.broker.taken.length);
}, 120_000);
