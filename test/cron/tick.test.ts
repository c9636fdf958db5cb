import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { tick } from '../../src/cron/tick.ts';
import { isLost } from '../../src/cron/suspects.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;

test('a job due in three days is handed out in time with its exact delay, and never starts early', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const due = START + 3 * 86_400_000;
  const job = await bench.enqueue({ task: 'debug_task', options: { eta: new Date(due).toISOString() } });
  clock.set(due - 76_000);
  await tick(bench.rt, undefined);
  expect(bench.queues.sent).toEqual([]);
  clock.set(due - 16_500);
  await tick(bench.rt, undefined);
  const [message] = bench.queues.take();
  expect([message?.envelope.id, message?.delaySeconds]).toEqual([job.id, 17]);
  expect(await bench.deliver([message?.envelope])).toEqual([{ id: job.id, answer: { delaySeconds: 17 } }]);
  expect((await bench.job(job.id)).state).toBe('SCHEDULED');
  clock.set(due);
  await bench.deliver([message?.envelope], { attempts: 2 });
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
});

test('an early message whose row already says so is put back, and nothing is written', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const job = await bench.enqueue({ task: 'debug_task', options: { countdown: 40 } });
  const [message] = bench.queues.take();
  bench.counts.clear();
  expect(await bench.deliver([message?.envelope])).toEqual([{ id: job.id, answer: { delaySeconds: 40 } }]);
  expect(bench.rowsWritten()).toBe(0);
});

test('a message that comes less than a second early is waited for, not put back', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const job = await bench.enqueue({ task: 'debug_task', options: { countdown: 20 } });
  const [message] = bench.queues.take();
  clock.set(START + 19_300);
  expect(await bench.deliver([message?.envelope])).toEqual([{ id: job.id, answer: 'ack' }]);
  expect((await bench.job(job.id)).state).toBe('SUCCESS');
});

test('a job past its expiry never starts, whether its message comes or only the sweep', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const call = { task: 'debug.effect', input: { key: 'expired' }, options: { expires: 10 } };
  const met = await bench.enqueue(call);
  const [message] = bench.queues.take();
  const swept = await bench.enqueue(call);
  clock.set(START + 10_000);
  expect(await bench.deliver([message?.envelope])).toEqual([{ id: met.id, answer: 'ack' }]);
  await tick(bench.rt, undefined);
  for (const { id } of [met, swept]) {
    const job = await bench.job(id);
    expect([job.state, job.error?.code]).toEqual(['REVOKED', 'expired']);
  }
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first()).toEqual({ n: 0 });
});

test('a restart makes every open job owed a message, once for each boot', async () => {
  const bench = new Bench();
  const open = await bench.enqueue({ task: 'debug_task', input: 'open' });
  const done = await bench.enqueue({ task: 'debug_task', input: 'done' });
  const [first, second] = bench.queues.take();
  await bench.deliver([second?.envelope]);
  expect((await bench.job(done.id)).state).toBe('SUCCESS');
  await tick(bench.rt, 'boot-1');
  expect(bench.queues.take().map(({ envelope }) => envelope)).toEqual([first?.envelope]);
  await tick(bench.rt, 'boot-1');
  expect(bench.queues.sent).toEqual([]);
  await tick(bench.rt, 'boot-2');
  expect(bench.queues.sent.map(({ envelope }) => envelope.id)).toEqual([open.id]);
});

test('what a queue refuses stays owed, and does not keep the other queues from being served', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  for (const queue of ['default', 'bulk'])
    await bench.enqueue({ task: 'debug_task', options: { countdown: 100, queue } });
  clock.set(START + 100_000);
  const send = bench.queues.send.bind(bench.queues);
  bench.queues.send = (queue, messages) =>
    queue === 'default' ? Promise.reject(new Error('Queue is overloaded')) : send(queue, messages);
  await tick(bench.rt, undefined);
  expect(bench.queues.take().map(({ envelope }) => envelope.queue)).toEqual(['bulk']);
  bench.queues.send = send;
  await tick(bench.rt, undefined);
  expect(bench.queues.take().map(({ envelope }) => envelope.queue)).toEqual(['default']);
});

test('more owed jobs than one page are all sent in one tick, each once', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  await Promise.all(
    Array.from({ length: 450 }, () => bench.enqueue({ task: 'debug_task', options: { countdown: 61 } })),
  );
  clock.set(START + 61_000);
  await tick(bench.rt, undefined);
  await tick(bench.rt, undefined);
  const sent = bench.queues.sent.map(({ envelope }) => envelope.id);
  expect([sent.length, new Set(sent).size]).toEqual([450, 450]);
});

test('a lost message is sent again once its queue is empty, and not while it may still be in it', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  const job = await bench.enqueue({ task: 'debug_task' });
  bench.queues.take();
  clock.set(START + 119_000);
  await tick(bench.rt, undefined);
  expect(bench.queues.sent).toEqual([]);
  clock.set(START + 121_000);
  bench.queues.backlogs = { default: { count: 7, oldestSentAt: START - 1_000 } };
  await tick(bench.rt, undefined);
  expect(bench.queues.sent).toEqual([]);
  bench.queues.backlogs = {};
  await tick(bench.rt, undefined);
  expect(bench.queues.take().map(({ envelope }) => envelope.id)).toEqual([job.id]);
  // Sent again just now: no reason to doubt it for another two minutes.
  await tick(bench.rt, undefined);
  expect(bench.queues.sent).toEqual([]);
});

test('a message counts as lost by what its queue says of itself, or after half an hour that doubles', () => {
  const suspect = { id: 'x', sent_at: START, resends: 0, parked_for: null };
  const now = START + 10 * MINUTE;
  expect(isLost(suspect, { count: 0, oldestSentAt: undefined }, now)).toBe(true);
  expect(isLost(suspect, { count: 5_000, oldestSentAt: START }, now)).toBe(false);
  expect(isLost(suspect, { count: 5_000, oldestSentAt: START + 59_000 }, now)).toBe(false);
  expect(isLost(suspect, { count: 5_000, oldestSentAt: START + 61_000 }, now)).toBe(true);
  const full = { count: 5_000, oldestSentAt: START };
  expect(isLost(suspect, full, START + 30 * MINUTE)).toBe(true);
  expect(isLost({ ...suspect, resends: 2 }, full, START + 119 * MINUTE)).toBe(false);
  expect(isLost({ ...suspect, resends: 2 }, full, START + 120 * MINUTE)).toBe(true);
});

test('finished jobs leave after 7 days, failed ones after 30, and open ones and dead letters stay', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  await bench.enqueue({ task: 'debug_task' });
  const failed = await bench.enqueue({ task: 'debug.fail', options: { max_retries: 0 } });
  await bench.drain();
  const open = await bench.enqueue({ task: 'debug_task', options: { countdown: 90 * 86_400 } });
  const left = async (): Promise<readonly unknown[]> => {
    // Twice: the cursor first comes to the table's end and then starts again.
    for (let round = 0; round < 3; round += 1) await tick(bench.rt, undefined);
    return (await env.DB.prepare(`SELECT id FROM jobs ORDER BY id`).all()).results.map(({ id }) => id);
  };
  clock.set(START + 6.9 * 86_400_000);
  expect(await left()).toHaveLength(3);
  clock.set(START + 7.1 * 86_400_000);
  expect(await left()).toEqual([failed.id, open.id]);
  clock.set(START + 30.1 * 86_400_000);
  expect(await left()).toEqual([open.id]);
  const letters = await env.DB.prepare(`SELECT job_id FROM dead_letters`).all();
  expect(letters.results).toEqual([{ job_id: failed.id }]);
});

test('rows that must stay never hide old ones behind them', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  await Promise.all(
    Array.from({ length: 2_100 }, () => bench.enqueue({ task: 'debug_task', options: { countdown: 90 * 86_400 } })),
  );
  clock.set(START + 1_000);
  const old = await bench.enqueue({ task: 'debug_task' });
  await bench.drain();
  clock.set(START + 8 * 86_400_000);
  for (let round = 0; round < 2; round += 1) await tick(bench.rt, undefined);
  await expect(bench.job(old.id)).rejects.toThrow();
});

test('one sweep that fails does not keep the others from running', async () => {
  const clock = new FastClock(START);
  const bench = new Bench({ clock });
  bench.queues.fault = 'refuse';
  await bench.enqueue({ task: 'debug_task' });
  await bench.background();
  bench.queues.fault = 'none';
  bench.db.fault = (names) => (names === 'expired' ? { when: 'before', error: outage() } : undefined);
  await tick(bench.rt, 'boot');
  expect(bench.queues.sent).toHaveLength(1);
});

test('two ticks of one moment send an owed message once', async () => {
  const clock = new FastClock(START);
  const [one, two] = [new Bench({ clock }), new Bench({ clock })];
  await one.enqueue({ task: 'debug_task', options: { countdown: 61 } });
  clock.set(START + 61_000);
  await Promise.all([tick(one.rt, undefined), tick(two.rt, undefined)]);
  expect([...one.queues.sent, ...two.queues.sent]).toHaveLength(1);
});

test('a final state never changes, whatever statement tries', async () => {
  const bench = new Bench();
  const job = await bench.enqueue({ task: 'debug_task' });
  await bench.drain();
  for (const change of [`state = 'PENDING'`, `state = 'FAILURE'`, `finished_at = NULL`]) {
    const attempt = env.DB.prepare(`UPDATE jobs SET ${change} WHERE id = ?`).bind(job.id).run();
    await expect(attempt).rejects.toThrow('a final state never changes');
  }
});
