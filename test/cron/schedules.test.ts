import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { tick } from '../../src/cron/tick.ts';
import { Bench, emptyDatabase, FastClock, START } from '../worker/bench.ts';
import { askJson } from '../worker/client.ts';

beforeEach(emptyDatabase);

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const EFFECT = { task: 'debug.effect', input: { key: 'F-27' } };

function benchAt(now: number): Bench {
  return new Bench({ clock: new FastClock(now) });
}

async function create(bench: Bench, says: object): Promise<void> {
  const { status, body } = await askJson(bench.rt, 'POST', '/api/v1/schedules', { name: 'F-27', ...EFFECT, ...says });
  expect([status, body['errors']]).toEqual([201, undefined]);
}

async function effects(): Promise<unknown> {
  return env.DB.prepare(`SELECT count(*) AS n FROM debug_effects`).first('n');
}

/** Due time, cause, and what became of it, oldest first. */
async function history(bench: Bench): Promise<unknown[]> {
  const { body } = await askJson(bench.rt, 'GET', '/api/v1/schedules/F-27/history');
  const items = body['items'] as Record<string, string>[];
  return items.map(({ due_at: due, cause, outcome, state }) => [due, cause, outcome, state]).reverse();
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

test('INV-F27 schedules: two ticks of the same minute are one run, and do none of its work themselves', async () => {
  const clock = new FastClock(START - 30 * SECOND);
  const [one, other] = [new Bench({ clock }), new Bench({ clock })];
  await create(one, { every: '1m' });
  await Promise.all([tick(one.rt, undefined), tick(other.rt, undefined)]);
  await tick(other.rt, undefined);
  const sent = [...one.queues.take(), ...other.queues.take()];
  // For exactly its time.
  expect(sent.map(({ envelope, delaySeconds }) => [envelope.dueAt, delaySeconds])).toEqual([[START, 30]]);
  expect(await effects()).toBe(0);
  clock.set(START);
  // However often its message comes.
  for (const bench of [one, other]) await bench.deliver(sent.map(({ envelope }) => envelope));
  expect(await effects()).toBe(1);
  expect((await history(one))[0]).toEqual([iso(START), 'due', 'fired', 'SUCCESS']);
});

test('INV-F27 schedules: a missed hour is one catch-up, and says what else was missed', async () => {
  const clock = new FastClock(START - 30 * SECOND);
  const bench = new Bench({ clock });
  await create(bench, { every: '15m' });
  await tick(bench.rt, undefined);
  clock.set(START);
  await bench.drain();
  // No tick comes for an hour and two minutes.
  clock.set(START + HOUR + 2 * MINUTE);
  await tick(bench.rt, undefined);
  await tick(bench.rt, undefined);
  await bench.drain();
  expect(await effects()).toBe(2);
  expect(await history(bench)).toEqual([
    [iso(START), 'due', 'fired', 'SUCCESS'],
    [iso(START + 45 * MINUTE), 'catch_up', 'missed', null],
    [iso(START + HOUR), 'catch_up', 'fired', 'SUCCESS'],
  ]);
});

test.each([
  ['in winter', Date.UTC(2040, 0, 9, 13, 30)],
  ['in summer', Date.UTC(2040, 6, 9, 12, 30)],
])('INV-F27 schedules: half past eight in New York is that %s, too', async (_, due) => {
  const bench = benchAt(due - HOUR);
  await create(bench, { cron: '30 8 * * *', timezone: 'America/New_York' });
  (bench.clock as FastClock).set(due - 76 * SECOND);
  await tick(bench.rt, undefined);
  expect(bench.queues.sent).toEqual([]);
  (bench.clock as FastClock).set(due - 16 * SECOND);
  await tick(bench.rt, undefined);
  expect(bench.queues.sent.map(({ envelope, delaySeconds }) => [envelope.dueAt, delaySeconds])).toEqual([[due, 16]]);
});

test('INV-F27 schedules: what is due while the run before it has not ended is skipped, and says so', async () => {
  const clock = new FastClock(START - 30 * SECOND);
  const bench = new Bench({ clock });
  await create(bench, { every: '1m' });
  await tick(bench.rt, undefined);
  await env.DB.prepare(`UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, started_at = ?1, lease_until = ?2`)
    .bind(START, START + HOUR)
    .run();
  bench.queues.take();
  clock.set(START + MINUTE);
  await tick(bench.rt, undefined);
  await bench.drain();
  expect(await effects()).toBe(0);
  expect((await history(bench)).slice(0, 2)).toEqual([
    [iso(START), 'due', 'fired', 'STARTED'],
    [iso(START + MINUTE), 'due', 'skipped', 'REVOKED'],
  ]);
});

test('INV-F27 schedules: what the next run overtakes before it has begun was skipped, too, and says why', async () => {
  const clock = new FastClock(START - SECOND);
  const bench = new Bench({ clock });
  await create(bench, { every: '20s', overlap: 'cancel_previous' });
  await env.DB.prepare(
    `UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, started_at = ?1, lease_until = ?2
WHERE id = (SELECT min(id) FROM jobs)`,
  )
    .bind(START, START + HOUR)
    .run();
  clock.set(START + 41 * SECOND);
  await tick(bench.rt, undefined);
  expect((await history(bench)).slice(0, 3)).toEqual([
    [iso(START), 'due', 'fired', 'STARTED'],
    [iso(START + 20 * SECOND), 'due', 'skipped', 'REVOKED'],
    [iso(START + 40 * SECOND), 'due', 'fired', 'PENDING'],
  ]);
  const { body } = await askJson(bench.rt, 'GET', '/api/v1/schedules/F-27/history');
  expect((body['items'] as Record<string, string>[]).find(({ outcome }) => outcome === 'skipped')?.['reason']).toBe(
    'Cancelled: the next run of its schedule was due.',
  );
});
