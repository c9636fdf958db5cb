import { env } from 'cloudflare:workers';
import { Webhook } from 'standardwebhooks';
import { beforeEach, describe, expect, it, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { callbackOf, sendCallbacks } from '../../src/jobs/callbacks.ts';
import { findJob, revoke, runAgain } from '../../src/jobs/inspect.ts';
import { jobJson } from '../../src/jobs/job-json.ts';
import { payloadOfRow } from '../../src/jobs/payloads.ts';
import { requeue } from '../../src/jobs/requeue.ts';
import { deadLetterId } from '../../src/jobs/verdict.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { FINISH_LINGER_MS, LEASE_MS } from '../../src/core/limits.ts';
import { CALLBACK_RETRY_SECONDS } from '../../src/core/limits-outside.ts';
import type { Json } from '../../src/core/json.ts';
import { claimJobs } from '../../src/store/claims.ts';
import type { JobRow } from '../../src/store/rows.ts';
import { Bench, emptyDatabase, HeldClock, outage, START } from '../worker/bench.ts';
import { forbidden, OUTSIDE, receiver, untilSeen, type Receiver } from '../worker/receiver.ts';

const secretive = defineTask({
  name: 'secretive',
  queue: 'default',
  sensitive: true,
  resultTtlSeconds: 60,
  input: z.unknown(),
  run: () => 'a secret',
});

beforeEach(emptyDatabase);

interface Stage {
  readonly bench: Bench;
  readonly clock: HeldClock;
}

function stage(settings: ConstructorParameters<typeof Bench>[0] = {}): Stage {
  const clock = new HeldClock(START);
  return { clock, bench: new Bench({ clock, tasks: [secretive], settings: OUTSIDE, ...settings }) };
}

/** Runs everything there is, one by one, the messages that follow a finish included. */
async function settle(bench: Bench): Promise<void> {
  do {
    for (const { envelope } of bench.queues.take()) await bench.deliver([envelope], { queue: envelope.queue });
    await bench.background();
  } while (bench.queues.sent.length > 0);
}

async function call(
  bench: Bench,
  url: string,
  task = 'debug_task',
  options: Record<string, Json> = {},
): Promise<string> {
  const { id } = await bench.enqueue({ task, input: { times: 9 }, options: { callback_url: url, ...options } });
  return id;
}

/** The callback's own job. */
async function callbackFor(bench: Bench, jobId: string): Promise<JobRow> {
  return bench.job(callbackOf(jobId, '').id);
}

async function bodiesOf(to: Receiver): Promise<readonly { type: string; timestamp: string; data: JobRow }[]> {
  // What the task sent: the test says what it should be.
  return (await to.seen()).map(({ body }) => JSON.parse(body) as { type: string; timestamp: string; data: JobRow });
}

async function countJobs(): Promise<unknown> {
  return env.DB.prepare(`SELECT count(*) AS n FROM jobs`).first('n');
}

describe('a job with a callback_url', () => {
  it('that succeeded is told as it is read, without its input', async () => {
    const { bench } = stage();
    const to = receiver({ status: 204 });
    const id = await call(bench, to.url);
    await settle(bench);

    const job = await bench.job(id);
    const { input: _, ...payload } = payloadOfRow(job, bench.clock.now());
    expect(await bodiesOf(to)).toEqual([
      { type: 'job.succeeded', timestamp: new Date(START).toISOString(), data: jobJson(job, START, payload, true) },
    ]);
    expect((await bodiesOf(to))[0]?.data).not.toHaveProperty('input');
    expect((await bodiesOf(to))[0]?.data).toMatchObject({ id, state: 'SUCCESS', result: { input: { times: 9 } } });
    expect(await callbackFor(bench, id)).toMatchObject({
      state: 'SUCCESS',
      task: 'deliver_callback',
      queue: 'bulk',
      source: 'callback',
      parent_id: id,
      input: { job_id: id, url: to.url },
      result: { status: 204, webhook_id: `msg_${callbackOf(id, '').id}` },
    });
  });

  it('that failed is told, with its error', async () => {
    const { bench } = stage();
    const to = receiver({});
    const id = await call(bench, to.url, 'debug.fail', { max_retries: 0 });
    await settle(bench);
    expect(await bodiesOf(to)).toMatchObject([{ type: 'job.failed', data: { id, error: { code: 'exception' } } }]);
  });

  it('that waits for its next attempt is not told yet', async () => {
    const { bench } = stage();
    const to = receiver({});
    await call(bench, to.url, 'debug.fail', { max_retries: 1 });
    await settle(bench);
    expect(await to.seen()).toEqual([]);
    expect(await countJobs()).toBe(1);
  });

  it('that was revoked before it started is told by the next tick', async () => {
    const { bench } = stage();
    const to = receiver({});
    const id = await call(bench, to.url);
    await revoke(bench.rt, id, false);
    await tick(bench.rt, undefined);
    await settle(bench);
    expect(await bodiesOf(to)).toMatchObject([{ type: 'job.revoked', data: { id, error: { code: 'revoked' } } }]);
  });

  it('that expired is told', async () => {
    const { bench, clock } = stage();
    const to = receiver({});
    const id = await call(bench, to.url, 'debug_task', { expires: 30 });
    bench.queues.take();
    await clock.advance(30_000);
    await tick(bench.rt, undefined);
    await settle(bench);
    expect(await bodiesOf(to)).toMatchObject([{ type: 'job.revoked', data: { id, error: { code: 'expired' } } }]);
  });

  it('whose attempts all vanished is told', async () => {
    const { bench, clock } = stage();
    const to = receiver({});
    const id = await call(bench, to.url);
    for (const attempt of ['1', '2', '3', '4']) {
      bench.queues.take();
      await bench.db.run(claimJobs([id], attempt, clock.now(), true));
      await clock.advance(LEASE_MS + 1);
      await tick(bench.rt, undefined);
    }
    // The tick that gave it up had handed out its messages a moment before, or after.
    await tick(bench.rt, undefined);
    await settle(bench);
    expect(await bodiesOf(to)).toMatchObject([{ type: 'job.failed', data: { id, error: { code: 'lost' } } }]);
  });

  it('gets its callback with its end, by one statement for a whole group, and at once', async () => {
    const { bench, clock } = stage();
    const to = receiver({});
    for (let job = 0; job < 5; job += 1) await call(bench, to.url);
    const delivering = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
    // Outcomes are gathered for a moment.
    while (bench.statements('finish') === 0 || clock.sleeping > 0) await clock.advance(FINISH_LINGER_MS);
    await delivering;
    await bench.background();
    expect(bench.statements('callbacks')).toBeLessThanOrEqual(2);
    expect(bench.queues.sent.map(({ envelope }) => envelope.task)).toEqual(Array(5).fill('deliver_callback'));
    await settle(bench);
    expect(await to.seen()).toHaveLength(5);
  });

  it('keeps its callback where its finish was committed and the machine died: the tick sends it', async () => {
    const { bench } = stage();
    const to = receiver({});
    const id = await call(bench, to.url);
    bench.db.fault = (names) => (names === 'callbacks' ? { when: 'before', error: outage() } : undefined);
    await settle(bench);
    expect(await to.seen()).toEqual([]);
    expect(await callbackFor(bench, id)).toMatchObject({ state: 'PENDING', sent_at: null });

    const next = stage().bench;
    await tick(next.rt, undefined);
    await settle(next);
    expect(await bodiesOf(to)).toMatchObject([{ type: 'job.succeeded', data: { id } }]);
  });

  it('keeps its callback where the queue refused its message: it is owed again', async () => {
    const { bench } = stage();
    const id = await call(bench, receiver({}).url);
    const delivering = bench.queues.take().map(({ envelope }) => envelope);
    bench.queues.fault = 'refuse';
    await bench.deliver(delivering);
    await bench.background();
    expect(await callbackFor(bench, id)).toMatchObject({ sent_at: null });
  });

  it('has no callback where its finish was not committed', async () => {
    const broken = { name: 'broken', sql: 'INSERT INTO marks (name) VALUES (NULL)', params: [] };
    const ends = (names: readonly string[]): boolean => names.includes('finish');
    const { bench } = stage({
      ports: ({ db }) => ({
        db: {
          run: (statement) =>
            ends([statement.name]) ? db.batch([statement, broken]).then(() => expect.fail()) : db.run(statement),
          batch: (statements) =>
            db.batch(ends(statements.map(({ name }) => name)) ? [...statements, broken] : statements),
        },
      }),
    });
    const ids = [
      await call(bench, receiver({}).url),
      await call(bench, receiver({}).url, 'debug.fail', { max_retries: 0 }),
    ];
    for (const { envelope } of bench.queues.take()) await bench.deliver([envelope]);
    for (const id of ids) expect(await bench.job(id)).toMatchObject({ state: 'STARTED' });
    expect(await countJobs()).toBe(2);
  });

  it('that is sensitive keeps its result only as long, in its callback too', async () => {
    const on = stage();
    const to = receiver({ status: 500, headers: { 'retry-after': '60' } }, {});
    const id = await call(on.bench, to.url, 'secretive');
    await settle(on.bench);
    expect(await on.bench.job(id)).toMatchObject({ clears_at: START + 60_000, result: 'a secret' });
    await next(on, id);
    expect(await on.bench.job(id)).toMatchObject({ cleared_at: START + 60_000, result: null });
    const [first, second] = await bodiesOf(to);
    expect(first?.data).toMatchObject({ result: 'a secret', result_expired: false });
    expect(second?.data).toMatchObject({ result: null, result_expired: true });
  });

  it('has one for each of its runs: a retry and a requeue call for themselves', async () => {
    const { bench } = stage();
    const to = receiver({});
    const id = await call(bench, to.url, 'debug.fail', { max_retries: 0 });
    await settle(bench);
    const job = await findJob(bench.rt, id);
    const again = job === undefined ? undefined : await runAgain(bench.rt, job);
    const requeued = await requeue(bench.rt, deadLetterId(id), { times: 0 });
    await settle(bench);
    const ids = [
      id,
      again?.kind === 'accepted' ? again.id : expect.fail('It was not run again.'),
      requeued?.kind === 'requeued' ? requeued.jobId : expect.fail('It was not requeued.'),
    ];
    const told = await to.seen();
    expect((await bodiesOf(to)).map(({ data }) => data.id)).toEqual(expect.arrayContaining(ids));
    expect(told).toHaveLength(3);
    expect(new Set(told.map(({ headers }) => headers['webhook-id']))).toEqual(
      new Set(ids.map((each) => `msg_${callbackOf(each, '').id}`)),
    );
  });

  it('has one message for its callback, whoever else looks after it at that moment', async () => {
    const { bench } = stage();
    const id = await call(bench, receiver({}).url);
    bench.queues.take();
    await revoke(bench.rt, id, false);
    await tick(bench.rt, undefined);
    await sendCallbacks(bench.rt, [callbackOf(id, '').id]);
    expect(bench.queues.take().map(({ envelope }) => envelope.task)).toEqual(['deliver_callback']);
  });

  it('is told once, however often its last attempt is delivered', async () => {
    const { bench } = stage();
    const to = receiver({});
    await call(bench, to.url);
    const delivered = bench.queues.sent.map(({ envelope }) => envelope);
    await settle(bench);
    await bench.deliver(delivered);
    await settle(bench);
    await tick(bench.rt, undefined);
    await settle(bench);
    expect(await to.seen()).toHaveLength(1);
  });
});

test('a job without a callback_url asks for none', async () => {
  const { bench } = stage();
  await bench.enqueue({ task: 'debug_task' });
  await settle(bench);
  expect(bench.statements('callbacks')).toBe(0);
  expect(await countJobs()).toBe(1);
});

describe('a signature', () => {
  const PREVIOUS = `whsec_${btoa('the secret before the rotation')}`;

  it('is what Standard Webhooks verifies, by the current and by the previous secret', async () => {
    // Its own library compares with the real time.
    const clock = new HeldClock(Date.now());
    const { bench } = stage({ clock, settings: { ...OUTSIDE, CALLBACK_SIGNING_SECRET_PREVIOUS: PREVIOUS } });
    const to = receiver({});
    await call(bench, to.url);
    await settle(bench);
    const [request] = await to.seen();
    if (request === undefined) expect.fail('It was not told.');
    for (const secret of [OUTSIDE.CALLBACK_SIGNING_SECRET, PREVIOUS]) {
      expect(new Webhook(secret).verify(request.body, request.headers)).toMatchObject({ type: 'job.succeeded' });
      expect(() => new Webhook(secret).verify(`${request.body} `, request.headers)).toThrow();
    }
    expect(() => new Webhook(btoa('another')).verify(request.body, request.headers)).toThrow();
    expect(request.headers['webhook-signature']?.split(' ')).toHaveLength(2);
    expect(request.headers).toMatchObject({
      'content-type': 'application/json',
      'user-agent': expect.stringMatching(/^Lovage\//) as string,
      'webhook-timestamp': String(Math.floor(clock.now() / 1_000)),
    });
  });

  it('is of the attempt, and its id is the same in all of them', async () => {
    const on = stage();
    const to = receiver({ status: 500 }, {});
    const id = await call(on.bench, to.url);
    await settle(on.bench);
    await next(on, id);
    const [first, second] = (await to.seen()).map(({ headers }) => headers);
    expect(second?.['webhook-id']).toBe(first?.['webhook-id']);
    expect(Number(second?.['webhook-timestamp']) - Number(first?.['webhook-timestamp'])).toBe(5);
    expect(second?.['webhook-signature']).not.toBe(first?.['webhook-signature']);
  });

  it.each([undefined, '', 'no base64!', 'whsec_'])(
    'by the secret %j is none: nothing is sent or retried',
    async (secret) => {
      const { CALLBACK_SIGNING_SECRET: _, ...without } = OUTSIDE;
      const settings = secret === undefined ? without : { ...without, CALLBACK_SIGNING_SECRET: secret };
      const { bench } = stage({ settings });
      const to = receiver({});
      const id = await call(bench, to.url);
      await settle(bench);
      expect(await callbackFor(bench, id)).toMatchObject({
        state: 'FAILURE',
        attempt: 1,
        error: { code: 'not_configured' },
      });
      expect(await to.seen()).toEqual([]);
    },
  );
});

/** Lets the callback's message come again when its next attempt is due. */
async function next({ bench, clock }: Stage, id: string): Promise<void> {
  const { due_at } = await callbackFor(bench, id);
  await clock.advance(Math.max(0, due_at - clock.now()));
  bench.queues.take();
  const { results } = await env.DB.prepare(
    `UPDATE jobs SET sent_at = NULL WHERE finished_at IS NULL RETURNING id`,
  ).all();
  expect(results).toHaveLength(1);
  await tick(bench.rt, undefined);
  await settle(bench);
}

describe('a receiver', () => {
  it('that answers 500 is asked again after 5 s, 5 min, 30 min, 2, 5, 10 and 10 h, and then no more', async () => {
    const on = stage();
    const to = receiver({ status: 500 });
    const id = await call(on.bench, to.url);
    await settle(on.bench);
    const waits: number[] = [];
    for (let retry = 0; retry < 7; retry += 1) {
      const { due_at, state } = await callbackFor(on.bench, id);
      expect(state).toBe('RETRY');
      waits.push((due_at - on.clock.now()) / 1_000);
      await next(on, id);
    }
    expect(waits).toEqual(CALLBACK_RETRY_SECONDS);
    expect(await callbackFor(on.bench, id)).toMatchObject({ state: 'FAILURE', attempt: 8 });
    const ids = (await to.seen()).map(({ headers }) => headers['webhook-id']);
    expect(ids).toEqual(Array(8).fill(`msg_${callbackOf(id, '').id}`));
    expect(await bodiesOf(to)).toMatchObject(Array(8).fill({ type: 'job.succeeded', data: { id } }));
  });

  it.each([
    ['answers 500', { status: 500 }],
    ['answers 404', { status: 404 }],
    ['answers 302 and nowhere', { status: 302 }],
    ['resets the connection', { act: 'reset' }],
    ['answers 200 and resets the connection', { act: 'break' }],
  ] as const)('that %s is told again under the same id', async (_, step) => {
    const on = stage();
    const to = receiver(step, {});
    const id = await call(on.bench, to.url);
    await settle(on.bench);
    expect(await callbackFor(on.bench, id)).toMatchObject({ state: 'RETRY' });
    await next(on, id);
    expect(await callbackFor(on.bench, id)).toMatchObject({ state: 'SUCCESS', attempt: 2 });
    const [first, second] = await to.seen();
    expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id']);
    expect(second?.body).toBe(first?.body);
  });

  it('that does not answer within 10 s is told again', async () => {
    const on = stage();
    const to = receiver({ act: 'hang' }, {});
    const id = await call(on.bench, to.url);
    const settling = settle(on.bench);
    await untilSeen(to, 1);
    await on.clock.advance(10_000);
    await settling;
    expect(await callbackFor(on.bench, id)).toMatchObject({ state: 'RETRY', error: { code: 'exception' } });
    await next(on, id);
    expect(await callbackFor(on.bench, id)).toMatchObject({ state: 'SUCCESS' });
  });

  it.each([
    [429, '120', 120],
    [503, '120', 120],
    [500, '1', 1],
    [429, new Date(START + 90_000).toUTCString(), 90],
    [429, '999999', 86_400],
    [429, 'in a while', 5],
  ])('that answers %i with Retry-After %s is told again after %i s', async (status, header, seconds) => {
    const { bench } = stage();
    const to = receiver({ status, headers: { 'retry-after': header } });
    const id = await call(bench, to.url);
    await settle(bench);
    expect(await callbackFor(bench, id)).toMatchObject({ state: 'RETRY', due_at: START + seconds * 1_000 });
  });

  it('that answers 410 is told no more', async () => {
    const { bench } = stage();
    const to = receiver({ status: 410 });
    const id = await call(bench, to.url);
    await settle(bench);
    expect(await callbackFor(bench, id)).toMatchObject({ state: 'FAILURE', attempt: 1, error: { code: 'gone' } });
    expect(await to.seen()).toHaveLength(1);
  });

  it('that is not public is never asked, and not retried', async () => {
    const { bench } = stage();
    const to = forbidden();
    const redirecting = receiver({ status: 307, headers: { location: to.url } });
    const places = [
      to.url,
      to.url.replace('127.0.0.1', '0x7f.1'),
      'http://127.0.0.1/',
      'http://10.1.2.3/',
      'http://169.254.169.254/latest/meta-data/',
      'http://[::1]/',
      'http://[::ffff:10.0.0.1]/',
      'http://4-10-0-0-1.outside.invalid/',
      'http://4-93-184-216-34.4-127-0-0-1.outside.invalid/',
      redirecting.url,
    ];
    for (const place of places) {
      const id = await call(bench, place);
      await settle(bench);
      expect(await callbackFor(bench, id), place).toMatchObject({
        state: 'FAILURE',
        attempt: 1,
        error: { code: 'callback_refused' },
      });
    }
    expect(await redirecting.seen()).toHaveLength(1);
    expect(await to.seen()).toEqual([]);
  });
});

describe('deliver_callback, enqueued by hand,', () => {
  async function byHand(bench: Bench, job_id: string, url: string): Promise<JobRow> {
    const { id } = await bench.enqueue({ task: 'deliver_callback', input: { job_id, url } });
    await settle(bench);
    return bench.job(id);
  }

  it('tells nobody of a job that asked for no callback', async () => {
    const { bench } = stage();
    const to = receiver({});
    const { id } = await bench.enqueue({ task: 'debug_task', input: 'confidential' });
    await settle(bench);
    expect(await byHand(bench, id, to.url)).toMatchObject({ state: 'FAILURE', error: { code: 'no_callback' } });
    expect(await to.seen()).toEqual([]);
  });

  it('calls where the job said, not where the input says, and under the id it always had', async () => {
    const { bench } = stage();
    const [said, given] = [receiver({}), receiver({})];
    const id = await call(bench, said.url);
    await settle(bench);
    expect(await byHand(bench, id, given.url)).toMatchObject({ state: 'SUCCESS' });
    expect(await given.seen()).toEqual([]);
    const ids = (await said.seen()).map(({ headers }) => headers['webhook-id']);
    expect(ids).toEqual(Array(2).fill(`msg_${callbackOf(id, '').id}`));
  });

  it('has nothing to tell of a job that has left, or has not ended', async () => {
    const { bench } = stage();
    const to = receiver({});
    const id = await call(bench, to.url, 'debug_task', { countdown: 3_600 });
    expect(await byHand(bench, id, to.url)).toMatchObject({ error: { code: 'job_not_ended' } });
    await env.DB.prepare(`DELETE FROM jobs WHERE id = ?1`).bind(id).run();
    expect(await byHand(bench, id, to.url)).toMatchObject({ state: 'FAILURE', error: { code: 'job_gone' } });
    expect(await to.seen()).toEqual([]);
  });
});
