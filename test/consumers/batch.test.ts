import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { claimAll } from '../../src/jobs/claim.ts';
import { loseLapsed } from '../../src/jobs/lapse.ts';
import { Discard } from '../../src/jobs/outcome.ts';
import { defineTask, type Job } from '../../src/jobs/task.ts';
import { tick } from '../../src/cron/tick.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, outage, settled, START, untilOver } from '../worker/bench.ts';

beforeEach(emptyDatabase);

const runs: string[] = [];

const counted = defineTask({
  name: 'test.counted',
  queue: 'default',
  input: z.object({ key: z.string() }),
  run({ key }) {
    runs.push(key);
    return { key };
  },
});

function runsOf(key: string): number {
  return runs.filter((each) => each === key).length;
}

test('a batch of 100 quick jobs costs one claim and one finish statement', async () => {
  const bench = new Bench();
  const jobs = [];
  for (let at = 0; at < 100; at += 1) jobs.push(await bench.enqueue({ task: 'debug_task', input: { at } }));
  const envelopes = bench.queues.take().map(({ envelope }) => envelope);
  bench.counts.clear();
  const answers = await bench.deliver(envelopes);
  const total = [...bench.counts.values()].reduce((sum, { statements }) => sum + statements, 0);
  expect(answers.map(({ answer }) => answer)).toEqual(jobs.map(() => 'ack'));
  expect(total).toBeLessThanOrEqual(3);
  expect(bench.statements('claim')).toBe(1);
  expect(bench.statements('finish')).toBe(1);
});

test('a plain job writes at most 5 rows over its whole life, cleanup included', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const job = await bench.enqueue({ task: 'debug_task', input: { hello: 'world' } });
  await bench.drain();
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
  const beforeCleanup = bench.rowsWritten();
  expect(beforeCleanup).toBe(4);
  clock.set(START + 8 * 86_400_000);
  await tick(bench.rt, undefined);
  await expect(bench.job(job.id)).rejects.toThrow('There is no job');
  // The tick also moves its own cursor: one row for up to 2,000 jobs, counted apart.
  const cursor = bench.counts.get('mark')?.rowsWritten ?? 0;
  expect(bench.rowsWritten() - cursor).toBe(5);
});

test('a slow neighbour never hides the result of a quick job', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock });
  const slow = await bench.enqueue({ task: 'debug.sleep', input: { seconds: 30 } });
  const quick = await bench.enqueue({ task: 'debug_task' });
  const batch = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  await clock.advance(100);
  expect((await bench.job(quick.id)).state).toBe('SUCCESS');
  expect((await bench.job(slow.id)).state).toBe('STARTED');
  await clock.advance(30_000);
  await batch;
  expect((await bench.job(slow.id)).state).toBe('SUCCESS');
});

test('INV-F15 late ack: a consumer that dies between commit and ack leaves a second delivery that only acks', async () => {
  const bench = new Bench({ tasks: [counted] });
  const job = await bench.enqueue({ task: 'test.counted', input: { key: 'late-ack' } });
  const [message] = bench.queues.take();
  await bench.deliver([message?.envelope]);
  bench.counts.clear();
  const again = await bench.deliver([message?.envelope], { attempts: 2 });
  expect(again).toEqual([{ id: job.id, answer: 'ack' }]);
  expect(runsOf('late-ack')).toBe(1);
  expect(bench.rowsWritten()).toBe(0);
});

test('a message is acked only after its outcome is committed', async () => {
  const bench = new Bench({ tasks: [counted] });
  const order: string[] = [];
  await bench.enqueue({ task: 'test.counted', input: { key: 'order' } });
  const [message] = bench.queues.take();
  bench.db.fault = (names) => {
    if (names.startsWith('finish')) order.push('finish');
    return undefined;
  };
  const answers = await bench.deliver([message?.envelope]).then((all) => {
    order.push('settled');
    return all;
  });
  expect(answers[0]?.answer).toBe('ack');
  expect(order).toEqual(['finish', 'settled']);
});

test('the same message delivered twice at once runs its job once', async () => {
  const bench = new Bench({ tasks: [counted] });
  const job = await bench.enqueue({ task: 'test.counted', input: { key: 'twice' } });
  const [message] = bench.queues.take();
  const other = new Bench({ tasks: [counted] });
  await Promise.all([bench.deliver([message?.envelope]), other.deliver([message?.envelope])]);
  expect(runsOf('twice')).toBe(1);
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
});

test('two copies in one batch run the job once, and both are answered', async () => {
  const bench = new Bench({ tasks: [counted] });
  await bench.enqueue({ task: 'test.counted', input: { key: 'copies' } });
  const [message] = bench.queues.take();
  const answers = await bench.deliver([message?.envelope, message?.envelope]);
  expect(answers.map(({ answer }) => answer)).toEqual(['ack', 'ack']);
  expect(runsOf('copies')).toBe(1);
});

test('a job leased by another attempt is tried again after the lease could have ended', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock });
  await bench.enqueue({ task: 'debug.sleep', input: { seconds: 5 } });
  const [message] = bench.queues.take();
  const first = bench.deliver([message?.envelope]);
  await settled();
  const [copy] = await new Bench({ clock }).deliver([message?.envelope]);
  const seconds = typeof copy?.answer === 'object' ? copy.answer.delaySeconds : 0;
  expect(seconds).toBeGreaterThanOrEqual(91);
  expect(seconds).toBeLessThanOrEqual(95);
  await clock.advance(5_000);
  await first;
});

test('a batch with poison in it runs its good jobs once, and the poison becomes a dead letter', async () => {
  const bench = new Bench({ tasks: [counted] });
  const good = [];
  for (const key of ['good-1', 'good-2']) good.push(await bench.enqueue({ task: 'test.counted', input: { key } }));
  const [one, two] = bench.queues.take().map(({ envelope }) => envelope);
  const answers = await bench.deliver([one, { nonsense: true }, null, two, { v: 99, id: good[0]?.id }]);
  expect(answers.map(({ answer }) => answer)).toEqual(['ack', 'ack', 'ack', 'ack', { delaySeconds: 60 }]);
  expect([runsOf('good-1'), runsOf('good-2')]).toEqual([1, 1]);
  const { results } = await env.DB.prepare(`SELECT input FROM dead_letters WHERE job_id IS NULL`).all();
  expect(results.map(({ input }) => input)).toContain('{"nonsense":true}');
});

test('a job of a task nobody knows waits without using an attempt, and fails after a day', async () => {
  const clock = new FastClock(START);
  const knowing = new Bench({ tasks: [counted], clock });
  const job = await knowing.enqueue({ task: 'test.counted', input: { key: 'unknown' } });
  const [message] = knowing.queues.take();
  const ignorant = new Bench({ clock });
  expect(await ignorant.deliver([message?.envelope])).toEqual([{ id: job.id, answer: { delaySeconds: 60 } }]);
  const waiting = await knowing.job(job.id);
  expect([waiting.state, waiting.attempt, waiting.waiting_for]).toEqual([
    'PENDING',
    0,
    'no deployment here knows its task yet',
  ]);
  clock.set(START + 86_400_001);
  await ignorant.deliver([message?.envelope]);
  const failed = await knowing.job(job.id);
  expect([failed.state, failed.error?.code]).toEqual(['FAILURE', 'unknown_task']);
});

test('a message whose database was silent at acceptance makes its own row and runs', async () => {
  const bench = new Bench({ tasks: [counted] });
  bench.db.fault = (names) => (names === 'accept' ? { when: 'before', error: outage() } : undefined);
  const job = await bench.enqueue({ task: 'test.counted', input: { key: 'rowless' } });
  bench.db.fault = () => undefined;
  await bench.drain();
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
  expect(runsOf('rowless')).toBe(1);
});

test('an envelope older than four days never makes a row', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ tasks: [counted], clock });
  const job = await bench.enqueue({ task: 'test.counted', input: { key: 'ancient' } });
  const [message] = bench.queues.take();
  await env.DB.prepare(`DELETE FROM jobs WHERE id = ?`).bind(job.id).run();
  clock.set(START + 4 * 86_400_000 + 1);
  expect(await bench.deliver([message?.envelope])).toEqual([{ id: job.id, answer: 'ack' }]);
  await expect(bench.job(job.id)).rejects.toThrow();
});

test('while the database is silent messages go back for 5 s, then longer, at most 300 s, and nothing runs', async () => {
  const bench = new Bench({ tasks: [counted] });
  await bench.enqueue({ task: 'test.counted', input: { key: 'silent' } });
  const [message] = bench.queues.take();
  bench.db.fault = () => ({ when: 'before', error: outage() });
  const delays = [];
  for (const attempts of [1, 2, 4, 12]) {
    const [answer] = await bench.deliver([message?.envelope], { attempts });
    delays.push(answer?.answer);
  }
  expect(delays).toEqual([5, 10, 40, 300].map((delaySeconds) => ({ delaySeconds })));
  expect(runsOf('silent')).toBe(0);
});

test('a finish whose answer was lost is not done twice and its result stays', async () => {
  const bench = new Bench({ tasks: [counted] });
  const job = await bench.enqueue({ task: 'test.counted', input: { key: 'ambiguous' } });
  let failures = 0;
  bench.db.fault = (names) =>
    names.startsWith('finish') && failures++ === 0 ? { when: 'after', error: outage() } : undefined;
  const [answer] = await bench.drain();
  expect(answer?.answer).toBe('ack');
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
  expect(runsOf('ambiguous')).toBe(1);
});

test('a retry whose answer was lost keeps its message, and its hook runs', async () => {
  const hooked: string[] = [];
  const failing = defineTask({
    name: 'test.failing',
    queue: 'default',
    input: z.unknown(),
    retry: { max: 1, delays: { kind: 'delays', seconds: [10] } },
    run: () => Promise.reject(new Error('no')),
    onRetry: (_error, job) => void hooked.push(job.id),
  });
  const bench = new Bench({ tasks: [failing] });
  const { id } = await bench.enqueue({ task: 'test.failing' });
  let failures = 0;
  bench.db.fault = (names) =>
    names.startsWith('finish') && failures++ === 0 ? { when: 'after', error: outage() } : undefined;
  const [answer] = await bench.drain();
  expect([answer?.answer, hooked]).toEqual([{ delaySeconds: 10 }, [id]]);
});

test('a claim whose answer was lost is won again and counts no second attempt', async () => {
  const bench = new Bench({ tasks: [counted] });
  const job = await bench.enqueue({ task: 'test.counted', input: { key: 'lost-claim' } });
  let failures = 0;
  bench.db.fault = (names) => (names === 'claim' && failures++ === 0 ? { when: 'after', error: outage() } : undefined);
  await bench.drain();
  const done = await bench.job(job.id);
  expect([done.state, done.attempt, runsOf('lost-claim')]).toEqual(['SUCCESS', 1, 1]);
});

test('a late result of an attempt that lost its lease is dropped, while the next attempt runs and after it', async () => {
  const clock = new HeldClock(START);
  const releases: (() => void)[] = [];
  const stuck = defineTask({
    name: 'test.stuck',
    queue: 'default',
    input: z.object({}),
    timeLimit: { softSeconds: 800, hardSeconds: 800 },
    longOnDefault: 'a test',
    async run() {
      const run = releases.length + 1;
      await new Promise<void>((resolve) => releases.push(resolve));
      return `run ${String(run)}`;
    },
  });
  const first = new Bench({ tasks: [stuck], clock });
  const job = await first.enqueue({ task: 'test.stuck' });
  const [message] = first.queues.take();
  const batch = first.deliver([message?.envelope]);
  await settled();
  // Its heartbeats do not get through.
  first.db.fault = (names) => (names === 'heartbeat' ? { when: 'before', error: outage() } : undefined);
  await clock.advance(91_000);
  const second = new Bench({ tasks: [stuck], clock });
  const taking = second.deliver([message?.envelope], { attempts: 2 });
  await settled();
  releases[0]?.();
  await settled();
  await clock.advance(100);
  expect(await batch).toEqual([{ id: job.id, answer: 'ack' }]);
  const running = await second.job(job.id);
  expect([running.state, running.result]).toEqual(['STARTED', null]);
  releases[1]?.();
  await settled();
  await clock.advance(100);
  await taking;
  const done = await second.job(job.id);
  expect([done.result, done.lost, done.attempts.map(({ outcome }) => outcome)]).toEqual(['run 2', 1, ['lost']]);
});

test('an attempt whose lease was renewed meanwhile is not given up', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock });
  const { id } = await bench.enqueue({ task: 'debug.sleep', input: { seconds: 5 } });
  const batch = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  expect(await loseLapsed(bench.rt, [{ id, task: 'debug.sleep', claim: 1 }], clock.now())).toEqual({
    waiting: [],
    lost: 0,
  });
  expect((await bench.job(id)).state).toBe('STARTED');
  await clock.advance(5_100);
  await batch;
});

test('heartbeats keep a long job from being taken over, and carry its progress', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock });
  const job = await bench.enqueue({ task: 'debug.sleep', input: { seconds: 200, steps: 8 } });
  const [message] = bench.queues.take();
  const batch = bench.deliver([message?.envelope]);
  await settled();
  await clock.advance(121_000);
  const half = await bench.job(job.id);
  expect([half.state, half.progress, half.progress_note]).toEqual(['STARTED', 50, 'step 4 of 8']);
  await tick(new Bench({ clock }).rt, undefined);
  expect((await bench.job(job.id)).lost).toBe(0);
  await clock.advance(80_000);
  await untilOver(clock, batch);
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
});

test('an attempt that vanishes is counted as lost, not against the retries, and after four the job is given up', async () => {
  const clock = new FastClock(START);
  const vanishing = defineTask({
    name: 'test.vanishing',
    queue: 'default',
    input: z.object({}),
    run: () => new Promise<never>(() => undefined),
  });
  const bench = new Bench({ tasks: [vanishing], clock });
  const job = await bench.enqueue({ task: 'test.vanishing' });
  const lostAfter = [];
  for (let claim = 1; claim <= 4; claim += 1) {
    const [message] = bench.queues.take();
    // The consumer is cut off: it claims, and nothing of it is ever heard again.
    if (message !== undefined)
      await claimAll(bench.rt, [{ envelope: message.envelope, deliveries: 1 }], () => undefined);
    clock.set(clock.now() + 90_001);
    await tick(bench.rt, undefined);
    const row = await bench.job(job.id);
    lostAfter.push([row.state, row.lost, row.attempt]);
  }
  expect(lostAfter).toEqual([
    ['PENDING', 1, 0],
    ['PENDING', 2, 0],
    ['PENDING', 3, 0],
    ['FAILURE', 4, 1],
  ]);
  expect((await bench.job(job.id)).error?.code).toBe('lost');
  const letters = await env.DB.prepare(`SELECT count(*) AS n FROM dead_letters WHERE job_id = ?`).bind(job.id).first();
  expect(letters).toEqual({ n: 1 });
});

test('a job whose attempt vanished before runs alone, after the rest of its batch', async () => {
  const clock = new HeldClock(START);
  const order: string[] = [];
  const noted = defineTask({
    name: 'test.noted',
    queue: 'default',
    input: z.object({ name: z.string() }),
    async run({ name }, job) {
      order.push(`${name} begins`);
      await job.clock.sleep(1_000);
      order.push(`${name} ends`);
    },
  });
  const bench = new Bench({ tasks: [noted], clock });
  const bad = await bench.enqueue({ task: 'test.noted', input: { name: 'bad' }, options: { priority: 7 } });
  await bench.enqueue({ task: 'test.noted', input: { name: 'good' } });
  await env.DB.prepare(`UPDATE jobs SET lost = 1 WHERE id = ?`).bind(bad.id).run();
  const batch = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  await clock.advance(1_100);
  await clock.advance(1_100);
  await batch;
  expect(order).toEqual(['good begins', 'good ends', 'bad begins', 'bad ends']);
});

test('jobs of a batch start in the order of their priority', async () => {
  const order: number[] = [];
  const ranked = defineTask({
    name: 'test.ranked',
    queue: 'email',
    input: z.object({ rank: z.number() }),
    run: ({ rank }) => void order.push(rank),
  });
  const bench = new Bench({ tasks: [ranked] });
  for (const rank of [4, 7, 5]) {
    await bench.enqueue({ task: 'test.ranked', input: { rank }, options: { priority: rank } });
  }
  await bench.drain();
  expect(order).toEqual([7, 5, 4]);
});

test('hooks run once per outcome, after it is committed, and an error in one changes nothing', async () => {
  const seen: string[] = [];
  const bench = new Bench({
    tasks: [
      defineTask({
        name: 'test.hooked',
        queue: 'default',
        input: z.object({ fail: z.int() }),
        retry: { max: 1, delays: { kind: 'delays', seconds: [0] } },
        run({ fail }, job: Job) {
          if (job.attempt <= fail) throw new Error('not yet');
          return 'done';
        },
        async onSuccess(result, job) {
          seen.push(`success ${result} ${(await bench.job(job.id)).state}`);
          throw new Error('a hook is wrong');
        },
        onRetry: (error, job) => void seen.push(`retry ${String(error)} ${String(job.attempt)}`),
        onFailure: (error) => void seen.push(`failure ${String(error)}`),
      }),
    ],
  });
  const well = await bench.enqueue({ task: 'test.hooked', input: { fail: 1 } });
  const [message] = bench.queues.take();
  await bench.deliver([message?.envelope]);
  await bench.deliver([message?.envelope], { attempts: 2 });
  expect((await bench.job(well.id)).state).toBe('SUCCESS');
  expect(seen).toEqual(['retry Error: not yet 1', 'success done SUCCESS']);
  seen.length = 0;
  await bench.enqueue({ task: 'test.hooked', input: { fail: 9 } });
  const [failing] = bench.queues.take();
  await bench.deliver([failing?.envelope]);
  await bench.deliver([failing?.envelope], { attempts: 2 });
  expect(seen).toEqual(['retry Error: not yet 1', 'failure Error: not yet']);
});

test('Discard fails at once, and a deferral comes back without having used an attempt', async () => {
  const clock = new FastClock(START);
  const ends = defineTask({
    name: 'test.ends',
    queue: 'default',
    input: z.object({ how: z.enum(['discard', 'defer']) }),
    run({ how }, job) {
      if (how === 'discard') throw new Discard('it makes no sense');
      return job.clock.now() < START + 30_000 ? job.defer({ seconds: 30, reason: 'the shop is closed' }) : 'open';
    },
  });
  const bench = new Bench({ tasks: [ends], clock });
  const discarded = await bench.enqueue({ task: 'test.ends', input: { how: 'discard' } });
  await bench.drain();
  const failed = await bench.job(discarded.id);
  expect([failed.state, failed.attempt, failed.error?.code]).toEqual(['FAILURE', 1, 'discarded']);
  const deferred = await bench.enqueue({ task: 'test.ends', input: { how: 'defer' } });
  const [message] = bench.queues.take();
  expect((await bench.deliver([message?.envelope]))[0]?.answer).toEqual({ delaySeconds: 30 });
  const waiting = await bench.job(deferred.id);
  expect([waiting.state, waiting.attempt, waiting.waiting_for]).toEqual(['PENDING', 0, 'the shop is closed']);
  clock.set(waiting.due_at);
  await bench.deliver([message?.envelope], { attempts: 2 });
  const done = await bench.job(deferred.id);
  expect([done.state, done.attempt, done.result]).toEqual(['SUCCESS', 1, 'open']);
});

test('a handler past its soft limit is told, past its hard limit it has failed, and both are retried by policy', async () => {
  const clock = new HeldClock(START);
  const told: string[] = [];
  const stubborn = defineTask({
    name: 'test.stubborn',
    queue: 'default',
    input: z.object({ obeys: z.boolean() }),
    retry: { max: 0 },
    async run({ obeys }, job) {
      await job.clock.sleep(70_000, obeys ? job.signal : undefined);
      told.push(String(job.signal.reason));
      job.signal.throwIfAborted();
    },
  });
  const bench = new Bench({ tasks: [stubborn], clock });
  const deaf = await bench.enqueue({ task: 'test.stubborn', input: { obeys: false } });
  const polite = await bench.enqueue({ task: 'test.stubborn', input: { obeys: true } });
  const batch = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  await clock.advance(50_100);
  expect(told).toHaveLength(1);
  expect((await bench.job(polite.id)).error?.code).toBe('time_limit');
  await clock.advance(10_000);
  await batch;
  expect((await bench.job(deaf.id)).error?.code).toBe('time_limit');
  await clock.advance(20_000);
  expect((await bench.job(deaf.id)).state).toBe('FAILURE');
});

test('a job that cannot finish within its batch is put back, its attempt returned', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock });
  const first = await bench.enqueue({ task: 'debug.sleep', input: { seconds: 100 } });
  const second = await bench.enqueue({ task: 'debug.sleep', input: { seconds: 1 } });
  await env.DB.prepare(`UPDATE jobs SET lost = 1 WHERE id = ?`).bind(second.id).run();
  const batch = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  await clock.advance(100_100);
  const answers = await batch;
  expect((await bench.job(first.id)).state).toBe('SUCCESS');
  const back = await bench.job(second.id);
  expect([back.state, back.attempt]).toEqual(['PENDING', 0]);
  expect(answers.find(({ id }) => id === second.id)?.answer).toEqual({ delaySeconds: 0 });
});

test('a message at its 90th delivery is let go, and its row is owed a fresh one', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const job = await bench.enqueue({ task: 'debug.fail', options: { retry_delays: [10] } });
  const [message] = bench.queues.take();
  expect((await bench.deliver([message?.envelope], { attempts: 90 }))[0]?.answer).toBe('ack');
  const row = await bench.job(job.id);
  expect([row.state, row.sent_at]).toEqual(['RETRY', null]);
  clock.set(row.due_at);
  await tick(bench.rt, undefined);
  expect(bench.queues.take().map(({ envelope }) => envelope.id)).toEqual([job.id]);
});

test('the dead-letter queue makes an open job owed again, never fails it, and leaves a final one alone', async () => {
  const bench = new Bench();
  const open = await bench.enqueue({ task: 'debug_task' });
  const [message] = bench.queues.take();
  expect(await bench.deliver([message?.envelope], { queue: 'default-dlq' })).toEqual([{ id: open.id, answer: 'ack' }]);
  expect((await bench.job(open.id)).sent_at).toBeNull();
  await tick(bench.rt, undefined);
  await bench.drain();
  expect((await bench.job(open.id)).state).toBe('SUCCESS');
  await bench.deliver([message?.envelope], { queue: 'default-dlq' });
  expect((await bench.job(open.id)).state).toBe('SUCCESS');
  expect(bench.queues.sent).toEqual([]);
});

test('the dead-letter queue makes the row of a job that has none', async () => {
  const bench = new Bench();
  const job = await bench.enqueue({ task: 'debug_task' });
  const [message] = bench.queues.take();
  await env.DB.prepare(`DELETE FROM jobs WHERE id = ?`).bind(job.id).run();
  await bench.deliver([message?.envelope], { queue: 'default-dlq' });
  await tick(bench.rt, undefined);
  await bench.drain();
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
});

test('a dead-letter batch of the largest messages is made owed in as many statements as it takes', async () => {
  const bench = new Bench();
  const ids: string[] = [];
  for (let at = 0; at < 25; at += 1) {
    ids.push((await bench.enqueue({ task: 'debug_task', input: `${String(at)}${'x'.repeat(95_000)}` })).id);
  }
  const envelopes = bench.queues.take().map(({ envelope }) => envelope);
  const answers = await bench.deliver(envelopes, { queue: 'default-dlq' });
  expect(answers.map(({ answer }) => answer)).toEqual(ids.map(() => 'ack'));
  for (const id of ids) expect((await bench.job(id)).sent_at).toBe(null);
});

test('whatever becomes of the jobs of a batch, a message nobody can read beside them is answered', async () => {
  const bench = new Bench();
  await bench.enqueue({ task: 'debug_task' });
  const [message] = bench.queues.take();
  bench.db.fault = (names) => (names.includes('owe') ? { when: 'before', error: outage() } : undefined);
  const answers = await bench.deliver([message?.envelope, 'garbage'], { queue: 'default-dlq' });
  expect(answers.map(({ answer }) => answer)).toEqual([{ delaySeconds: 5 }, 'ack']);
  expect(await env.DB.prepare('SELECT count(*) AS letters FROM dead_letters').first()).toEqual({ letters: 1 });
});

test('a consumer with time on its hands sends what is owed, now and then, without waiting for the tick', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock, idleRepairs: true });
  bench.queues.fault = 'refuse';
  const owed = await bench.enqueue({ task: 'debug_task' });
  await bench.background();
  bench.queues.fault = 'none';
  await bench.deliver([{ nonsense: true }]);
  expect(bench.queues.take().map(({ envelope }) => envelope.id)).toEqual([owed.id]);
  bench.counts.clear();
  await bench.deliver([{ nonsense: true }]);
  expect(bench.statements('owed')).toBe(0);
  clock.set(START + 31_000);
  await bench.deliver([{ nonsense: true }]);
  expect(bench.statements('owed')).toBe(1);
});

test('an outcome the database refuses does not spoil those it was to be written with', async () => {
  const bench = new Bench();
  const jobs = [];
  for (const input of ['good', 'poison', 'fine']) jobs.push(await bench.enqueue({ task: 'debug_task', input }));
  const envelopes = bench.queues.take().map(({ envelope }) => envelope);
  await env.DB.exec(
    `CREATE TRIGGER no_poison BEFORE UPDATE ON jobs WHEN instr(NEW.result, 'poison') BEGIN SELECT RAISE(ABORT, 'no poison'); END`,
  );
  const answers = await bench.deliver(envelopes);
  await env.DB.exec(`DROP TRIGGER no_poison`);
  expect(answers.map(({ answer }) => answer)).toEqual(['ack', { delaySeconds: 60 }, 'ack']);
  const states = await Promise.all(jobs.map(async ({ id }) => (await bench.job(id)).state));
  expect(states).toEqual(['SUCCESS', 'STARTED', 'SUCCESS']);
});

test('a hook that hangs does not hold its batch', async () => {
  const clock = new HeldClock(START);
  const hanging = defineTask({
    name: 'test.hanging_hook',
    queue: 'default',
    input: z.unknown(),
    run: () => 'done',
    onSuccess: () => new Promise<never>(() => undefined),
  });
  const bench = new Bench({ tasks: [hanging], clock });
  const { id } = await bench.enqueue({ task: 'test.hanging_hook' });
  const batch = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  await clock.advance(10_000);
  expect(await batch).toEqual([{ id, answer: 'ack' }]);
});
