// Changes of schedules while ticks are late, and while somebody else changes them too.

import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { fireSchedules } from '../../src/cron/fire.ts';
import { syncSchedules } from '../../src/cron/sync.ts';
import type { Json } from '../../src/core/json.ts';
import { backfill } from '../../src/jobs/backfill.ts';
import { readDefinition } from '../../src/jobs/schedule.ts';
import { changeSchedule, createSchedule, findSchedule, removeSchedule } from '../../src/jobs/schedule-control.ts';
import { defineTask } from '../../src/jobs/task.ts';
import type { Definition, Schedule } from '../../src/store/schedules.ts';
import { Bench, emptyDatabase, FastClock, START } from '../worker/bench.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;
const NAME = 'every-minute';
const GO_ON = { paused: false, actor: 'test' };

const task = defineTask({ name: 'test.run', queue: 'default', input: z.unknown(), run: () => Promise.resolve('done') });

function set(says: Readonly<Record<string, Json>> = {}): { clock: FastClock; bench: Bench; definition: Definition } {
  const clock = new FastClock(START);
  const bench = new Bench({ clock, tasks: [task] });
  return { clock, bench, definition: definitionOf(bench, says) };
}

function definitionOf(bench: Bench, says: Readonly<Record<string, Json>>): Definition {
  const body = { task: task.name, input: 'first', cron: '* * * * *', catch_up: 'all', ...says };
  const definition = readDefinition(bench.rt.registry, body);
  if (!definition.ok) throw new Error(JSON.stringify(definition.faults));
  return definition.value;
}

async function current(bench: Bench): Promise<Schedule> {
  const found = await findSchedule(bench.rt, NAME);
  if (found === undefined) throw new Error('There is a schedule.');
  return found;
}

/** Of each run, in their order: the minute it was due, its input, and whether it may still run. */
async function runs(): Promise<readonly string[]> {
  const { results } = await env.DB.prepare(
    `SELECT (options ->> '$.schedule.dueAt' - ${String(START)}) / 60000 AS minute, input, finished_at FROM jobs
WHERE schedule IS NOT NULL ORDER BY 1, created_at, finished_at IS NULL`,
  ).all();
  return results.map(
    (row) => `${String(row['minute'])} ${String(row['input'])}${row['finished_at'] === null ? '' : ' revoked'}`,
  );
}

test('a schedule made again under its name fires what its predecessor had planned and did not run', async () => {
  const { bench, definition } = set();
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  await fireSchedules(bench.rt);
  await removeSchedule(bench.rt, await current(bench), 'test');
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  await fireSchedules(bench.rt);
  expect(await runs()).toEqual(['1 "first" revoked', '1 "first"']);
});

test('who changes a schedule that somebody else has changed is refused, and revokes nothing', async () => {
  const { bench, definition } = set();
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  const before = await current(bench);
  await changeSchedule(bench.rt, before, definitionOf(bench, { input: 'second' }), GO_ON);
  await fireSchedules(bench.rt);
  expect(await changeSchedule(bench.rt, before, definitionOf(bench, { input: 'third' }), GO_ON)).toBeUndefined();
  expect(await changeSchedule(bench.rt, before, before, { paused: true, actor: 'test' })).toBeUndefined();
  expect(await removeSchedule(bench.rt, before, 'test')).toBe(false);
  expect(await runs()).toEqual(['1 "second"']);
});

test('who backfills a schedule that was made again since it was read is refused', async () => {
  const { bench, definition, clock } = set();
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  const before = await current(bench);
  await removeSchedule(bench.rt, before, 'test');
  clock.set(START + 1);
  await createSchedule(bench.rt, NAME, definitionOf(bench, { input: 'another' }), GO_ON);
  const wanted = { from: START - 5 * MINUTE, to: START, limit: 10, dryRun: false, actor: 'test' };
  expect(await backfill(bench.rt, before, wanted)).toBeUndefined();
  expect(await runs()).toEqual([]);
});

test('a new input while ticks are late costs no due time', async () => {
  const { bench, definition, clock } = set();
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  await fireSchedules(bench.rt);
  clock.set(START + 4 * MINUTE + 30_000);
  // The first is due and nobody has taken it; no tick has seen the others.
  await changeSchedule(bench.rt, await current(bench), definitionOf(bench, { input: 'second' }), GO_ON);
  await fireSchedules(bench.rt);
  const anew = ['1 "first" revoked', '1 "second"', '2 "second"', '3 "second"', '4 "second"', '5 "second"'];
  expect(await runs()).toEqual(anew);
});

test('a new input at the moment a late tick fires costs no due time either', async () => {
  const { bench, definition, clock } = set();
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  const before = await current(bench);
  clock.set(START + 3 * MINUTE + 30_000);
  await fireSchedules(bench.rt);
  await changeSchedule(bench.rt, before, definitionOf(bench, { input: 'second' }), GO_ON);
  await fireSchedules(bench.rt);
  const open = (await runs()).filter((run) => !run.endsWith('revoked'));
  expect(open).toEqual(['1 "second"', '2 "second"', '3 "second"', '4 "second"']);
});

test('other times drop what was planned for the old ones, and nothing fires for both', async () => {
  const { bench, definition, clock } = set();
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  await fireSchedules(bench.rt);
  clock.set(START + 30_000);
  await changeSchedule(bench.rt, await current(bench), definitionOf(bench, { cron: '*/2 * * * *' }), GO_ON);
  clock.set(START + MINUTE);
  await fireSchedules(bench.rt);
  expect(await runs()).toEqual(['1 "first" revoked', '2 "first"']);
});

test('a backfill of a thousand large inputs is written in portions, and so is their change', async () => {
  const { bench, definition } = set({ input: 'i'.repeat(60_000) });
  await createSchedule(bench.rt, NAME, definition, GO_ON);
  const wanted = { from: START - 40 * MINUTE + 1, to: START, limit: 1_000, dryRun: false, actor: 'test' };
  const done = await backfill(bench.rt, await current(bench), wanted);
  expect(done?.fired).toHaveLength(40);
  expect(bench.statements('fire')).toBeGreaterThanOrEqual(3);
  const changed = await changeSchedule(bench.rt, await current(bench), { ...definition, overlap: 'allow' }, GO_ON);
  expect(changed?.overlap).toBe('allow');
  const { results } = await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE finished_at IS NULL`).all();
  expect(results).toEqual([{ n: 40 }]);
});

test('a deployment with another input costs no run that is late in its queue, however many ticks bring it', async () => {
  const { bench, clock } = set();
  const line = (input: string) => [{ name: NAME, task: task.name, cron: '* * * * *', catch_up: 'all', input }] as const;
  await syncSchedules(bench.rt, line('first'));
  await fireSchedules(bench.rt);
  clock.set(START + MINUTE + 5_000);
  await syncSchedules(bench.rt, line('second'));
  await fireSchedules(bench.rt);
  const anew = ['1 "first" revoked', '1 "second"', '2 "second"'];
  expect(await runs()).toEqual(anew);
  // Two ticks of one moment have both read the old one.
  const other = new Bench({
    clock,
    tasks: [task],
    ports: ({ db }) => ({
      db: {
        run: (statement) => db.run(statement),
        batch: async (statements) => {
          await syncSchedules(bench.rt, line('third'));
          await fireSchedules(bench.rt);
          return db.batch(statements);
        },
      },
    }),
  });
  await syncSchedules(other.rt, line('third'));
  expect((await runs()).filter((run) => !run.endsWith('revoked'))).toEqual(['1 "third"', '2 "third"']);
});
