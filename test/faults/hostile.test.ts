import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { recoverLapsed } from '../../src/cron/lapsed.ts';
import { tick } from '../../src/cron/tick.ts';
import { revoke } from '../../src/jobs/inspect.ts';
import { Retry } from '../../src/jobs/outcome.ts';
import { requeue } from '../../src/jobs/requeue.ts';
import { defineTask, type Job, type Task } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, outage, settled, START } from '../worker/bench.ts';
import { ask } from '../worker/client.ts';

beforeEach(emptyDatabase);

function taskThat(run: (input: unknown, job: Job) => unknown, more: Partial<Task> = {}): Task {
  return defineTask({ name: 'test.hostile', queue: 'default', input: z.unknown(), run, ...more });
}

async function runOnce(bench: Bench): Promise<readonly { answer: unknown }[]> {
  return bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
}

async function attemptsShown(bench: Bench, id: string): Promise<readonly string[]> {
  const job: { attempts: { attempt: number; outcome: string }[] } = await (
    await ask(bench.rt, `/api/v1/jobs/${id}`)
  ).json();
  return job.attempts.map(({ attempt, outcome }) => `${String(attempt)} ${outcome}`);
}

test('a job that kills its isolate again and again takes no neighbour with it', async () => {
  let now = START;
  let ran = 0;
  // Each delivery is an isolate of its own: once dead its clock stands still and its statements are never heard of.
  const isolate = (): Bench => {
    let dead = false;
    const killer = defineTask({
      name: 'test.killer',
      queue: 'default',
      input: z.unknown(),
      run: () => {
        dead = true;
        return new Promise<never>(() => undefined);
      },
    });
    const innocent = defineTask({
      name: 'test.innocent',
      queue: 'default',
      input: z.unknown(),
      async run(_input, job) {
        ran += 1;
        await job.clock.sleep(1_000);
      },
    });
    const clock = new HeldClock(now);
    const bench = new Bench({ tasks: [killer, innocent], clock });
    bench.db.fault = () => (dead ? 'hang' : undefined);
    return bench;
  };
  const first = isolate();
  const killer = await first.enqueue({ task: 'test.killer' });
  const innocents = [];
  for (let at = 0; at < 5; at += 1) innocents.push(await first.enqueue({ task: 'test.innocent' }));
  const envelopes = first.queues.take().map(({ envelope }) => envelope);
  for (let round = 1; round <= 14; round += 1) {
    const bench = isolate();
    // A message is delivered when its job is due, as its delay says.
    const open = [];
    for (const envelope of envelopes) {
      const job = await bench.job(envelope.id);
      if (job.finished_at === null && (job.state === 'STARTED' || job.due_at <= now)) open.push(envelope);
    }
    void bench.deliver(open, { attempts: round });
    for (let turn = 0; turn < 10; turn += 1) await settled();
    // One after another: each needs its second, and the statements around it.
    for (let turn = 0; turn < 8; turn += 1) {
      if (bench.clock instanceof HeldClock) await bench.clock.advance(1_000);
      await settled();
    }
    now += 105_000;
  }
  const look = isolate();
  expect((await look.job(killer.id)).error?.code).toBe('lost');
  for (const { id } of innocents) {
    const job = await look.job(id);
    expect([job.state, job.lost]).toEqual(['SUCCESS', 1]);
  }
  expect(ran).toBe(10);
});

describe('what a handler or a library hands us', () => {
  test('a message that has no JSON form, or that nests very deep, does not spoil its batch', async () => {
    for (const body of [{ toString: 1 }, { toString: null }, JSON.parse('['.repeat(30_000) + ']'.repeat(30_000))]) {
      const bench = new Bench();
      const { id } = await bench.enqueue({ task: 'debug_task' });
      const [message] = bench.queues.take();
      const answers = await bench.deliver([message?.envelope, body]);
      expect(answers.map(({ answer }) => answer)).toEqual(['ack', 'ack']);
      expect((await bench.job(id)).state).toBe('SUCCESS');
    }
  });

  test('an error whose message is no text, or that cannot even be read, is a failed attempt like any other', async () => {
    const unreadable = Object.defineProperty(new Error('x'), 'message', {
      get: () => {
        throw new Error('not for you');
      },
    });
    for (const thrown of [Object.assign(new Error('x'), { message: { code: 5 } }), unreadable]) {
      const bench = new Bench({
        tasks: [
          taskThat(
            () => {
              throw thrown;
            },
            { retry: { max: 0, delays: { kind: 'delays', seconds: [] } } },
          ),
        ],
      });
      const { id } = await bench.enqueue({ task: 'test.hostile' });
      expect(await runOnce(bench)).toMatchObject([{ answer: 'ack' }]);
      expect((await bench.job(id)).state).toBe('FAILURE');
    }
  });

  test('a note or a reason of megabytes is cut short, and its neighbours are written', async () => {
    const long = 'x'.repeat(2_300_000);
    const bench = new Bench({
      tasks: [
        taskThat((_input, job) => {
          job.progress(1, long);
          return job.defer({ seconds: 5, reason: long });
        }),
      ],
    });
    const { id } = await bench.enqueue({ task: 'test.hostile' });
    const neighbour = await bench.enqueue({ task: 'debug_task' });
    await runOnce(bench);
    const job = await bench.job(id);
    expect([job.state, job.waiting_for?.length, job.progress_note?.length]).toEqual(['PENDING', 500, 500]);
    expect((await bench.job(neighbour.id)).state).toBe('SUCCESS');
  });

  test('a Retry-After or a deferral beyond all dates is a century, and the lists still answer', async () => {
    const ends: ((job: Job) => unknown)[] = [
      () => {
        throw new Retry('busy', { afterSeconds: 1e13 });
      },
      (job) => job.defer({ seconds: Number.MAX_SAFE_INTEGER, reason: 'never' }),
      (job) => job.defer({ until: -1e20, reason: 'long ago' }),
    ];
    for (const end of ends) {
      const bench = new Bench({ tasks: [taskThat((_input, job) => end(job))] });
      await bench.enqueue({ task: 'test.hostile' });
      await runOnce(bench);
      expect((await ask(bench.rt, '/api/v1/jobs')).status).toBe(200);
    }
  });
});

describe('what does not answer', () => {
  test('a guard that hangs: the call is told within seconds that nobody knows', async () => {
    const clock = new HeldClock(START);
    const bench = new Bench({ clock });
    const rt = { ...bench.rt, replay: { ...bench.rt.replay, claim: () => new Promise<never>(() => undefined) } };
    const body = '{"task":"debug_task"}';
    const answer = ask(rt, '/api/v1/jobs', { method: 'POST', body, headers: { 'idempotency-key': 'k' } });
    await settled();
    await clock.advance(4_000);
    expect((await answer).status).toBe(503);
  });

  test('a queue that does not say how much it holds: the tick goes on with the others', async () => {
    const clock = new FastClock(START);
    const bench = new Bench({ clock });
    await bench.enqueue({ task: 'debug_task' });
    const other = await bench.enqueue({ task: 'debug_task', options: { queue: 'bulk' } });
    bench.queues.take();
    clock.set(START + 200_000);
    const backlog = bench.queues.backlog.bind(bench.queues);
    bench.queues.backlog = (queue) => (queue === 'default' ? new Promise(() => undefined) : backlog(queue));
    await tick(bench.rt, undefined);
    expect(bench.queues.sent.map(({ envelope }) => envelope.id)).toEqual([other.id]);
  });

  test('a database that hangs while many messages cannot be read: the batch ends in time', async () => {
    const clock = new HeldClock(START);
    const bench = new Bench({ clock });
    bench.db.fault = () => 'hang';
    const batch = bench.deliver(Array.from({ length: 100 }, (_, at) => ({ at })));
    await settled();
    await clock.advance(60_000);
    expect(new Set((await batch).map(({ answer }) => JSON.stringify(answer)))).toEqual(new Set(['{"delaySeconds":5}']));
  });
});

describe('answers that were lost, and time that passes while one waits', () => {
  test('a requeue that was committed without an answer is finished, not made again', async () => {
    const bench = new Bench();
    await bench.enqueue({ task: 'debug.fail', options: { max_retries: 0 } });
    await runOnce(bench);
    const letter = await env.DB.prepare('SELECT id FROM dead_letters').first<{ id: string }>();
    let failures = 0;
    bench.db.fault = (names) =>
      names === 'accept+requeue' && failures++ === 0 ? { when: 'after', error: outage() } : undefined;
    const outcome = await requeue(bench.rt, letter?.id ?? '', undefined);
    expect(bench.queues.take().map(({ envelope }) => envelope.id)).toEqual([
      outcome?.kind === 'requeued' ? outcome.jobId : '',
    ]);
    expect(await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE source = 'requeue'`).first()).toEqual({ n: 1 });
  });

  test('a lapsed job whose new message is refused is owed one, though the clock moved on meanwhile', async () => {
    const clock = new HeldClock(START);
    const bench = new Bench({ clock });
    const { id } = await bench.enqueue({ task: 'debug_task' });
    await env.DB.prepare(`UPDATE jobs SET state = 'STARTED', claim = 1, attempt = 1, lease_until = 1 WHERE id = ?`)
      .bind(id)
      .run();
    bench.queues.fault = 'refuse';
    let later = 0;
    const moving = { now: () => clock.now() + later++, sleep: clock.sleep.bind(clock) };
    await recoverLapsed({ ...bench.rt, clock: moving });
    const job = await bench.job(id);
    expect([job.state, job.sent_at]).toEqual(['PENDING', null]);
  });

  test('a consumer that does not know a task neither moves its job forward in time nor fails it before its day', async () => {
    const clock = new FastClock(START);
    const bench = new Bench({ tasks: [taskThat(() => 'ran')], clock });
    bench.db.fault = (names) => (names === 'accept' ? { when: 'after', error: outage() } : undefined);
    const { id } = await bench.enqueue({ task: 'test.hostile', options: { countdown: 2 * 86_400 } });
    bench.db.fault = () => undefined;
    const ignorant = new Bench({ clock });
    const [message] = bench.queues.take();
    await ignorant.deliver([message?.envelope]);
    expect((await bench.job(id)).due_at).toBe(START + 2 * 86_400_000);
    clock.set(START + 2 * 86_400_000 + 3_600_000);
    await ignorant.deliver([message?.envelope], { attempts: 2 });
    expect((await bench.job(id)).state).not.toBe('FAILURE');
    clock.set(START + 3 * 86_400_000);
    await ignorant.deliver([message?.envelope], { attempts: 3 });
    expect((await bench.job(id)).error?.code).toBe('unknown_task');
  });
});

describe('each attempt is listed once', () => {
  test('revoked while it waits for its retry', async () => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug.fail', options: { retry_delays: [600] } });
    await runOnce(bench);
    await revoke(bench.rt, id, false);
    expect(await attemptsShown(bench, id)).toEqual(['1 retry']);
  });

  test('given up as lost', async () => {
    const bench = new Bench();
    const { id } = await bench.enqueue({ task: 'debug.fail', options: { retry_delays: [0] } });
    await runOnce(bench);
    await env.DB.prepare(
      `UPDATE jobs SET state = 'STARTED', claim = claim + 1, attempt = attempt + 1, lost = 3, lease_until = 1 WHERE id = ?`,
    )
      .bind(id)
      .run();
    await recoverLapsed(bench.rt);
    expect(await attemptsShown(bench, id)).toEqual(['1 retry', '2 lost']);
    expect(await env.DB.prepare(`SELECT attempts FROM dead_letters`).first()).toEqual({ attempts: 2 });
  });
});

test('a deep page reads no more rows than the first, and the sweep of leases reads no job that is not due', async () => {
  const bench = new Bench();
  await env.DB.prepare(
    `WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 11999)
INSERT INTO jobs (id, v, task, queue, state, priority, input, options, tags, source, created_at, due_at)
SELECT printf('00000000-%04x-7000-8000-%012x', value, value), 1, 'debug_task', 'default', 'SCHEDULED', 5, '{}',
  '{"maxRetries":1,"retryDelays":null,"softSeconds":null,"hardSeconds":null,"resultTtlSeconds":1}', '[]', 'api', ?1, ?2 FROM n`,
  )
    .bind(START, START + 9e9)
    .run();
  const rowsOf = async (query: string): Promise<number> => {
    bench.counts.clear();
    expect((await ask(bench.rt, `/api/v1/jobs?limit=10${query}`)).status).toBe(200);
    return bench.counts.get('jobs')?.rowsRead ?? Infinity;
  };
  const first = await rowsOf('');
  expect(await rowsOf('&cursor=00000000-0100-7000-8000-000000000100')).toBeLessThanOrEqual(first);
  await recoverLapsed(bench.rt);
  expect(bench.counts.get('lapsed')?.rowsRead ?? Infinity).toBeLessThan(100);
});

test('a body of very many faults is refused with the first hundred', async () => {
  const bench = new Bench();
  const options = Object.fromEntries(Array.from({ length: 5_000 }, (_, at) => [`option_${String(at)}`, 1]));
  const response = await ask(bench.rt, '/api/v1/jobs', {
    method: 'POST',
    body: JSON.stringify({ task: 'debug_task', options }),
  });
  const problem: { errors: unknown[] } = await response.json();
  expect([response.status, problem.errors.length]).toEqual([422, 100]);
});
