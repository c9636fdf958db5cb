import { env } from 'cloudflare:workers';
import { beforeAll, expect, test } from 'vitest';
import { retire } from '../../src/cron/retention.ts';
import type { Envelope } from '../../src/core/envelope.ts';
import { newId } from '../../src/core/ids.ts';
import type { Statement } from '../../src/core/ports.ts';
import { QUEUE_NAMES } from '../../src/queues.ts';
import { insertJobs, markOwed, selectStates } from '../../src/store/accept.ts';
import { claimJobs, finishJobs, heartbeat, loseJobs, selectUnwon } from '../../src/store/claims.ts';
import type { Finish } from '../../src/store/claims.ts';
import { d1Database, type StatementCounts } from '../../src/store/d1.ts';
import { recordFailures } from '../../src/store/dead-letters.ts';
import { selectJob, selectJobs, selectStanding } from '../../src/store/reads.ts';
import { selectDeeds } from '../../src/store/audit.ts';
import {
  markPurged,
  pauseQueue,
  resumeQueue,
  selectParkedQueues,
  selectQueues,
  takeUnpaused,
} from '../../src/store/queue-controls.ts';
import { countOpen, endPurged, purgeJobs, revokeJob, selectRevocable } from '../../src/store/revoke.ts';
import {
  clearPayloads,
  deleteOld,
  oweEverything,
  selectClearing,
  selectExpired,
  selectLapsed,
  selectOpen,
  selectReferring,
  selectRetentionWindow,
  selectSuspectQueues,
  selectSuspects,
  takeOwed,
  takeSuspects,
  writeMark,
} from '../../src/store/sweeps.ts';
import { selectNamed, takePlace } from '../../src/store/unique.ts';
import { expireJobs, oweJobs } from '../../src/store/waiting.ts';
import { Bench, emptyDatabase, FastClock, seeded, START } from '../worker/bench.ts';

const MILLION = 1_000_000;
const CHUNK = 100_000;
const DAY = 86_400_000;
const KEEP = { successMs: 7 * DAY, otherMs: 30 * DAY };
/** Statements of each kind are run in series, each series in one call; the median of the series counts. */
const SERIES = 5;
const RUNS = 100;
/** Jobs one statement is about. */
const WIDTH = 10;

const random = seeded(1);
const counts: StatementCounts = new Map();
const db = d1Database(env.DB, counts);

const FILL = `
WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + ${String(CHUNK - 1)}),
  job AS (SELECT i, ?2 + i * 60 AS at FROM n)
INSERT INTO jobs (id, v, task, queue, state, priority, input, options, tags, source, created_at, due_at, sent_at,
                  attempt, claim, claim_token, started_at, finished_at, progress, result, error)
SELECT printf('%08x-%04x-7%03x-8%03x-%010x00', at >> 16, at & 65535, i & 4095, i & 4095, i), 1, 'debug_task',
  CASE i % 4 WHEN 0 THEN 'default' WHEN 1 THEN 'webhooks' WHEN 2 THEN 'email' ELSE 'bulk' END,
  iif(i % 20 = 0, 'FAILURE', 'SUCCESS'), 5, '{"user":"u-1234","template":"welcome"}',
  '{"maxRetries":3,"retryDelays":null,"softSeconds":null,"hardSeconds":null,"resultTtlSeconds":3600}',
  '["mail"]', 'api', at, at, at, 1, 1, '0123456789abcdef0123456789abcdef', at, at + 150, 100,
  iif(i % 20 = 0, NULL, '{"sent":true,"id":"0123456789abcdef"}'),
  iif(i % 20 = 0, '{"code":"exception","message":"no","fingerprint":"0123456789abcdef"}', NULL)
FROM job`;

/** A million finished jobs of the last 17 hours. */
async function fill(): Promise<void> {
  for (let from = 0; from < MILLION; from += CHUNK) {
    await env.DB.prepare(FILL)
      .bind(from, START - MILLION * 60)
      .run();
  }
}

function envelopeAt(at: number, queue = 'default', expiresAt: number | null = null): Envelope {
  return {
    v: 1,
    id: newId(at, random.bytes(9)),
    task: 'debug_task',
    queue,
    input: { user: 'u-1234' },
    options: { maxRetries: 3, retryDelays: null, softSeconds: null, hardSeconds: null, resultTtlSeconds: 3_600 },
    priority: 5,
    tags: [],
    source: 'api',
    acceptedAt: at,
    dueAt: at,
    expiresAt,
    parentId: null,
    retryOf: null,
  };
}

/** Open jobs that wait for days and that no statement below is about. */
async function addWaiting(): Promise<void> {
  const later = Array.from({ length: 300 }, (_, at) => ({
    ...envelopeAt(START + at, QUEUE_NAMES[at % QUEUE_NAMES.length]),
    dueAt: START + 9 * DAY,
  }));
  const rows = later.map((envelope, at) => ({ envelope, sentAt: at % 2 === 0 ? START : null }));
  await db.run(insertJobs(rows, START));
}

/** What one run of a kind of statement costs. */
interface Measured {
  readonly milliseconds: number;
  readonly read: number;
  /** Rows it returned or changed. */
  readonly touched: number;
  readonly plan: readonly string[];
}

/** Runs one kind of statement, each time on other jobs. */
async function measure(make: (run: number) => readonly Statement[]): Promise<Measured> {
  const times: number[] = [];
  let touched = 0;
  counts.clear();
  for (let series = 0; series < SERIES; series += 1) {
    const statements = Array.from({ length: RUNS }, (_, run) => make(series * RUNS + run)).flat();
    const from = performance.now();
    const answers = await db.batch(statements);
    times.push((performance.now() - from) / RUNS);
    touched += answers.reduce((sum, { rows, changes }) => sum + Math.max(rows.length, changes), 0);
  }
  const all = SERIES * RUNS;
  const read = [...counts.values()].reduce((sum, { rowsRead }) => sum + rowsRead, 0);
  const plans = await Promise.all(make(all - 1).map(planOf));
  const milliseconds = times.sort((one, other) => one - other)[Math.floor(SERIES / 2)] ?? 0;
  return { milliseconds, read: read / all, touched: touched / all, plan: plans.flat() };
}

async function planOf({ sql, params }: Statement): Promise<readonly string[]> {
  const explained = env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`).bind(...params);
  return (await explained.all<{ detail: string }>()).results.map(({ detail }) => detail);
}

function finishOf(id: string, state: 'SUCCESS' | 'FAILURE'): Finish {
  return {
    id,
    claim: 1,
    state,
    startedAt: START,
    at: START,
    result: state === 'SUCCESS' ? '{"sent":true}' : null,
    resultKey: null,
    error: state === 'SUCCESS' ? null : { code: 'exception', message: 'no', fingerprint: '0123456789abcdef' },
    dueAt: null,
    sentAt: null,
    giveBack: 0,
    waitingFor: null,
    record: null,
    progress: 0,
    progressNote: null,
    deadLetterId: `letter-${id}`,
  };
}

/** The life of 3,000 jobs, statement by statement, and the looks and sweeps of the day. */
async function measureAll(): Promise<ReadonlyMap<string, Measured>> {
  const measured = new Map<string, Measured>();
  const note = async (name: string, make: (run: number) => readonly Statement[]): Promise<void> => {
    measured.set(name, await measure(make));
  };
  const batches = (): readonly (readonly Envelope[])[] =>
    Array.from({ length: SERIES * RUNS }, (_, at) =>
      Array.from({ length: WIDTH }, () => envelopeAt(START + 1_000 + at)),
    );
  const good = batches();
  const bad = batches();
  const ids = (all: typeof good, run: number): readonly string[] => (all[run] ?? []).map(({ id }) => id);
  const first = (all: typeof good, run: number): string => ids(all, run)[0] ?? '';
  const now = START + 2_000;

  await note('accept', (run) => [
    insertJobs(
      (good[run] ?? []).map((envelope) => ({ envelope, sentAt: null })),
      now,
    ),
  ]);
  await note('accept again', (run) => [
    insertJobs(
      (good[run] ?? []).map((envelope) => ({ envelope, sentAt: null })),
      now,
    ),
  ]);
  await note('owed', (run) => [takeOwed(now + 75_000, now + run, WIDTH, [])]);
  await note('owe again', (run) => [markOwed(ids(good, run), now)]);
  await note('unwon', (run) => [selectUnwon(ids(good, run), now)]);
  await note('states', (run) => [selectStates(ids(good, run))]);
  await note('open', (run) => [selectOpen(ids(good, run))]);
  await note('claim', (run) => [claimJobs(ids(good, run), 'token', now, false)]);
  await note('claim of what is taken', (run) => [claimJobs(ids(good, run), 'another', now, false)]);
  await note('heartbeat', (run) => [
    heartbeat(
      ids(good, run).map((id) => ({ id, claim: 1, startedAt: now, progress: 5, progressNote: null })),
      now,
    ),
  ]);
  await note('finish: success', (run) => [finishJobs(ids(good, run).map((id) => finishOf(id, 'SUCCESS')))]);
  await note('get', (run) => [selectJob(first(good, run), now)]);
  await note('watch', (run) => [selectStanding(first(good, run), now)]);

  for (const each of bad)
    await db.run(
      insertJobs(
        each.map((envelope) => ({ envelope, sentAt: now })),
        now,
      ),
    );
  await note('suspects: queues', () => [selectSuspectQueues(QUEUE_NAMES, now)]);
  await note('suspects', () => [selectSuspects('default', now, WIDTH)]);
  await note('suspects: again', (run) => [
    takeSuspects(
      ids(bad, run).map((id) => ({ id, sent_at: now, resends: 0, parked_for: null })),
      now + 1,
    ),
  ]);
  await note('unique: look', (run) => [selectNamed(first(bad, run), now, 'default')]);
  await note('unique: take a place', (run) =>
    (bad[run] ?? []).map((envelope) => takePlace({ envelope, sentAt: now, revised: true }, now, false)),
  );
  for (let run = 0; run < bad.length; run += 1) await db.run(claimJobs(ids(bad, run), 'token', now, false));
  await note('lapsed', () => [selectLapsed(QUEUE_NAMES, now + 100_000, WIDTH)]);
  await note('lose', (run) => [
    loseJobs(
      ids(bad, run).map((id) => ({
        id,
        claim: 1,
        error: { code: 'lost', message: 'lost', fingerprint: '0123456789abcdef' },
        deadLetterId: `letter-${id}`,
      })),
      now + 100_000,
    ),
  ]);
  await note('revoke', (run) => revokeJob(ids(bad, run)[1] ?? '', false, now));
  await note('revoke many: whom', () => [selectRevocable({ task: 'nobody' }, QUEUE_NAMES, false, WIDTH, now)]);
  await note('purge: a row just made', (run) => [endPurged(ids(bad, run), now)]);
  await note('purge: next', () => [purgeJobs('email', START - 1, now, WIDTH)]);
  await note('purge: left', () => [countOpen('email', now)]);
  await note('purge: mark', () => [markPurged('email', 0)]);
  await note('pause', () => [pauseQueue('email', now - 1, now)]);
  await note('resume', () => [resumeQueue('email')]);
  await note('queues', () => [selectQueues(QUEUE_NAMES, now, WIDTH)]);
  await note('parked: queues', () => [selectParkedQueues(QUEUE_NAMES)]);
  await note('wake', () => [takeUnpaused('email', now, WIDTH)]);
  await note('audit', () => [selectDeeds(undefined, WIDTH)]);
  for (let run = 0; run < bad.length; run += 1) await db.run(claimJobs(ids(bad, run), 'token', now + 200_000, true));
  await note('finish: failure', (run) => {
    const finishes = ids(bad, run).map((id) => ({ ...finishOf(id, 'FAILURE'), claim: 2 }));
    return [finishJobs(finishes), recordFailures(finishes)];
  });
  await note('expired', () => [selectExpired(now, WIDTH)]);
  await note('expire', (run) => [expireJobs(ids(bad, run), now)]);
  await note('owe', (run) => [oweJobs(ids(bad, run))]);
  await note('clearing', () => [selectClearing(now, WIDTH)]);
  await note('clear', (run) => [clearPayloads(ids(good, run), now)]);
  await note('referring', (run) => [selectReferring(ids(good, run))]);
  await note('list, first page', () => selectJobs({}, 50, now));
  await note('retention: window', () => [selectRetentionWindow('', 2_000)]);
  const [window] = (await db.run(selectRetentionWindow('', WIDTH))).rows;
  await note('retention: nothing old', () => [deleteOld('', String(window?.['last']), START - 30 * DAY, KEEP)]);
  return measured;
}

let empty: ReadonlyMap<string, Measured>;
let full: ReadonlyMap<string, Measured>;

beforeAll(async () => {
  // Twice: the first one warms up what the others would be compared with.
  for (let time = 0; time < 2; time += 1) {
    await emptyDatabase();
    await addWaiting();
    empty = await measureAll();
  }
  await emptyDatabase();
  await fill();
  await addWaiting();
  full = await measureAll();
  console.log(table());
}, 120_000);

function table(): string {
  const line = (name: string, cells: readonly string[]): string =>
    name.padEnd(24) + cells.map((cell) => cell.padStart(12)).join('');
  const head = ['ms, million', 'ms, empty', 'ratio', 'read', 'read, empty', 'touched'];
  const lines = [...full].map(([name, { milliseconds, read, touched }]) => {
    const before = empty.get(name);
    const ratio = milliseconds / (before?.milliseconds ?? NaN);
    const times = [milliseconds, before?.milliseconds ?? NaN, ratio].map((each) => each.toFixed(3));
    return line(name, [...times, ...[read, before?.read ?? NaN, touched].map((each) => String(Math.round(each)))]);
  });
  return [line('', head), ...lines].join('\n');
}

test('no statement scans the table of jobs: each finds its rows by the primary key or an index', async () => {
  const plans = new Map([...full].map(([name, { plan }]) => [name, plan]));
  plans.set('owe everything', await planOf(oweEverything(QUEUE_NAMES)));
  for (const [name, plan] of plans) {
    const scans = plan.filter(
      (step) => step.startsWith('SCAN') && !/^SCAN (json_each|failure|\(subquery-\d\))/.test(step),
    );
    const sorts = plan.filter((step) => step.startsWith('USE TEMP B-TREE'));
    expect([name, scans, sorts]).toEqual([name, [], []]);
    const searches = plan.filter((step) => step.startsWith('SEARCH jobs'));
    // Every search has a bound: a whole index read in its order is no search.
    for (const step of searches) expect(step).toMatch(/USING (PRIMARY KEY|(COVERING )?INDEX \w+) \(\w+[<=>]/);
  }
  expect(plans.size).toBeGreaterThan(27);
});

test('a million finished jobs make no statement read a row more', () => {
  // Retention and lists are there to read finished jobs, a page at a time.
  const reading = ['list, first page', 'retention: window', 'retention: nothing old'];
  for (const [name, { read }] of full) {
    if (!reading.includes(name)) expect([name, read]).toEqual([name, empty.get(name)?.read]);
  }
  expect(full.get('list, first page')?.read).toBeLessThanOrEqual(2 * 2_000 + 2 * 50);
  expect(full.get('retention: window')?.read).toBe(2_000);
  expect(full.get('retention: nothing old')?.read).toBeLessThanOrEqual(2 * WIDTH);
});

// SQLite counts as read what any cursor steps on, and D1 passes that on: beside the rows of the table itself (r) there
// are the items of a json_each (j), the walk along a list that IN made of them (l), the rows an UPDATE notes down before
// it changes them (n), and those RETURNING keeps to the end (k). None of these grow with the table.
test.each([
  ['accept', 3], // j, n, k: a row that is not there is not read
  ['claim', 5], // j, l, r, n, k
  ['heartbeat', 4], // j, r, n, k
  ['finish: success', 4], // j, r, n, k
  ['finish: failure', 6], // the same, then j and r for the dead letter
  ['owed', 6], // the entry of the index, its row, l, r, n, k
  ['get', 1], // r
  ['unwon', 3], // j, l, r
  ['suspects', 1], // r, by the index
  ['suspects: again', 4], // j, r, n, k
  ['lose', 4], // j, r, n, k
])('%s reads %d rows for each job, and at most twice the job itself', (name, rowsPerJob) => {
  const { read = NaN } = full.get(name) ?? {};
  expect(read / (name === 'get' ? 1 : WIDTH)).toBeLessThanOrEqual(rowsPerJob);
});

test('a plain job writes five rows over its whole life', async () => {
  const clock = new FastClock(START + 3_600_000);
  const bench = new Bench({ clock });
  const { id } = await bench.enqueue({ task: 'debug_task', input: { hello: 'world' } });
  await bench.drain();
  expect((await bench.job(id)).state).toBe('SUCCESS');
  const before = await env.DB.prepare(`SELECT max(id) AS id FROM jobs WHERE id < ?`).bind(id).first<{ id: string }>();
  await bench.rt.db.run(writeMark('retention.cursor', before?.id ?? ''));
  clock.set(clock.now() + 8 * DAY);
  await retire(bench.rt);
  await expect(bench.job(id)).rejects.toThrow('There is no job');
  expect(bench.rowsWritten() - (bench.counts.get('mark')?.rowsWritten ?? 0)).toBe(5);
});

test('retention deletes a page of old jobs and reads nothing beyond it', async () => {
  const [window] = (await db.run(selectRetentionWindow('', 2_000))).rows;
  counts.clear();
  const { changes } = await db.run(deleteOld('', String(window?.['last']), START + 31 * DAY, KEEP));
  expect(changes).toBe(2_000);
  expect(counts.get('retention')?.rowsRead).toBeLessThanOrEqual(2 * 2_000 + 1);
});

// How full the database is, is read off this number.
test('the size of the database is the size of what is in it: deleted rows do not count, though the file keeps their place', async () => {
  const sizeAfter = async (sql: string): Promise<number> => (await env.DB.prepare(sql).run()).meta.size_after;
  const before = await sizeAfter('SELECT 1');
  const after = await sizeAfter(`DELETE FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY id LIMIT 200000)`);
  expect(before).toBeGreaterThan(200_000_000);
  expect(before - after).toBeGreaterThan(0.15 * before);
  expect(await sizeAfter('SELECT 1')).toBe(after);
});
