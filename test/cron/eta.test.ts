import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { repair } from '../../src/cron/repair.ts';
import { tick } from '../../src/cron/tick.ts';
import { consume } from '../../src/consumers/batch.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { mulberry32 } from '../mulberry32.ts';
import { emptyDatabase, START, type Bench } from '../worker/bench.ts';
import { askJson } from '../worker/client.ts';
import { World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** One request to the API of an isolate, in the world's time. */
function call(world: World, { rt }: Bench, ...asked: Asked): ReturnType<typeof askJson> {
  return world.run(askJson(rt, ...asked));
}

type Asked = [method: string, path: string, body?: unknown];

async function enqueue(world: World, bench: Bench, options: object): Promise<string> {
  const { status, body } = await call(world, bench, 'POST', '/api/v1/jobs', { task: 'debug_task', options });
  expect(status).toBe(202);
  return String(body['id']);
}

async function listed(world: World, bench: Bench, state: string): Promise<readonly unknown[]> {
  const { body } = await call(world, bench, 'GET', `/api/v1/jobs?state=${state}`);
  return z
    .array(z.looseObject({ id: z.string() }))
    .parse(body['items'])
    .map(({ id }) => id);
}

/** Ticks and deliveries of one isolate until that moment: a tick each minute at the second that `from` has. */
async function live(world: World, bench: Bench, until: number, bootId?: string): Promise<void> {
  while (world.clock.now() < until) {
    await world.run(tick(bench.rt, bootId));
    const next = Math.min(until, world.clock.now() + MINUTE);
    while (world.broker.readyAt <= next) {
      await world.pass(Math.max(0, world.broker.readyAt - world.clock.now()));
      await world.deliver(bench);
    }
    await world.pass(Math.max(0, next - world.clock.now()));
  }
}

const IN_THREE_DAYS = START + 3 * DAY + 12_345;

test('INV-F26 eta: a job due in three days is listed, outlives a restart, and starts at its time', async () => {
  const world = new World();
  const before = world.isolate();
  const id = await enqueue(world, before, { eta: new Date(IN_THREE_DAYS).toISOString() });
  expect(world.broker.size).toBe(0);
  expect(await listed(world, before, 'SCHEDULED')).toEqual([id]);
  await world.pass(DAY);
  await live(world, before, START + DAY + 5 * MINUTE, 'boot-1');

  await world.pass(2 * DAY - 6 * MINUTE);
  await live(world, before, IN_THREE_DAYS - 20 * SECOND, 'boot-1');
  expect(world.broker.taken).toEqual([id]);
  // The machine dies with the message in its queue.
  world.broker.lose();
  const after = world.isolate();
  await live(world, after, IN_THREE_DAYS - 1, 'boot-2');
  expect(await listed(world, after, 'SCHEDULED')).toEqual([id]);
  await live(world, after, IN_THREE_DAYS + 2 * SECOND, 'boot-2');

  const { body } = await call(world, after, 'GET', `/api/v1/jobs/${id}`);
  expect(body).toMatchObject({ state: 'SUCCESS', attempt: 1, due_at: new Date(IN_THREE_DAYS).toISOString() });
  const startedAt = Date.parse(String(body['started_at']));
  expect(startedAt - IN_THREE_DAYS).toBeGreaterThanOrEqual(0);
  expect(startedAt - IN_THREE_DAYS).toBeLessThanOrEqual(SECOND);
});

test('INV-F26 eta: a job due in three days can be cancelled until it starts, also with its message on the way', async () => {
  const world = new World();
  const bench = world.isolate();
  const options = { eta: new Date(IN_THREE_DAYS).toISOString() };
  const early = await enqueue(world, bench, options);
  const late = await enqueue(world, bench, options);
  const revoked = { state: 'REVOKED', previous_state: 'SCHEDULED', terminating: false };
  expect(await call(world, bench, 'DELETE', `/api/v1/jobs/${early}`)).toEqual({
    status: 200,
    body: { id: early, ...revoked },
  });
  expect(await listed(world, bench, 'SCHEDULED')).toEqual([late]);
  await world.pass(3 * DAY - MINUTE);
  await live(world, bench, IN_THREE_DAYS - 5 * SECOND);
  expect(world.broker.taken).toEqual([late]);
  expect((await call(world, bench, 'POST', `/api/v1/jobs/${late}/revoke`, {})).body).toEqual({ id: late, ...revoked });
  await live(world, bench, IN_THREE_DAYS + 5 * MINUTE);
  for (const id of [early, late]) {
    expect(await world.run(bench.job(id))).toMatchObject({ state: 'REVOKED', attempt: 0, started_at: null });
  }
  expect(world.broker.size).toBe(0);
});

test.each([
  ['a year', { eta: new Date(START + 365 * DAY + 1).toISOString() }, START + 365 * DAY + 1],
  ['a hundred years, as an instant', { eta: new Date(START + 36_524 * DAY).toISOString() }, START + 36_524 * DAY],
  ['a hundred years, as a countdown', { countdown: 36_500 * 86_400 }, START + 36_500 * DAY],
  ['nearly eight thousand years', { eta: '9999-12-31T23:59:59.999Z' }, Date.UTC(9999, 11, 31, 23, 59, 59, 999)],
])('INV-F26 eta: there is no upper bound: %s ahead it starts at its time', async (_, options, due) => {
  const world = new World();
  const bench = world.isolate();
  const id = await enqueue(world, bench, options);
  for (const [wait, state] of [
    [due - START - 2 * MINUTE, 'SCHEDULED'],
    [2 * MINUTE + SECOND, 'SUCCESS'],
  ] as const) {
    // One leap: what counts is what the ticks of the last minutes do.
    await world.clock.advance(wait - 2 * MINUTE);
    await live(world, bench, world.clock.now() + 2 * MINUTE);
    expect(await world.run(bench.job(id))).toMatchObject({ state, due_at: due });
  }
  expect((await world.run(bench.job(id))).started_at).toBeGreaterThanOrEqual(due);
});

/** A night on which clocks are changed: when, and how far they are ahead of UTC before and after, in minutes. */
interface Night {
  readonly zone: string;
  readonly at: number;
  readonly offsets: readonly [number, number];
}

const NIGHTS: readonly Night[] = [
  { zone: 'America/New_York', at: Date.UTC(2040, 2, 11, 7), offsets: [-300, -240] },
  { zone: 'Europe/Berlin', at: Date.UTC(2040, 2, 25, 1), offsets: [60, 120] },
  { zone: 'Australia/Lord_Howe', at: Date.UTC(2040, 2, 31, 15), offsets: [660, 630] },
  { zone: 'Australia/Lord_Howe', at: Date.UTC(2040, 9, 6, 15, 30), offsets: [630, 660] },
  { zone: 'Europe/Berlin', at: Date.UTC(2040, 9, 28, 1), offsets: [120, 60] },
  { zone: 'America/New_York', at: Date.UTC(2040, 10, 4, 6), offsets: [-240, -300] },
];

/** What people there read on their clocks, as if it were UTC. */
function wallClock(zone: string, at: number): number {
  const parts = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'medium' }).format(
    at,
  );
  return Date.parse(`${parts.replace(' ', 'T')}Z`);
}

test.each(NIGHTS)('clocks in $zone are changed at $at', ({ zone, at, offsets: [before, after] }) => {
  expect(wallClock(zone, at - SECOND) - (at - SECOND)).toBe(before * MINUTE);
  expect(wallClock(zone, at) - at).toBe(after * MINUTE);
});

interface Wish {
  readonly options: { readonly eta: string } | { readonly countdown: number };
  /** When it may start, in epoch ms, fractions of one included; for a countdown since it was accepted. */
  readonly due: number;
}

/** An instant as somebody writes it whose clock is `offset` minutes ahead of UTC, to the microsecond. */
function written(wall: number, offset: number, micros: number): string {
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`;
  return `${new Date(wall).toISOString().slice(0, -1)}${String(micros).padStart(3, '0')}${zone}`;
}

const MOMENTS = 8;

/** 10,000 wishes around the nights, on plain days, and soon; those of one minute within two of its seconds. */
function wishes(chance: () => number): readonly Wish[] {
  const upTo = (n: number): number => Math.floor(chance() * n);
  const near = (): number => upTo(2 * SECOND);
  const wish = (wall: number, offset: number): Wish => {
    const micros = upTo(1_000);
    return { options: { eta: written(wall, offset, micros) }, due: wall - offset * MINUTE + micros / 1_000 };
  };
  const nights = NIGHTS.flatMap(({ at, offsets }) => {
    const change = at + Math.min(...offsets) * MINUTE;
    const moments = Array.from({ length: MOMENTS }, () => change + upTo(HOUR));
    return Array.from({ length: 1_300 }, () => wish((moments[upTo(MOMENTS)] ?? 0) + near(), offsets[upTo(2)] ?? 0));
  });
  const moments = Array.from({ length: 2 * MOMENTS }, () => START + DAY + upTo(5 * DAY));
  const days = Array.from({ length: 1_200 }, () => wish((moments[upTo(2 * MOMENTS)] ?? 0) + near(), 0));
  const soon = Array.from({ length: 1_000 }, () => {
    const countdown = chance() * 100;
    return { options: { countdown }, due: countdown * SECOND };
  });
  return [...nights, ...days, ...soon].sort(() => chance() - 0.5);
}

test('INV-F26 eta: of 10,000 jobs none starts early by its own clock, and each runs once', async () => {
  const chance = mulberry32(20_400_102);
  const upTo = (n: number): number => Math.floor(chance() * n);
  const world = new World();
  const starts = new Map<number, number>();
  const early: string[] = [];
  let latest = 0;
  const punctual = defineTask({
    name: 'test.punctual',
    queue: 'default',
    input: z.object({ nth: z.int() }),
    run({ nth }, job) {
      starts.set(nth, (starts.get(nth) ?? 0) + 1);
      const wish = wished[nth];
      if (wish === undefined) throw new Error('Nobody wished for this.');
      const due = 'eta' in wish.options ? wish.due : job.createdAt + wish.due;
      const late = job.clock.now() - due;
      if (late < 0) early.push(`${JSON.stringify(wish.options)}: ${String(-late)} ms early`);
      latest = Math.max(latest, late);
    },
  });
  const wished = wishes(chance);
  const isolates = [-500, -321, 0, 123, 500].map((aheadMs) => world.isolate({ tasks: [punctual], aheadMs }));
  const anyone = (): Bench => isolates[upTo(isolates.length)] ?? world.isolate();

  for (let from = 0; from < wished.length; from += 1_000) {
    const jobs = wished.slice(from, from + 1_000).map(({ options }, at) => ({
      task: 'test.punctual',
      input: { nth: from + at },
      options,
    }));
    expect((await call(world, anyone(), 'POST', '/api/v1/jobs/batch', { jobs })).status).toBe(202);
    await world.clock.advance(upTo(700));
  }

  // Ticks at any second of those minutes in which there is something to do; some come twice at once, and some do not,
  // but the one after them.
  const { results } = await env.DB.prepare(`SELECT DISTINCT due_at / ${String(MINUTE)} AS minute FROM jobs`).all();
  const minutes = new Set(results.flatMap(({ minute }) => [-2, -1, 0, 1].map((by) => Number(minute) + by)));
  let ticks = 0;
  let missed = false;
  for (const minute of [...minutes].sort((a, b) => a - b)) {
    await deliverUntil(Math.max(world.clock.now(), minute * MINUTE + upTo(MINUTE)));
    missed = !missed && chance() < 0.2;
    const times = missed ? 0 : 1 + upTo(2);
    await world.run(Promise.all(Array.from({ length: times }, () => repair(anyone().rt))));
    ticks += times;
    world.broker.forgetDelays(() => chance() < 0.05);
  }
  for (let rest = 0; rest < 3; rest += 1) {
    await deliverUntil(world.clock.now() + 2 * MINUTE);
    await world.run(repair(anyone().rt));
  }

  async function deliverUntil(until: number): Promise<void> {
    for (let at = world.broker.readyAt; at <= until; at = world.broker.readyAt) {
      if (at > world.clock.now()) await world.clock.advance(at - world.clock.now());
      const batch = world.broker.nextBatch();
      if (batch === undefined) continue;
      await world.run(consume(anyone().rt, batch));
      batch.end();
    }
    await world.clock.advance(Math.max(0, until - world.clock.now()));
  }

  expect(early).toEqual([]);
  expect([starts.size, [...starts.values()].filter((runs) => runs !== 1)]).toEqual([10_000, []]);
  const rows = await env.DB.prepare(
    `SELECT state, attempt, lost, count(*) AS n, sum(started_at < due_at) AS early FROM jobs GROUP BY 1, 2, 3`,
  ).all();
  expect(rows.results).toEqual([{ state: 'SUCCESS', attempt: 1, lost: 0, n: 10_000, early: 0 }]);
  console.info(`10,000 etas, ${String(ticks)} ticks: 0 early, at most ${(latest / SECOND).toFixed(3)} s late`);
  expect(latest).toBeLessThan(2 * MINUTE);
}, 60_000);
