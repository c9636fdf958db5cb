import { env } from 'cloudflare:workers';
import { beforeAll, expect, test } from 'vitest';
import type { Envelope } from '../../src/core/envelope.ts';
import type { Statement } from '../../src/core/ports.ts';
import { SCHEDULES_PAGE } from '../../src/core/limits-schedules.ts';
import { tick } from '../../src/cron/tick.ts';
import { createSchedule } from '../../src/jobs/schedule-control.ts';
import { readDefinition } from '../../src/jobs/schedule.ts';
import { insertJobs } from '../../src/store/accept.ts';
import { claimJobs, selectUnwon } from '../../src/store/claims.ts';
import { d1Database, type StatementCounts } from '../../src/store/d1.ts';
import {
  decideFirings,
  deleteFirings,
  insertFired,
  revokeFirings,
  selectDecided,
  selectFirings,
  selectLatestFirings,
  selectUnclaimed,
} from '../../src/store/firings.ts';
import { cancelBefore, skipRuns, takeNextRuns } from '../../src/store/overlap.ts';
import { advanceSchedules, selectDue, selectSchedules } from '../../src/store/schedules.ts';
import { Bench, emptyDatabase, FastClock, START } from '../worker/bench.ts';

const MINUTE = 60_000;
const SCHEDULES = 2_000;
const FIRINGS = 100_000;

const counts: StatementCounts = new Map();
const db = d1Database(env.DB, counts);

/** 2,000 schedules, each due at a minute of its own, and what became of their last 50 due times. */
async function fill(): Promise<void> {
  await env.DB.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
INSERT INTO schedules (name, v, origin, task, input, options, every_ms, timezone, overlap, catch_up, catch_up_most,
                       jitter_ms, revision, decided_until, next_at, created_at, updated_at)
SELECT printf('s%05d', i), 1, 'api', 'debug_task', '{}', '{}', 60000, 'UTC', 'skip', 'last', 100, 0, 1,
       ?2, ?2 + i * 60000, ?2, ?2 FROM n`,
  )
    .bind(SCHEDULES, START)
    .run();
  await env.DB.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
INSERT INTO firings (schedule, due_at, v, cause, outcome, job_id, decided_at)
SELECT printf('s%05d', i % ${String(SCHEDULES)}), ?2 - (i / ${String(SCHEDULES)}) * 60000, 1, 'due', 'fired', NULL, ?2 FROM n`,
  )
    .bind(FIRINGS, START)
    .run();
}

function runOf(name: string, at: number): Envelope {
  return {
    v: 1,
    id: `00000000-0000-7000-8000-${String(at).padStart(10, '0')}00`,
    task: 'debug_task',
    queue: 'default',
    input: {},
    options: {
      maxRetries: 3,
      retryDelays: null,
      softSeconds: null,
      hardSeconds: null,
      resultTtlSeconds: 3_600,
      schedule: { name, dueAt: START + at * MINUTE, cause: 'due', overlap: 'skip' },
    },
    priority: 5,
    tags: [],
    source: `schedule:${name}`,
    acceptedAt: START,
    dueAt: START,
    expiresAt: null,
    parentId: null,
    retryOf: null,
  };
}

async function cost({ sql, params }: Statement): Promise<{ read: number; scans: readonly string[] }> {
  const explained = env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`).bind(...params);
  const plan = (await explained.all<{ detail: string }>()).results.map(({ detail }) => detail);
  const scans = plan.filter((step) => /^(SCAN (?!json_each|wanted)|USE TEMP B-TREE)/.test(step));
  counts.clear();
  await db.run({ name: 'measured', sql, params });
  return { read: counts.get('measured')?.rowsRead ?? NaN, scans };
}

beforeAll(async () => {
  await emptyDatabase();
  await fill();
}, 60_000);

// Beside the rows a statement is about, SQLite counts what any cursor steps on: the items of a json_each, the entry of an
// index, a row that is noted down to be changed. None of these grow with the tables.
test('no statement of schedules scans a table, or reads more rows than it is about, however many there are', async () => {
  const name = 's00007';
  const decisions = [1, 2, 3].map((at) => ({
    schedule: name,
    revision: 1,
    decidedUntil: START,
    dueAt: START + at * MINUTE,
    cause: 'due' as const,
    outcome: 'fired' as const,
    jobId: runOf(name, at).id,
    reason: null,
  }));
  const rows = [1, 2, 3].map((at) => ({ envelope: runOf(name, at), sentAt: null }));
  const ids = rows.map(({ envelope }) => envelope.id);
  const advance = { name, revision: 1, from: START, until: START + 1, nextAt: START + 2, failing: 0 as const };
  const statements: readonly (readonly [string, Statement])[] = [
    ['due: none', selectDue(START - 1, SCHEDULES_PAGE, [])],
    ['due: ten', selectDue(START + 9 * MINUTE, SCHEDULES_PAGE, [])],
    ['page', selectSchedules('s00100', 50)],
    ['decide', decideFirings(decisions, START)],
    ['jobs', insertFired(rows, START)],
    ['advance', advanceSchedules([advance])],
    ['claim, the others behind', claimJobs(ids, 'token', START + 5 * MINUTE, false)],
    ['why not', selectUnwon(ids, START + 5 * MINUTE)],
    ['next runs', takeNextRuns([name], START)],
    ...cancelBefore(ids, START).map((statement, at) => [`cancel before: ${String(at)}`, statement] as const),
    ['skip', skipRuns(ids, START)],
    ['unclaimed', selectUnclaimed(name, 100)],
    ...revokeFirings(name, { revision: 1, now: START, message: 'changed' }).map(
      (statement, at) => [`revoke: ${String(at)}`, statement] as const,
    ),
    ['history', selectFirings(name, START + 1, 20)],
    [
      'latest of fifty',
      selectLatestFirings(
        Array.from({ length: 50 }, (_, at) => `s${String(at).padStart(5, '0')}`),
        START,
      ),
    ],
    ['decided', selectDecided(name, [START, START - MINUTE])],
    ['retention: nothing old', deleteFirings(START - 1, 2_000)],
  ];
  const reads: Record<string, number> = {};
  for (const [kind, statement] of statements) {
    const { read, scans } = await cost(statement);
    reads[kind] = read;
    expect([kind, scans]).toEqual([kind, []]);
  }
  expect(reads).toEqual({
    'due: none': 1,
    'due: ten': 10 * 2 + 1,
    page: 50,
    decide: 6,
    jobs: 12,
    advance: 3,
    'claim, the others behind': 16,
    'why not': 15,
    'next runs': 11,
    'cancel before: 0': 20,
    'cancel before: 1': 21,
    skip: 13,
    unclaimed: 1,
    'revoke: 0': 4,
    'revoke: 1': 4,
    history: 20,
    'latest of fifty': 50 * 3,
    decided: 6,
    'retention: nothing old': 3,
  });
});

// A schedule of every ten seconds whose queue is paused overnight has thousands.
test('to end all waiting runs of a schedule reads each a few times, however many there are', async () => {
  const name = 's00008';
  const runs = Array.from({ length: 1_000 }, (_, at) => runOf(name, 10_000 + at));
  for (const some of [runs.slice(0, 500), runs.slice(500)]) {
    const { sql, params } = insertJobs(
      some.map((envelope) => ({ envelope, sentAt: START })),
      START,
    );
    await db.run({ name: 'filled', sql, params });
  }
  const [, jobs] = revokeFirings(name, { revision: 1, now: START, message: 'changed' });
  if (jobs === undefined) throw new Error('Two statements revoke.');
  expect((await cost(jobs)).read).toBeLessThan(10 * runs.length);
});

test('a tick of a minute with nothing due asks for what is due once, and one with a hundred due schedules makes five statements', async () => {
  await emptyDatabase();
  const bench = new Bench({ clock: new FastClock(START) });
  const asked = (): readonly number[] => ['due', 'fire', 'accept', 'advance'].map((name) => bench.statements(name));
  await tick(bench.rt, undefined);
  expect(asked()).toEqual([1, 0, 0, 0]);
  for (let at = 0; at < SCHEDULES_PAGE; at += 1) await make(bench, `s${String(at)}`, '60s');
  bench.counts.clear();
  await tick(bench.rt, undefined);
  expect(asked()).toEqual([2, 1, 1, 1]);
  expect(bench.queues.take()).toHaveLength(SCHEDULES_PAGE);
});

test('a run of a schedule writes thirteen rows over its whole life, its firing and its schedule included', async () => {
  await emptyDatabase();
  const clock = new FastClock(START + 1_000);
  const bench = new Bench({ clock });
  await make(bench, 'hourly', '1h');
  await tick(bench.rt, undefined);
  bench.counts.clear();
  clock.set(START + 3_600_000);
  await tick(bench.rt, undefined);
  await bench.drain();
  await bench.background();
  const before = bench.rowsWritten() - (bench.counts.get('mark')?.rowsWritten ?? 0);
  const gone = await env.DB.batch([
    env.DB.prepare(`DELETE FROM jobs WHERE id > ''`),
    env.DB.prepare(`DELETE FROM firings WHERE schedule > ''`),
  ]);
  expect(before + gone.reduce((sum, { meta }) => sum + meta.rows_written, 0)).toBe(13);
});

async function make(bench: Bench, name: string, every: string): Promise<void> {
  const definition = readDefinition(bench.rt.registry, { task: 'debug_task', every });
  if (!definition.ok) throw new Error(JSON.stringify(definition.faults));
  await createSchedule(bench.rt, name, definition.value, { paused: false, actor: 'test' });
}
