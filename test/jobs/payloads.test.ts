import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import type { Env } from '../../src/env.ts';
import { defineTask, type Job } from '../../src/jobs/task.ts';
import { requeue } from '../../src/jobs/requeue.ts';
import { revoke, runAgain } from '../../src/jobs/inspect.ts';
import { jobJson } from '../../src/jobs/job-json.ts';
import { fetchPayload, payloadOfRow } from '../../src/jobs/payloads.ts';
import { inputKey, rawKey } from '../../src/store/payloads.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, outage, settled, START } from '../worker/bench.ts';

beforeEach(emptyDatabase);

// The bindings of wrangler.toml; the test types know only some of them.
const { OBJECTS, RESULTS } = env as unknown as Env;
const DAY_MS = 86_400_000;
/** Just over what a message carries. */
const LARGE = 'x'.repeat(97_000);

const echo = defineTask({
  name: 'test.echo',
  queue: 'default',
  input: z.unknown(),
  run: (input) => input,
});

const secret = defineTask({
  name: 'test.secret',
  queue: 'default',
  input: z.unknown(),
  sensitive: true,
  resultTtlSeconds: 600,
  run(input, job) {
    job.progress(50, 'half of the secret');
    return input;
  },
});

function fails(): never {
  throw new Error('no');
}

function benchAt(now = START, more: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  return new Bench({ tasks: [echo, secret], clock: new HeldClock(now), ...more });
}

async function keysOf(bucket: R2Bucket): Promise<readonly string[]> {
  return (await bucket.list()).objects.map(({ key }) => key);
}

async function resultKeys(): Promise<readonly string[]> {
  return (await RESULTS.list({ prefix: 'result/' })).keys.map(({ name }) => name);
}

async function payload(bench: Bench, id: string): Promise<unknown> {
  return fetchPayload(bench.rt, await bench.job(id));
}

describe('a large input', () => {
  test('is kept in R2 before there is a row; row and message only name it, and the task never notices', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: { text: LARGE } });
    expect(await keysOf(OBJECTS)).toEqual([inputKey(id)]);
    expect(await bench.job(id)).toMatchObject({ v: 2, input: null, input_key: inputKey(id), input_bytes: 97_011 });
    const [message] = bench.queues.sent;
    expect(JSON.stringify(message?.envelope).length).toBeLessThan(1_000);
    await bench.drain();
    expect((await bench.job(id)).state).toBe('SUCCESS');
    expect(await payload(bench, id)).toEqual({
      input: { text: LARGE },
      result: { text: LARGE },
      resultExpired: false,
    });
  });

  test('up to 96,000 bytes it rides along, and nothing is kept aside', async () => {
    const bench = benchAt();
    const input = 'x'.repeat(96_000 - 2);
    const { id } = await bench.enqueue({ task: 'test.echo', input });
    expect(await keysOf(OBJECTS)).toEqual([]);
    expect(await bench.job(id)).toMatchObject({ v: 1, input });
  });

  test.each(['fail', 'hang'] as const)('that cannot be kept (%s) makes no row and no message', async (fault) => {
    const bench = benchAt();
    bench.stores.inputs = fault;
    const answered = bench.enqueue({ task: 'test.echo', input: LARGE });
    const refused = expect(answered).rejects.toThrow('unknown');
    await settled();
    if (bench.clock instanceof HeldClock) await bench.clock.advance(10_000);
    await refused;
    expect(bench.queues.sent).toEqual([]);
    expect(bench.statements('accept')).toBe(0);
  });

  test('one that cannot be kept does not spoil the others of its moment', async () => {
    const bench = benchAt();
    bench.stores.inputs = 'fail';
    const [large, small] = await Promise.allSettled([
      bench.enqueue({ task: 'test.echo', input: LARGE }),
      bench.enqueue({ task: 'test.echo', input: 'small' }),
    ]);
    expect([large.status, small.status]).toEqual(['rejected', 'fulfilled']);
  });

  test('survives a silent database: the message names it, and its consumer makes the row', async () => {
    const bench = benchAt();
    bench.db.fault = () => ({ when: 'before', error: outage() });
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    bench.db.fault = () => undefined;
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ v: 2, state: 'SUCCESS' });
    expect(await payload(bench, id)).toMatchObject({ input: LARGE, result: LARGE });
  });

  test('that cannot be read now puts its job back with its attempt, and runs when it can', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    const [message] = bench.queues.take();
    bench.stores.inputs = 'fail';
    expect(await bench.deliver([message?.envelope])).toMatchObject([{ answer: { delaySeconds: 30 } }]);
    expect(await bench.job(id)).toMatchObject({
      state: 'PENDING',
      attempt: 0,
      waiting_for: 'its stored input could not be read',
    });
    bench.stores.inputs = 'none';
    if (bench.clock instanceof HeldClock) await bench.clock.advance(30_000);
    await bench.deliver([message?.envelope], { attempts: 2 });
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS', attempt: 1 });
  });

  test('is waited for before the time of the job begins: a store that hangs uses up no attempt and starts no handler', async () => {
    const clock = new HeldClock(START);
    const runs: boolean[] = [];
    const noted = defineTask({
      name: 'test.noted',
      queue: 'default',
      input: z.unknown(),
      timeLimit: { softSeconds: 2, hardSeconds: 2 },
      run: (_input, job) => void runs.push(job.signal.aborted),
    });
    const bench = benchAt(START, { clock, tasks: [noted] });
    const { id } = await bench.enqueue({ task: 'test.noted', input: LARGE, options: { max_retries: 0 } });
    bench.stores.inputs = 'hang';
    const delivered = bench.drain();
    for (let turn = 0; turn < 5; turn += 1) await settled();
    await clock.advance(10_000);
    await delivered;
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', attempt: 0 });
    expect(runs).toEqual([]);
  });

  test('is where its row says, whatever an older deployment made of its message', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    const [message] = bench.queues.take();
    await bench.deliver([{ ...message?.envelope, v: 1, input: null }]);
    expect(await payload(bench, id)).toMatchObject({ result: LARGE });
  });

  test('that is gone fails its job for good, and says so', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    await OBJECTS.delete(inputKey(id));
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ state: 'FAILURE', attempt: 1, error: { code: 'input_gone' } });
  });

  test('repeated under its key it is one job, kept once', async () => {
    const bench = benchAt();
    const call = { task: 'test.echo', input: LARGE, options: { idempotency_key: `large-${String(START)}` } };
    const [first, second] = [await bench.enqueue(call), await bench.enqueue(call)];
    expect([second.id, second.replayed]).toEqual([first.id, true]);
    expect(await keysOf(OBJECTS)).toEqual([inputKey(first.id)]);
    expect(bench.queues.sent).toHaveLength(1);
  });

  test('many of them in one batch: what memory does not hold comes back later, unclaimed', async () => {
    const bench = benchAt();
    for (let at = 0; at < 3; at += 1) await bench.enqueue({ task: 'test.echo', input: LARGE });
    // As if each were 20 MiB: two do not fit beside each other.
    const inputBytes = 20 * 1024 * 1024;
    const envelopes = bench.queues.take().map(({ envelope }) => ({ ...envelope, inputBytes }));
    const answers = (await bench.deliver(envelopes)).map(({ answer }) => answer);
    expect(answers[0]).toBe('ack');
    for (const answer of answers.slice(1)) expect(answer).toHaveProperty('delaySeconds', expect.any(Number));
    for (const { id } of envelopes.slice(1)) expect(await bench.job(id)).toMatchObject({ attempt: 0 });
  });
});

describe('a large result', () => {
  test('is kept under the claim that made it, so that a late attempt never writes over the one that counts', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    await env.DB.prepare('UPDATE jobs SET claim = 6 WHERE id = ?').bind(id).run();
    await bench.drain();
    const key = `result/${id}/7`;
    expect(await bench.job(id)).toMatchObject({ result: null, result_key: key });
    expect(await RESULTS.get(key)).toBe(JSON.stringify(LARGE));
  });

  test('of 64,000 bytes stays in the row', async () => {
    const bench = benchAt();
    const input = 'x'.repeat(64_000 - 2);
    const { id } = await bench.enqueue({ task: 'test.echo', input });
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ result: input, result_key: null });
  });

  test('is tried again while its store fails: one run, one result', async () => {
    let runs = 0;
    const counted = defineTask({
      name: 'test.counted',
      queue: 'default',
      input: z.unknown(),
      run: () => {
        runs += 1;
        return LARGE;
      },
    });
    const bench = new Bench({ tasks: [counted], clock: new HeldClock(START) });
    const { id } = await bench.enqueue({ task: 'test.counted' });
    bench.stores.results = 'fail';
    const draining = bench.drain();
    for (let turn = 0; turn < 5; turn += 1) await settled();
    expect((await bench.job(id)).state).toBe('STARTED');
    bench.stores.results = 'none';
    for (let turn = 0; turn < 5; turn += 1) if (bench.clock instanceof HeldClock) await bench.clock.advance(2_000);
    await draining;
    expect((await bench.job(id)).state).toBe('SUCCESS');
    expect(await payload(bench, id)).toMatchObject({ result: LARGE });
    expect(runs).toBe(1);
  });

  test('that KV lost is shown as expired, not as an error', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    await bench.drain();
    await RESULTS.delete(`result/${id}/1`);
    // A value just written may not be seen yet from where we are.
    expect(await payload(bench, id)).toBe(undefined);
    if (bench.clock instanceof HeldClock) await bench.clock.advance(60_001);
    expect(await payload(bench, id)).toMatchObject({ result: null, resultExpired: true });
  });

  test('whose store does not answer is not known, which is not the same as gone', async () => {
    const bench = benchAt();
    const { id } = await bench.enqueue({ task: 'test.echo', input: LARGE });
    await bench.drain();
    bench.stores.results = 'fail';
    expect(await payload(bench, id)).toBe(undefined);
  });
});

describe('INV-F24 result TTL: what expires is gone', () => {
  test.each([
    ['kept in the row', 'small'],
    ['kept aside', LARGE],
  ])('after its TTL a result %s is not shown any more, and that it expired is said', async (_, input) => {
    const clock = new HeldClock(START);
    const bench = benchAt(START, { clock });
    const { id } = await bench.enqueue({ task: 'test.echo', input, options: { result_ttl: 60 } });
    await bench.drain();
    await clock.advance(59_000);
    expect(await payload(bench, id)).toEqual({ input, result: input, resultExpired: false });
    await clock.advance(1_000);
    expect(await payload(bench, id)).toEqual({ input, result: null, resultExpired: true });
  });

  test.each([
    ['small', 'a secret'],
    ['large', LARGE],
  ])(
    'a %s payload of a sensitive task is gone everywhere at its TTL: D1, R2 and KV; its metadata stays',
    async (_, input) => {
      const clock = new HeldClock(START);
      const bench = benchAt(START, { clock });
      const { id } = await bench.enqueue({ task: 'test.secret', input, options: { tags: ['kept'] } });
      await bench.drain();
      expect(await payload(bench, id)).toEqual({ input, result: input, resultExpired: false });
      await tick(bench.rt, undefined);
      expect(await bench.job(id)).toMatchObject({ clears_at: START + 600_000, cleared_at: null });
      await clock.advance(600_000);
      // Hidden at its TTL, whenever the next tick comes.
      expect(await payload(bench, id)).toEqual({ input: null, result: null, resultExpired: true });
      const shown = jobJson(await bench.job(id), clock.now(), payloadOfRow(await bench.job(id), clock.now()), true);
      expect(JSON.stringify(shown)).not.toMatch(/secret of|half|a secret|xxx/);
      await tick(bench.rt, undefined);
      expect(await keysOf(OBJECTS)).toEqual([]);
      expect((await resultKeys()).filter((key) => key.includes(id))).toEqual([]);
      const row = await env.DB.prepare('SELECT * FROM jobs WHERE id = ?').bind(id).first();
      expect(JSON.stringify(row)).not.toMatch(/secret of|half|xxx|a secret/);
      expect(await bench.job(id)).toMatchObject({
        state: 'SUCCESS',
        tags: ['kept'],
        attempt: 1,
        input: null,
        result: null,
        cleared_at: START + 600_000,
      });
      expect(await runAgain(bench.rt, await bench.job(id))).toEqual({ kind: 'gone' });
    },
  );

  test('a store that fails while a payload has to leave: the next tick tries again', async () => {
    const clock = new HeldClock(START);
    const bench = benchAt(START, { clock });
    const { id } = await bench.enqueue({ task: 'test.secret', input: LARGE });
    await bench.drain();
    await clock.advance(600_000);
    bench.stores.results = 'fail';
    await tick(bench.rt, undefined);
    expect((await bench.job(id)).cleared_at).toBe(null);
    bench.stores.results = 'none';
    await tick(bench.rt, undefined);
    expect((await bench.job(id)).cleared_at).not.toBe(null);
    expect((await resultKeys()).filter((key) => key.includes(id))).toEqual([]);
  });

  test('whatever the end: a sensitive job that failed, vanished, expired or was revoked is cleared; a letter keeps its input', async () => {
    const clock = new HeldClock(START);
    const failing = defineTask({ ...secret, name: 'test.failing_secret', retry: { max: 0 }, run: fails });
    const bench = benchAt(START, { clock, tasks: [failing, secret] });
    const failed = await bench.enqueue({ task: failing.name, input: LARGE });
    await bench.drain();
    const later = { task: 'test.secret', input: LARGE, options: { countdown: 60, expires: 30 } };
    const [expired, revoked, vanished] = [
      await bench.enqueue(later),
      await bench.enqueue(later),
      await bench.enqueue({ task: 'test.secret', input: LARGE }),
    ];
    await revoke(bench.rt, revoked.id, false);
    await env.DB.prepare(
      `UPDATE jobs SET state = 'STARTED', claim = 4, attempt = 1, lost = 3, lease_until = ? WHERE id = ?`,
    )
      .bind(START, vanished.id)
      .run();
    await clock.advance(31_000);
    await tick(bench.rt, undefined);
    const ended = [failed, expired, revoked, vanished];
    expect((await Promise.all(ended.map(({ id }) => bench.job(id)))).map(({ state }) => state)).toEqual([
      'FAILURE',
      'REVOKED',
      'REVOKED',
      'FAILURE',
    ]);
    await clock.advance(700_000);
    await tick(bench.rt, undefined);
    for (const { id } of ended) expect((await bench.job(id)).cleared_at).not.toBe(null);
    expect(await keysOf(OBJECTS)).toEqual([inputKey(failed.id), inputKey(vanished.id)].sort());
  });

  test('a repetition of a call whose payload has left does not bring it back', async () => {
    const clock = new HeldClock(START);
    const bench = benchAt(START, { clock });
    const call = { task: 'test.secret', input: LARGE, options: { idempotency_key: `secret-${String(START)}` } };
    await bench.enqueue(call);
    await bench.drain();
    await clock.advance(600_000);
    await tick(bench.rt, undefined);
    expect((await bench.enqueue(call)).replayed).toBe(true);
    expect(await keysOf(OBJECTS)).toEqual([]);
  });
});

describe('dead letters of large inputs', () => {
  const failing = defineTask({
    name: 'test.failing',
    queue: 'default',
    input: z.unknown(),
    retry: { max: 0 },
    run: (_input, job: Job) => {
      if (job.source !== 'requeue') throw new Error('no');
      return _input;
    },
  });

  test('a requeue runs with the same input, kept for the new job by itself', async () => {
    const bench = benchAt(START, { tasks: [failing] });
    const { id } = await bench.enqueue({ task: 'test.failing', input: LARGE });
    await bench.drain();
    const letter = await env.DB.prepare('SELECT * FROM dead_letters').first<{ id: string; input_key: string }>();
    expect(letter?.input_key).toBe(inputKey(id));
    const requeued = await requeue(bench.rt, letter?.id ?? '', undefined);
    if (requeued?.kind !== 'requeued') throw new Error(requeued?.kind);
    await bench.drain();
    expect(await payload(bench, requeued.jobId)).toMatchObject({ input: LARGE, result: LARGE });
    expect(await keysOf(OBJECTS)).toEqual([inputKey(id), inputKey(requeued.jobId)].sort());
  });

  test('one whose store does not answer is left as it is, and one whose input is gone asks for another', async () => {
    const bench = benchAt(START, { tasks: [failing] });
    const { id } = await bench.enqueue({ task: 'test.failing', input: LARGE });
    await bench.drain();
    const letter = (await env.DB.prepare('SELECT id FROM dead_letters').first<{ id: string }>())?.id ?? '';
    bench.stores.inputs = 'fail';
    expect(await requeue(bench.rt, letter, undefined)).toEqual({ kind: 'silent', letter });
    bench.stores.inputs = 'none';
    await OBJECTS.delete(inputKey(id));
    expect(await requeue(bench.rt, letter, undefined)).toMatchObject({ kind: 'refused', faults: [{ path: 'input' }] });
    expect((await requeue(bench.rt, letter, 'another'))?.kind).toBe('requeued');
  });
});

describe('objects that nothing refers to', () => {
  async function sweepAll(bench: Bench): Promise<void> {
    for (let page = 0; page < 3; page += 1) await tick(bench.rt, undefined);
  }

  test('leave after five days, raw bodies with their deliveries after thirty; what a job, a letter or a stranger needs stays', async () => {
    const bench = benchAt();
    const kept = await bench.enqueue({ task: 'test.echo', input: LARGE });
    await bench.drain();
    const orphan = '01a1f8c5-034e-78b3-9cd3-1d3ff2b5a600';
    const put = (key: string, keptAt: number): Promise<void> => bench.rt.inputs.put(key, '{}', keptAt);
    await put(inputKey(orphan), START);
    await put(rawKey('github', orphan), START);
    await put(rawKey('github', kept.id), START);
    await put('exports/report.csv', START);
    await put(`exports/${orphan}`, START);
    await sweepAll(benchAt(START + 5 * DAY_MS - 1));
    expect(await keysOf(OBJECTS)).toHaveLength(6);
    await put(inputKey('01a1f8c5-034e-78b3-9cd3-1d3ff2b5a700'), START + DAY_MS);
    await sweepAll(benchAt(START + 5 * DAY_MS + 3_600_000));
    expect(await keysOf(OBJECTS)).toEqual(
      [
        `exports/${orphan}`,
        'exports/report.csv',
        inputKey(kept.id),
        inputKey('01a1f8c5-034e-78b3-9cd3-1d3ff2b5a700'),
        rawKey('github', orphan),
        rawKey('github', kept.id),
      ].sort(),
    );
    await sweepAll(benchAt(START + 30 * DAY_MS - 1));
    expect(await keysOf(OBJECTS)).toContain(rawKey('github', orphan));
    await sweepAll(benchAt(START + 30 * DAY_MS + 3_600_000));
    expect(await keysOf(OBJECTS)).not.toContain(rawKey('github', orphan));
  });

  test('an input leaves with its row, and one a dead letter needs when the letter is resolved', async () => {
    const failing = defineTask({
      name: 'test.failing',
      queue: 'default',
      input: z.unknown(),
      retry: { max: 0 },
      run: fails,
    });
    const bench = benchAt(START, { tasks: [failing, echo] });
    const done = await bench.enqueue({ task: 'test.echo', input: LARGE });
    const failed = await bench.enqueue({ task: 'test.failing', input: LARGE });
    for (const { envelope } of bench.queues.take()) await bench.deliver([envelope]);
    expect((await keysOf(OBJECTS)).length).toBe(2);
    await sweepAll(benchAt(START + 8 * DAY_MS));
    expect(await keysOf(OBJECTS)).toEqual([inputKey(failed.id)]);
    await expect(bench.job(done.id)).rejects.toThrow('There is no job');
    await sweepAll(benchAt(START + 40 * DAY_MS));
    await expect(bench.job(failed.id)).rejects.toThrow('There is no job');
    // Another walk, now without the row.
    await sweepAll(benchAt(START + 40 * DAY_MS + 3_600_000));
    expect(await keysOf(OBJECTS)).toEqual([inputKey(failed.id)]);
    await env.DB.prepare('DELETE FROM dead_letters').run();
    await sweepAll(benchAt(START + 41 * DAY_MS));
    expect(await keysOf(OBJECTS)).toEqual([]);
  });

  test('between two walks nobody lists anything', async () => {
    const bench = new Bench({ clock: new FastClock(START) });
    await tick(bench.rt, undefined);
    bench.counts.clear();
    await tick(bench.rt, undefined);
    // A walk that had taken place would have moved its cursor.
    expect(bench.counts.get('mark')?.rowsWritten ?? 0).toBe(0);
  });
});
