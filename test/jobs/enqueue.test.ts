import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Outgoing } from '../../src/core/ports.ts';
import { enqueue, submit, type Enqueued } from '../../src/jobs/enqueue.ts';
import { readCall } from '../../src/jobs/request.ts';
import { debugEffect } from '../../src/tasks/debug/effect.ts';
import { Bench, emptyDatabase, HeldClock, outage, settled, START } from '../worker/bench.ts';

beforeEach(emptyDatabase);

async function submitAs(bench: Bench, call: Parameters<typeof readCall>[1], owner = 'test'): Promise<Enqueued> {
  const request = readCall(bench.rt.registry, call);
  if (!request.ok) throw new Error(JSON.stringify(request.faults));
  return submit(bench.rt, request.value, { owner, source: 'test' });
}

function ids(outgoing: readonly Outgoing[]): readonly string[] {
  return outgoing.map(({ envelope }) => envelope.id);
}

async function rows(): Promise<readonly Record<string, unknown>[]> {
  return (await env.DB.prepare(`SELECT id, state, sent_at FROM jobs ORDER BY id`).all()).results;
}

describe('idempotency', () => {
  test('INV-F14 exactly one task per request: 100 parallel enqueues with one key are one row and one execution', async () => {
    const bench = new Bench();
    const call = { task: 'debug.effect', input: { key: 'f14' }, options: { idempotency_key: 'f14' } };
    const all = await Promise.all(Array.from({ length: 100 }, () => bench.enqueue(call)));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(all.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(await rows()).toHaveLength(1);
    // A repetition may overtake the first request, and both then send: the claim decides which message runs the job.
    await bench.drain();
    expect(await env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first()).toEqual({ n: 1 });
  });

  test('a request that died between its claim and its commit is made good by its repetition', async () => {
    const bench = new Bench();
    const call = { task: 'debug_task', options: { idempotency_key: 'died' } };
    bench.db.fault = () => ({ when: 'before', error: outage() });
    bench.queues.fault = 'refuse';
    expect(await submitAs(bench, call)).toEqual({ kind: 'unknown' });
    bench.db.fault = () => undefined;
    bench.queues.fault = 'none';
    const repeated = await bench.enqueue(call);
    expect(await rows()).toMatchObject([{ id: repeated.id }]);
    expect(ids(bench.queues.take())).toEqual([repeated.id]);
    await bench.enqueue(call);
    expect(bench.queues.sent).toEqual([]);
  });

  test('a repetition is taken by the queue alone while the database is silent', async () => {
    const bench = new Bench();
    const call = { task: 'debug_task', options: { idempotency_key: 'by queue' } };
    bench.db.fault = () => ({ when: 'before', error: outage() });
    bench.queues.fault = 'refuse';
    expect(await submitAs(bench, call)).toEqual({ kind: 'unknown' });
    bench.queues.fault = 'none';
    const repeated = await bench.enqueue(call);
    bench.db.fault = () => undefined;
    expect(await rows()).toEqual([]);
    await bench.drain();
    expect((await bench.job(repeated.id)).state).toBe('SUCCESS');
  });

  test('a key belongs to its owner, and after four days its repetition makes no new row', async () => {
    const clock = new HeldClock(START);
    const bench = new Bench({ clock });
    const call = { task: 'debug_task', options: { idempotency_key: 'owned' } };
    const mine = await bench.enqueue(call);
    const theirs = await submitAs(bench, call, 'somebody else');
    expect(theirs).toMatchObject({ kind: 'accepted', replayed: false });
    expect(theirs.kind === 'accepted' && theirs.id !== mine.id).toBe(true);
    await emptyDatabase();
    await clock.advance(2 * 86_400_000);
    expect((await bench.enqueue(call)).id).toBe(mine.id);
    expect(await rows()).toHaveLength(1);
  });

  test('a guard that cannot answer means nobody knows: the call is to be repeated', async () => {
    const bench = new Bench();
    const silent = {
      ...bench.rt,
      replay: { ...bench.rt.replay, claim: () => Promise.reject(new Error('The object is overloaded.')) },
    };
    const request = readCall(bench.rt.registry, { task: 'debug_task', options: { idempotency_key: 'k' } });
    if (!request.ok) throw new Error('refused');
    expect(await submit(silent, request.value, { owner: 'test', source: 'test' })).toEqual({ kind: 'unknown' });
    expect(await rows()).toEqual([]);
  });
});

describe('group commit', () => {
  test('what arrives during a commit shares the next one: one statement, one send', async () => {
    const bench = new Bench();
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, at) => bench.enqueue({ task: 'debug_task', input: at })),
    );
    await bench.background();
    expect(new Set(all.map(({ id }) => id)).size).toBe(60);
    expect(await rows()).toHaveLength(60);
    expect(bench.statements('accept')).toBe(2);
    expect(bench.queues.sends).toBe(2);
  });

  test('a row the database refuses does not spoil the others of its group', async () => {
    const bench = new Bench();
    await env.DB.exec(
      `CREATE TRIGGER no_poison BEFORE INSERT ON jobs WHEN instr(NEW.input, 'poison') BEGIN SELECT RAISE(ABORT, 'no poison'); END`,
    );
    const lead = bench.enqueue({ task: 'debug_task', input: 'first' });
    const calls = ['good', 'poison', 'fine'].map((input) => submitAs(bench, { task: 'debug_task', input }));
    await lead;
    const outcomes = await Promise.all(calls);
    await env.DB.exec(`DROP TRIGGER no_poison`);
    expect(await rows()).toHaveLength(3);
    // Its message was taken, so it is not lost: its consumer keeps it as a dead letter.
    expect(outcomes.map(({ kind }) => kind)).toEqual(['accepted', 'accepted', 'accepted']);
  });

  test('a message larger than a batch may carry waits for the next send, and every queue has its own', async () => {
    const bench = new Bench();
    const lead = bench.enqueue({ task: 'debug_task' });
    const large = 'x'.repeat(90_000);
    const calls = [large, large, large, 'small'].map((input) => bench.enqueue({ task: 'debug_task', input }));
    calls.push(bench.enqueue({ task: 'debug_task', options: { queue: 'bulk' } }));
    await Promise.all([lead, ...calls]);
    expect(bench.queues.sent).toHaveLength(6);
    // The first alone; then 240 KB of two large ones and the small one, the third large one, and the other queue.
    expect(bench.queues.sends).toBe(4);
  });

  test('a follower whose leader never answers commits alone, under the same id', async () => {
    const clock = new HeldClock(START);
    const bench = new Bench({ clock });
    let hanging = true;
    bench.db.fault = () => (hanging ? 'hang' : undefined);
    bench.queues.fault = 'hang';
    const lead = submitAs(bench, { task: 'debug_task', input: 'leader' });
    const follow = submitAs(bench, { task: 'debug_task', input: 'follower' });
    await settled();
    hanging = false;
    bench.queues.fault = 'none';
    await clock.advance(10_000);
    expect(await lead).toEqual({ kind: 'unknown' });
    expect(await follow).toMatchObject({ kind: 'accepted' });
    expect(await rows()).toHaveLength(1);
  });
});

describe('what is accepted is durable', () => {
  test('the database alone is enough: a refused message is owed, and the tick sends it', async () => {
    const bench = new Bench();
    bench.queues.fault = 'refuse';
    const job = await bench.enqueue({ task: 'debug_task' });
    await bench.background();
    expect(await rows()).toEqual([{ id: job.id, state: 'PENDING', sent_at: null }]);
  });

  test('the queue alone is enough: its consumer makes the row', async () => {
    const bench = new Bench();
    bench.db.fault = () => ({ when: 'before', error: outage() });
    const job = await bench.enqueue({ task: 'debug_task' });
    bench.db.fault = () => undefined;
    await bench.drain();
    expect((await bench.job(job.id)).state).toBe('SUCCESS');
  });

  test('a database that hangs is waited for 2.5 s, then the message alone is the acceptance', async () => {
    const clock = new HeldClock(START);
    const bench = new Bench({ clock });
    bench.db.fault = () => 'hang';
    const answer = submitAs(bench, { task: 'debug_task' });
    await settled();
    await clock.advance(2_499);
    expect(await Promise.race([answer, Promise.resolve('waiting')])).toBe('waiting');
    await clock.advance(1);
    expect(await answer).toMatchObject({ kind: 'accepted' });
    expect(bench.queues.sent).toHaveLength(1);
  });

  test('with neither, the answer is that nobody knows', async () => {
    const bench = new Bench();
    bench.db.fault = () => ({ when: 'before', error: outage() });
    bench.queues.fault = 'refuse';
    expect(await submitAs(bench, { task: 'debug_task' })).toEqual({ kind: 'unknown' });
  });

  test('a job due within the minute has a delayed message, one due later none, and both are SCHEDULED', async () => {
    const bench = new Bench();
    const soon = await bench.enqueue({ task: 'debug_task', options: { countdown: 30.2 } });
    const later = await bench.enqueue({ task: 'debug_task', options: { countdown: 61 } });
    expect(bench.queues.sent.map(({ envelope, delaySeconds }) => [envelope.id, delaySeconds])).toEqual([[soon.id, 31]]);
    expect(await rows()).toMatchObject([
      { id: soon.id, state: 'SCHEDULED', sent_at: START },
      { id: later.id, state: 'SCHEDULED', sent_at: null },
    ]);
  });

  test('a job due in a day whose database is silent is sent at once, and its consumer makes the owed row', async () => {
    const bench = new Bench();
    bench.db.fault = () => ({ when: 'before', error: outage() });
    const job = await bench.enqueue({ task: 'debug_task', options: { countdown: 86_400 } });
    bench.db.fault = () => undefined;
    expect(bench.queues.sent).toMatchObject([{ delaySeconds: 0 }]);
    expect(await bench.drain()).toEqual([{ id: job.id, answer: 'ack' }]);
    expect(await rows()).toEqual([{ id: job.id, state: 'SCHEDULED', sent_at: null }]);
    expect((await bench.job(job.id)).due_at).toBe(START + 86_400_000);
  });

  test('past 5,000 delayed messages of a queue in a minute rows are owed instead', async () => {
    const bench = new Bench();
    for (let taken = 0; taken < 5_000; taken += 1) bench.rt.isolate.delays.take('default', START);
    const job = await bench.enqueue({ task: 'debug_task', options: { countdown: 30 } });
    expect(bench.queues.sent).toEqual([]);
    expect(await rows()).toEqual([{ id: job.id, state: 'SCHEDULED', sent_at: null }]);
  });
});

test('a call from TypeScript is typed, and wrong values are said with their place', async () => {
  const bench = new Bench();
  const enqueued = await enqueue(bench.rt, debugEffect, { key: 'typed' }, { retryDelays: [1, 2], resultTtl: 60 });
  const job = await bench.job(enqueued.kind === 'accepted' ? enqueued.id : '');
  expect(job.options).toMatchObject({ maxRetries: 2, retryDelays: [1, 2], resultTtlSeconds: 60 });
  // @ts-expect-error -- a wrong shape does not compile
  await expect(enqueue(bench.rt, debugEffect, { kee: 'typo' })).rejects.toThrow('input.key');
  await expect(enqueue(bench.rt, debugEffect, { key: 'k' }, { countdown: -1 })).rejects.toThrow('options.countdown');
});
