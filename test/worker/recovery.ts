// A bench whose time passes as ours does, with an outside world that is one fake.

import { vi } from 'vitest';
import { REDELIVERY_PAUSE_MS } from '../../src/core/limits-outside.ts';
import type { Clock } from '../../src/core/ports.ts';
import type { JobRow } from '../../src/store/rows.ts';
import { readDelivery, type DeliveryRow } from '../../src/store/deliveries.ts';
import { systemClock } from '../../src/durable/system-clock.ts';
import type { Task } from '../../src/jobs/task.ts';
import { Bench, START } from './bench.ts';
import { serve } from './client.ts';

/**
 * Ours, moved to where the test wants it: whoever waits for the fake waits for as long as it takes. Only pauses of
 * politeness pass at once.
 */
export class MovedClock implements Clock {
  #ahead = START - systemClock.now();

  now(): number {
    return systemClock.now() + this.#ahead;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    if (milliseconds === REDELIVERY_PAUSE_MS) {
      this.move(milliseconds);
      return Promise.resolve();
    }
    return systemClock.sleep(milliseconds, signal);
  }

  move(milliseconds: number): void {
    this.#ahead += milliseconds;
  }
}

export interface Outside {
  readonly bench: Bench;
  readonly clock: MovedClock;
  /** Enqueues a task, runs it, and everything that follows from it; the job as it is then. */
  run(task: string): Promise<JobRow>;
  deliveries(): Promise<readonly DeliveryRow[]>;
  /** Sends a webhook to our door, and runs what follows from it. */
  knock(request: Request): Promise<Response>;
  /** How many jobs of a task there are. */
  count(task: string): Promise<number>;
}

/** `handle` answers whatever is fetched. */
export function outside(
  settings: Readonly<Record<string, string>>,
  handle: (request: Request) => Response | Promise<Response>,
  tasks: readonly Task[] = [],
): Outside {
  const clock = new MovedClock();
  const ports = (rt: Bench['rt']): Partial<Bench['rt']> => ({ clock, env: { ...rt.env, ...settings } });
  const bench = new Bench({ tasks, ports });
  vi.spyOn(globalThis, 'fetch').mockImplementation(async (input, init) => handle(new Request(input, init)));
  return {
    bench,
    clock,
    run: async (task) => {
      const { id } = await bench.enqueue({ task });
      await bench.drain();
      return bench.job(id);
    },
    deliveries: async () => {
      const { rows } = await bench.db.run({ name: 'test', sql: `SELECT * FROM deliveries ORDER BY id`, params: [] });
      return rows.map(readDelivery);
    },
    knock: async (request) => {
      const answer = await serve(bench.rt, request);
      await bench.background();
      await bench.drain();
      return answer;
    },
    count: async (task) => {
      const sql = `SELECT count(*) AS n FROM jobs WHERE task = ?1`;
      const { rows } = await bench.db.run({ name: 'test', sql, params: [task] });
      return Number(rows[0]?.['n']);
    },
  };
}

/** The result of a job that succeeded. */
export function resultOf({ state, result, error }: JobRow): unknown {
  if (state !== 'SUCCESS') throw new Error(`It is ${state}: ${JSON.stringify(error)}`);
  return result;
}
