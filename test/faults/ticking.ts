// Ticks of schedules alone, on the simulator's database: plain Node, so that thousands of them take seconds.

import { z } from 'zod';
import type { Database } from '../../src/core/ports.ts';
import type { Env } from '../../src/env.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { createIsolate, type Runtime } from '../../src/jobs/runtime.ts';
import { defineTask } from '../../src/jobs/task.ts';
import type { Prng } from './sim/prng.ts';
import type { Sqlite } from './sim/sqlite.ts';

export const task = defineTask({
  name: 'test.due',
  queue: 'default',
  input: z.unknown(),
  run: () => Promise.resolve('done'),
});

/** One isolate: its clock is a little off, and each of its calls takes a turn or a few, so that those of two interleave. */
export function isolateOf(sqlite: Sqlite, random: Prng, now: number): Runtime {
  const skew = random.between(-300, 300);
  const turns = async (): Promise<void> => {
    for (let left = random.between(0, 4); left > 0; left -= 1) await Promise.resolve();
  };
  const db: Database = {
    async run(statement) {
      const [answer] = await db.batch([statement]);
      if (answer === undefined) throw new Error('A statement has an answer.');
      return answer;
    },
    async batch(statements) {
      await turns();
      const { answers } = sqlite.commit(statements);
      await turns();
      return answers;
    },
  };
  return {
    db,
    registry: createRegistry([task]),
    random,
    env: {} as Env,
    isolate: createIsolate(),
    clock: { now: () => now + skew, sleep: () => new Promise(() => undefined) },
    waitUntil: () => undefined,
  } as unknown as Runtime;
}

/** The due times of each schedule that have jobs, in their order, one for each job. */
export function firedIn(sqlite: Sqlite): ReadonlyMap<string, readonly number[]> {
  const sql = `SELECT schedule, options ->> '$.schedule.dueAt' AS due_at FROM jobs ORDER BY schedule, due_at`;
  const { answers } = sqlite.commit([{ name: 'runs', sql, params: [] }]);
  const rows = Map.groupBy(answers[0]?.rows ?? [], (row) => String(row['schedule']));
  return new Map([...rows].map(([name, those]) => [name, those.map((row) => Number(row['due_at']))]));
}
