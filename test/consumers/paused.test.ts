import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { wakeResumed } from '../../src/cron/resumed.ts';
import type { Envelope } from '../../src/core/envelope.ts';
import { claimAll } from '../../src/jobs/claim.ts';
import { revoke } from '../../src/jobs/inspect.ts';
import { jobJson } from '../../src/jobs/job-json.ts';
import { payloadOfRow } from '../../src/jobs/payloads.ts';
import { pause, resume } from '../../src/jobs/queue-control.ts';
import type { Settlement } from '../../src/jobs/settlement.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, FastClock, HeldClock, settled, START, untilOver } from '../worker/bench.ts';
import { World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;

/** A job of a paused queue whose message has come once. */
async function parked(clock = new FastClock(START)): Promise<{ bench: Bench; id: string; message: Envelope }> {
  const bench = new Bench({ clock });
  await pause(bench.rt, 'default', null, 'test');
  const { id } = await bench.enqueue({ task: 'debug_task' });
  const [message] = bench.queues.take().map(({ envelope }) => envelope);
  if (message === undefined) throw new Error('It has no message.');
  expect(await bench.deliver([message])).toEqual([{ id, answer: 'ack' }]);
  return { bench, id, message };
}

async function column(id: string, name: string): Promise<unknown> {
  return env.DB.prepare(`SELECT ${name} FROM jobs WHERE id = ?`).bind(id).first(name);
}

async function waitingFor(bench: Bench, id: string): Promise<unknown> {
  const [job, now] = [await bench.job(id), bench.clock.now()];
  return jobJson(job, now, payloadOfRow(job, now), true)['waiting_for'];
}

describe('a job of a paused queue', () => {
  test('is parked by its first delivery: acked, no attempt used, and it says what it waits for', async () => {
    const { bench, id } = await parked();
    expect(await bench.job(id)).toMatchObject({ state: 'PENDING', attempt: 0, parked_for: 'pause' });
    expect(await waitingFor(bench, id)).toBe('the queue default is paused');
    // It has no message: however long the pause is, no delivery is burnt and nothing doubts it.
    for (const later of [3, 40, 24 * 60]) {
      (bench.clock as FastClock).set(START + later * MINUTE);
      await tick(bench.rt, undefined);
      expect(bench.queues.sent).toEqual([]);
    }
  });

  test('runs once it is resumed: the wake sends what was parked, each job once', async () => {
    const { bench, id } = await parked();
    await resume(bench.rt, 'default', 'test');
    expect(await waitingFor(bench, id)).toBe('the next tick, which sends its message');
    expect(await wakeResumed(bench.rt, ['default'])).toBe(1);
    expect(bench.queues.sent.map(({ envelope }) => envelope.id)).toEqual([id]);
    expect(await waitingFor(bench, id)).toBe('a consumer of the queue default');
    await tick(bench.rt, undefined);
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS', attempt: 1, parked_for: null });
  });

  test('is woken by the tick where the wake was lost', async () => {
    const { bench, id } = await parked();
    await resume(bench.rt, 'default', 'test');
    await tick(bench.rt, undefined);
    await bench.drain();
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });

  test('is sent again where the message of its wake was lost', async () => {
    const { bench, id } = await parked();
    await resume(bench.rt, 'default', 'test');
    await wakeResumed(bench.rt, ['default']);
    bench.queues.take();
    (bench.clock as FastClock).set(START + 121_000);
    await tick(bench.rt, undefined);
    await bench.drain();
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });

  test('that is resumed between its refusal and its park is not stranded', async () => {
    const bench = new Bench();
    await pause(bench.rt, 'default', null, 'test');
    const { id } = await bench.enqueue({ task: 'debug_task' });
    const [message] = bench.queues.take().map(({ envelope }) => envelope);
    const other = new Bench({ clock: bench.clock });
    const { db } = bench.rt;
    const run = db.run.bind(db);
    bench.rt.db.run = async (statement) => {
      if (statement.name === 'park') {
        await resume(other.rt, 'default', 'test');
        expect(await wakeResumed(other.rt, ['default'])).toBe(0);
      }
      return run(statement);
    };
    expect(await bench.deliver([message])).toEqual([{ id, answer: { delaySeconds: 1 } }]);
    expect(await column(id, 'parked_for')).toBeNull();
    expect(await bench.deliver([message], { attempts: 2 })).toEqual([{ id, answer: 'ack' }]);
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });

  test('stays parked when another copy of its message comes, also at its 90th delivery, and runs once', async () => {
    const { bench, id, message } = await parked();
    for (const attempts of [2, 90, 99]) {
      expect(await bench.deliver([message], { attempts })).toEqual([{ id, answer: 'ack' }]);
      expect(await column(id, 'parked_for')).toBe('pause');
    }
    await tick(bench.rt, undefined);
    expect(bench.queues.sent).toEqual([]);
    await resume(bench.rt, 'default', 'test');
    await tick(bench.rt, undefined);
    expect(bench.queues.sent).toHaveLength(1);
    // A copy that comes late, after the wake: only one of them is a run.
    await bench.deliver([message], { attempts: 3 });
    await bench.drain();
    expect(await bench.job(id)).toMatchObject({ state: 'SUCCESS', attempt: 1 });
  });

  test('stays parked when its message comes by the dead-letter queue', async () => {
    const { bench, id, message } = await parked();
    expect(await bench.deliver([message], { queue: 'default-dlq' })).toEqual([{ id, answer: 'ack' }]);
    expect(await column(id, 'parked_for')).toBe('pause');
    await tick(bench.rt, undefined);
    expect(bench.queues.sent).toEqual([]);
    await resume(bench.rt, 'default', 'test');
    await tick(bench.rt, undefined);
    await bench.drain();
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });

  test('whose message came only to the dead-letter queue is owed one when it is resumed', async () => {
    const bench = new Bench();
    await pause(bench.rt, 'default', null, 'test');
    const { id } = await bench.enqueue({ task: 'debug_task' });
    await bench.deliver(
      bench.queues.take().map(({ envelope }) => envelope),
      { queue: 'default-dlq' },
    );
    await tick(bench.rt, undefined);
    expect(bench.queues.sent).toEqual([]);
    expect(await waitingFor(bench, id)).toBe('the queue default is paused');
    await resume(bench.rt, 'default', 'test');
    await tick(bench.rt, undefined);
    await bench.drain();
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });

  test('whose row its consumer makes is parked as any other', async () => {
    const { bench, id, message } = await parked();
    await env.DB.prepare(`DELETE FROM jobs`).run();
    expect(await bench.deliver([message], { attempts: 2 })).toEqual([{ id, answer: 'ack' }]);
    expect(await column(id, 'parked_for')).toBe('pause');
  });

  test('expires all the same, and can be revoked', async () => {
    const clock = new FastClock(START);
    const { bench, id } = await parked(clock);
    const expiring = await bench.enqueue({ task: 'debug_task', options: { expires: 600 } });
    await bench.drain();
    expect(await revoke(bench.rt, id, false)).toMatchObject({ previous: 'PENDING', state: 'REVOKED' });
    clock.set(START + 10 * MINUTE);
    await tick(bench.rt, undefined);
    expect(await bench.job(expiring.id)).toMatchObject({ state: 'REVOKED', error: { code: 'expired' } });
    await resume(bench.rt, 'default', 'test');
    expect(await wakeResumed(bench.rt)).toBe(0);
  });

  test('waits through a restart that emptied the queues, and runs after it', async () => {
    const { bench, id } = await parked();
    const unmet = await bench.enqueue({ task: 'debug_task' });
    bench.queues.take();
    await tick(bench.rt, 'boot');
    expect(bench.queues.sent).toEqual([]);
    expect(await column(id, 'parked_for')).toBe('pause');
    await resume(bench.rt, 'default', 'test');
    await tick(bench.rt, 'boot');
    expect(bench.queues.sent.map(({ envelope }) => envelope.id).sort()).toEqual([id, unmet.id].sort());
    await bench.drain();
    for (const each of [id, unmet.id]) expect(await bench.job(each)).toMatchObject({ state: 'SUCCESS', attempt: 1 });
  });
});

const onceMore = defineTask({
  name: 'test.once_more',
  queue: 'default',
  input: z.unknown(),
  retry: { max: 1, delays: { kind: 'delays', seconds: [5] } },
  async run(_, job) {
    await job.clock.sleep(10_000);
    if (job.attempt === 1) throw new Error('not yet');
    await job.enqueue(onceMore, {});
    return 'done';
  },
});

test('what runs when its queue is paused finishes, and what it would retry waits for the resumption', async () => {
  const clock = new HeldClock(START);
  const bench = new Bench({ clock, tasks: [onceMore] });
  const failing = await bench.enqueue({ task: 'test.once_more' });
  const quick = await bench.enqueue({ task: 'debug.sleep', input: { seconds: 10 } });
  const envelopes = bench.queues.take().map(({ envelope }) => envelope);
  const running = bench.deliver(envelopes);
  await settled();
  await pause(bench.rt, 'default', null, 'test');
  await clock.advance(11_000);
  expect((await untilOver(clock, running)).map(({ answer }) => answer)).toEqual([{ delaySeconds: 5 }, 'ack']);
  expect((await bench.job(quick.id)).state).toBe('SUCCESS');
  await clock.advance(5_000);
  const again = envelopes.filter(({ id }) => id === failing.id);
  expect((await bench.deliver(again, { attempts: 2 }))[0]?.answer).toBe('ack');
  expect(await bench.job(failing.id)).toMatchObject({ state: 'RETRY', attempt: 1, parked_for: 'pause' });
  await resume(bench.rt, 'default', 'test');
  await wakeResumed(bench.rt);
  const second = bench.deliver(bench.queues.take().map(({ envelope }) => envelope));
  await settled();
  // Paused again meanwhile: a job that a job enqueues is accepted, and waits.
  await pause(bench.rt, 'default', null, 'test');
  await clock.advance(10_100);
  await untilOver(clock, second);
  expect(await bench.job(failing.id)).toMatchObject({ state: 'SUCCESS', attempt: 2 });
  const [child, ...others] = await bench.drain();
  expect([child?.answer, others]).toEqual(['ack', []]);
  expect(await bench.job(child?.id ?? '')).toMatchObject({ parent_id: failing.id, parked_for: 'pause', attempt: 0 });
});

test('one paused queue keeps no other from running, and a batch of it costs a claim, a look and a park', async () => {
  const bench = new Bench();
  await pause(bench.rt, 'bulk', null, 'test');
  for (const queue of ['bulk', 'bulk', 'default', 'bulk'])
    await bench.enqueue({ task: 'debug_task', options: { queue } });
  bench.counts.clear();
  const answers = await bench.drain();
  expect(answers.map(({ answer }) => answer)).toEqual(['ack', 'ack', 'ack', 'ack']);
  const states = await env.DB.prepare(
    `SELECT queue, state, count(*) AS n FROM jobs GROUP BY queue ORDER BY queue`,
  ).all();
  expect(states.results).toEqual([
    { queue: 'bulk', state: 'PENDING', n: 3 },
    { queue: 'default', state: 'SUCCESS', n: 1 },
  ]);
  expect(['claim', 'unwon', 'park'].map((name) => bench.statements(name))).toEqual([2, 1, 1]);
});

test('a claim refuses what is paused, in the one statement that claims', async () => {
  const { bench, message } = await parked();
  const said = new Map<string, Settlement>();
  const { won } = await claimAll(bench.rt, [{ envelope: message, deliveries: 1 }], (id, settlement) => {
    said.set(id, settlement);
  });
  expect([won, [...said.values()]]).toEqual([[], [{ kind: 'ack' }]]);
});

describe('a queue that is paused until a time', () => {
  /** When jobs of each kind ran; a tick a minute, from a second of its own. */
  async function startsOf(tickOffset: number, until: number): Promise<{ ran: readonly number[]; deliveries: number }> {
    await emptyDatabase();
    const world = new World();
    const ran: number[] = [];
    const noting = defineTask({
      name: 'test.noting',
      queue: 'default',
      input: z.unknown(),
      run: (_, job) => {
        ran.push(job.clock.now() - START);
        return 'done';
      },
    });
    const bench = world.isolate({ tasks: [noting] });
    const enqueue = async (countdown: number): Promise<void> => {
      await world.run(bench.enqueue({ task: 'test.noting', options: { countdown } }));
    };
    await world.run(pause(bench.rt, 'default', START + until, 'test'));
    const work = world.keepDelivering(bench, START + until + 30_000, 1_000);
    const rest = (async () => {
      // Parked at once; a message that waits; owed; due just before, and just after.
      for (const countdown of [0, 30, 90, until / 1_000 - 70, until / 1_000 - 5, until / 1_000 + 10]) {
        await enqueue(countdown);
      }
      for (let at = START + tickOffset; at < START + until - 1_000; at += MINUTE) {
        await world.clock.sleep(at - world.clock.now());
        await tick(bench.rt, undefined);
      }
      await world.clock.sleep(START + until - 20_000 - world.clock.now());
      await enqueue(0);
    })();
    await world.run(Promise.all([work, rest]));
    return { ran, deliveries: world.broker.taken.length };
  }

  test.each([1_000, 15_000, 29_000, 44_000, 59_000])(
    'runs again by itself within two seconds of it, however the tick falls (%d ms)',
    async (tickOffset) => {
      const until = 5 * MINUTE;
      const { ran, deliveries } = await startsOf(tickOffset, until);
      expect(ran).toHaveLength(7);
      const [late, ...onTime] = ran.toSorted((a, b) => b - a);
      for (const at of onTime) {
        expect(at).toBeGreaterThanOrEqual(until);
        expect(at).toBeLessThanOrEqual(until + 2_000);
      }
      expect(late).toBeGreaterThanOrEqual(until + 10_000);
      expect(late).toBeLessThanOrEqual(until + 12_000);
      // A message that brought the job here, and at most one that woke it.
      expect(deliveries).toBeLessThanOrEqual(14);
    },
  );

  test('says until when, and takes the new end of a second pause', async () => {
    const clock = new FastClock(START);
    const bench = new Bench({ clock });
    await pause(bench.rt, 'default', START + 5 * MINUTE, 'test');
    const { id } = await bench.enqueue({ task: 'debug_task' });
    // Its message has not come yet.
    expect(await waitingFor(bench, id)).toBe(
      `the queue default is paused until ${new Date(START + 5 * MINUTE).toISOString()}`,
    );
    await pause(bench.rt, 'default', START + 9 * MINUTE, 'test');
    await bench.drain();
    clock.set(START + 6 * MINUTE);
    await tick(bench.rt, undefined);
    expect(bench.queues.sent).toEqual([]);
    expect(await waitingFor(bench, id)).toBe(
      `the queue default is paused until ${new Date(START + 9 * MINUTE).toISOString()}`,
    );
    clock.set(START + 9 * MINUTE);
    await tick(bench.rt, undefined);
    await bench.drain();
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });
});
