import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseRate } from '../../src/core/rate.ts';
import type { RateLimiter } from '../../src/durable/rate-limiter.ts';
import { RateWindow, type StartAnswer, type StartAsk } from '../../src/durable/rate-window.ts';
import type { Env } from '../../src/env.ts';

const NOW = Date.UTC(2040, 0, 2, 12);
const RATE = parseRate('3/10s');

function limiter(name: string): DurableObjectStub<RateLimiter> {
  return (env as unknown as Env).RATE_LIMITER.getByName(name);
}

/** Sets the clock of the object, which has its own. */
async function at(stub: DurableObjectStub<RateLimiter>, now: number): Promise<void> {
  await runInDurableObject(stub, (instance: RateLimiter) => {
    instance.clock = { now: () => now };
  });
}

function asks(...jobs: readonly string[]): readonly StartAsk[] {
  return jobs.map((job, since) => ({ job, claim: 0, priority: 5, since }));
}

function granted(answers: readonly StartAnswer[]): readonly string[] {
  return answers.filter(({ kind }) => kind === 'granted').map(({ job }) => job);
}

function grantsIn(answers: readonly StartAnswer[]): readonly number[] {
  return answers.flatMap((answer) => (answer.kind === 'granted' ? [answer.grant] : []));
}

test('INV-F11 rate limits: of 200 parallel takes of 100 a minute exactly 100 pass', async () => {
  const stub = limiter('inv-f11');
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, job) => stub.reserve(parseRate('100/m'), asks(`job-${String(job)}`))),
  );
  expect(granted(answers.flat())).toHaveLength(100);
});

test('a slot is free again one period after its start was reported, and not a millisecond before', async () => {
  const stub = limiter('period');
  await at(stub, NOW);
  const first = await stub.reserve(RATE, asks('a', 'b', 'c', 'd'));
  expect(granted(first)).toEqual(['a', 'b', 'c']);
  await at(stub, NOW + 2_000);
  await stub.settle(RATE, grantsIn(first), []);
  await at(stub, NOW + 11_999);
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual([]);
  await at(stub, NOW + 12_000);
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual(['d']);
});

test('a grant whose start is never reported is in use for the five seconds it is good for, and a period', async () => {
  const stub = limiter('unreported');
  await at(stub, NOW);
  await stub.reserve(RATE, asks('a', 'b', 'c'));
  await at(stub, NOW + 14_999);
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual([]);
  await at(stub, NOW + 15_000);
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual(['d']);
});

test('asking again for the same start is the same grant, good for what is left of its time', async () => {
  const stub = limiter('again');
  await at(stub, NOW);
  const [first] = await stub.reserve(RATE, asks('a'));
  await at(stub, NOW + 3_000);
  expect(await stub.reserve(RATE, asks('a'))).toEqual([{ ...first, validMs: 2_000 }]);
  expect(granted(await stub.reserve(RATE, asks('b', 'c', 'd')))).toEqual(['b', 'c']);
});

test('a job that was claimed since needs a grant of its own, also where its start was never reported', async () => {
  const stub = limiter('claimed');
  await at(stub, NOW);
  const taken = [];
  for (let claim = 0; claim < 5; claim += 1) {
    taken.push(...(await stub.reserve(RATE, [{ job: 'a', claim, priority: 5, since: 0 }])));
  }
  expect(taken.map(({ kind }) => kind)).toEqual(['granted', 'granted', 'granted', 'wait', 'wait']);
});

test('a grant that is given back is free at once, unless somebody else was given the same one', async () => {
  const stub = limiter('returned');
  await at(stub, NOW);
  const first = await stub.reserve(RATE, asks('a', 'b', 'c'));
  await stub.settle(RATE, [], grantsIn(first).slice(0, 1));
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual(['d']);
  // A second delivery of b asks, loses the claim and gives back what the first still uses.
  await stub.reserve(RATE, asks('b'));
  await stub.settle(RATE, [], grantsIn(first).slice(1, 2));
  expect(granted(await stub.reserve(RATE, asks('e')))).toEqual([]);
});

test('whoever was told to come now goes before whoever comes for the first time', async () => {
  const stub = limiter('line');
  await at(stub, NOW);
  const first = await stub.reserve(RATE, asks('a', 'b', 'c', 'd'));
  await stub.settle(RATE, grantsIn(first), []);
  await at(stub, NOW + 10_060);
  expect(granted(await stub.reserve(RATE, asks('x', 'y', 'z')))).toEqual(['x', 'y']);
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual(['d']);
});

test('of those who wait the highest priority is told to come first, and of one priority the oldest', async () => {
  const stub = limiter('priority');
  await at(stub, NOW);
  await stub.reserve(parseRate('1/10s'), asks('running'));
  const waiting = [
    { job: 'young', claim: 0, priority: 5, since: 3 },
    { job: 'old', claim: 0, priority: 5, since: 1 },
    { job: 'urgent', claim: 0, priority: 9, since: 2 },
  ];
  const answers = await stub.reserve(parseRate('1/10s'), waiting);
  const order = answers
    .map((answer) => ({ job: answer.job, ms: answer.kind === 'wait' ? answer.waitMs : 0 }))
    .sort((a, b) => a.ms - b.ms);
  expect(order.map(({ job }) => job)).toEqual(['urgent', 'old', 'young']);
  expect(order.map(({ ms }) => Math.floor(ms / 10_000))).toEqual([1, 2, 3]);
});

test('10,000 waiting jobs are told times that a window of the period never has more of than may start', async () => {
  const stub = limiter('ten-thousand');
  await at(stub, NOW);
  const rate = parseRate('100/m');
  const waits: number[] = [];
  for (let page = 0; page < 100; page += 1) {
    const jobs = Array.from({ length: 100 }, (_, at) => `job-${String(page * 100 + at).padStart(5, '0')}`);
    for (const answer of await stub.reserve(
      rate,
      asks(...jobs).map((ask, at) => ({ ...ask, since: page * 100 + at })),
    )) {
      if (answer.kind === 'wait') waits.push(answer.waitMs);
    }
  }
  expect(waits).toHaveLength(9_900);
  for (const wait of new Set(waits)) {
    expect(waits.filter((other) => other >= wait && other < wait + 60_000).length).toBeLessThanOrEqual(100);
  }
  // And none waits longer than it has to: 99 windows after the first.
  expect(Math.max(...waits)).toBeLessThanOrEqual(99 * 60_000 + 100);
});

test('what somebody outside asked for holds for everybody: nobody starts before, and not all start then', async () => {
  const stub = limiter('held');
  await at(stub, NOW);
  await stub.hold(30_000);
  const answers = await stub.reserve(RATE, asks('a', 'b', 'c', 'd', 'e', 'f', 'g'));
  expect(answers.map((answer) => (answer.kind === 'wait' ? answer.waitMs : 0))).toEqual([
    30_000, 30_000, 30_000, 40_000, 40_000, 40_000, 50_000,
  ]);
  await stub.hold(5_000);
  await at(stub, NOW + 29_999);
  expect(granted(await stub.reserve(RATE, asks('a')))).toEqual([]);
  await at(stub, NOW + 30_000);
  expect(granted(await stub.reserve(RATE, asks('a')))).toEqual(['a']);
});

test('an eviction forgets no start, no place in the line and no hold', async () => {
  const stub = limiter('evicted');
  await at(stub, NOW);
  const first = await stub.reserve(RATE, asks('a', 'b', 'c', 'd'));
  await stub.settle(RATE, grantsIn(first), []);
  await evictDurableObject(stub);
  await at(stub, NOW + 9_999);
  expect(granted(await stub.reserve(RATE, asks('x')))).toEqual([]);
  await evictDurableObject(stub);
  await at(stub, NOW + 10_060);
  expect(granted(await stub.reserve(RATE, asks('x', 'y', 'z')))).toEqual(['x', 'y']);
  await stub.hold(60_000);
  await evictDurableObject(stub);
  await at(stub, NOW + 11_000);
  expect(granted(await stub.reserve(RATE, asks('d')))).toEqual([]);
});

test('once nothing is left to remember the alarm gives its storage back, and it goes on as new', async () => {
  const stub = limiter('forgotten');
  await at(stub, NOW);
  await stub.reserve(RATE, asks('a', 'b', 'c', 'd'));
  await at(stub, NOW + 3_600_000);
  await runDurableObjectAlarm(stub);
  await runInDurableObject(stub, (_instance: RateLimiter, state) => {
    expect([...state.storage.sql.exec(`SELECT name FROM sqlite_master WHERE name = 'slots'`)]).toEqual([]);
  });
  expect(granted(await stub.reserve(RATE, asks('a', 'b', 'c', 'd')))).toEqual(['a', 'b', 'c']);
});

describe('whatever the order of asking, starting, reporting and forgetting to', () => {
  const event = fc.record({
    after: fc.integer({ min: 0, max: 4_000 }),
    asked: fc.integer({ min: 1, max: 6 }),
    startAfter: fc.integer({ min: 0, max: 4_999 }),
    report: fc.option(fc.integer({ min: 0, max: 20_000 }), { freq: 3 }),
    give: fc.boolean(),
  });

  test('no window of the period ever has more starts than the limit, and no slot stays idle while somebody asks', async () => {
    await runInDurableObject(limiter('property'), (_instance: RateLimiter, state) => {
      fc.assert(
        fc.property(fc.array(event, { minLength: 10, maxLength: 60 }), (events) => {
          for (const table of ['slots', 'line', 'held']) state.storage.sql.exec(`DROP TABLE IF EXISTS ${table}`);
          const window = new RateWindow(state.storage.sql);
          const starts: number[] = [];
          const reports: { at: number; grant: number }[] = [];
          let now = NOW;
          let job = 0;
          for (const { after, asked, startAfter, report, give } of events) {
            now += after;
            for (const said of reports.filter((each) => each.at <= now)) window.settle(RATE, [said.grant], [], said.at);
            const ids = Array.from({ length: asked }, () => `job-${String(job++)}`);
            for (const answer of window.reserve(RATE, asks(...ids), now)) {
              if (answer.kind === 'wait') continue;
              if (give && report === null) {
                window.settle(RATE, [], [answer.grant], now);
                continue;
              }
              starts.push(now + startAfter);
              // A report never arrives before the start it tells of.
              if (report !== null) reports.push({ at: now + startAfter + report, grant: answer.grant });
            }
          }
          for (const start of starts) {
            expect(starts.filter((at) => at >= start && at < start + RATE.periodMs).length).toBeLessThanOrEqual(
              RATE.limit,
            );
          }
          // Long after everything it has all its slots again.
          expect(granted(window.reserve(RATE, asks('p', 'q', 'r', 's'), now + 3_600_000))).toHaveLength(RATE.limit);
        }),
        { numRuns: 200 },
      );
    });
  });
});
