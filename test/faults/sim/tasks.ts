// The tasks of the simulator, a plain one and a sensitive one: their handler does what the plan of its job says.

import { z } from 'zod';
import { Discard, Retry } from '../../../src/jobs/outcome.ts';
import { createRegistry, type Registry } from '../../../src/jobs/registry.ts';
import { parseRate } from '../../../src/core/rate.ts';
import { defineTask, type Job, type Task, type TaskDefinition } from '../../../src/jobs/task.ts';
import type { Deferral } from '../../../src/jobs/outcome.ts';
import type { Run } from './leases.ts';
import type { Plan } from './workload.ts';
import type { World } from './world.ts';

const input = z.object({ n: z.int(), pad: z.string().optional(), key: z.string().optional() });

/** What the jobs of `sim.limited` take from, all together and each for its key. */
export const LIMITED_RATE = { name: 'sim.limited/rate', rate: parseRate('3/10s') };

export function lockNameOf(key: string): string {
  return `sim.limited/lock/${key}`;
}

// Larger than what is kept in a row.
const LARGE_RESULT = 'r'.repeat(64_100);

interface Result {
  readonly n: number;
  readonly run: number;
  readonly pad?: string;
}

export function registryOf(world: World): Registry {
  const define = (name: string, sensitive: boolean, limits: Limiting = {}): Task =>
    defineTask({
      ...limits,
      name,
      queue: 'default',
      sensitive,
      input,
      run: (given: z.infer<typeof input>, job): Promise<Result | Deferral> => runPlan(world, given.n, job),
      onSuccess: (_result, job) => hook(world, job, 'SUCCESS'),
      onRetry: (_error, job) => hook(world, job, 'RETRY'),
      onFailure: (_error, job) => hook(world, job, 'FAILURE'),
    });
  const limits: Limiting = { rateLimit: '3/10s', concurrency: { key: ({ key = '' }) => key, limit: 1 } };
  return createRegistry([define('sim.job', false), define('sim.secret', true), define('sim.limited', false, limits)]);
}

type Limiting = Pick<TaskDefinition<typeof input, unknown>, 'rateLimit' | 'concurrency'>;

async function runPlan(world: World, n: number, job: Job): Promise<Result | Deferral> {
  const plan = world.planOf(n);
  const run = world.startRun(job);
  job.progress(50, 'half way');
  try {
    const deferral = await behave(world, plan, run, job);
    run.end = deferral === undefined ? 'returned' : 'deferred';
    world.note(
      () => [job.id],
      () => `handler of run ${String(run.id)} has ${run.end}`,
    );
    return deferral ?? { n, run: run.id, ...(plan.largeResult ? { pad: LARGE_RESULT } : {}) };
  } catch (error) {
    run.end = 'threw';
    world.note(
      () => [job.id],
      () => `handler of run ${String(run.id)} throws ${String(error)}`,
    );
    throw error;
  }
}

async function behave(world: World, { behaviour }: Plan, run: Run, job: Job): Promise<Deferral | undefined> {
  switch (behaviour.kind) {
    case 'quick':
      await job.clock.sleep(behaviour.ms);
      return undefined;
    case 'sleep':
      await job.clock.sleep(behaviour.ms, behaviour.obeys ? job.signal : undefined);
      if (behaviour.obeys) job.signal.throwIfAborted();
      return undefined;
    case 'flaky': {
      await job.clock.sleep(behaviour.ms);
      if (job.attempt > behaviour.fails) return undefined;
      if (behaviour.retryAfter === undefined) throw new Error('It failed, as planned.');
      throw new Retry('Later, as planned.', { afterSeconds: behaviour.retryAfter });
    }
    case 'discard':
      throw new Discard('Not wanted, as planned.');
    case 'defer': {
      const before = world.ledger.leases.runsFor(job.id).filter(({ end }) => end === 'deferred').length;
      return before >= behaviour.times ? undefined : job.defer({ seconds: behaviour.seconds, reason: 'as planned' });
    }
    case 'kill':
      await job.clock.sleep(behaviour.ms);
      world.killed += 1;
      run.caller.isolate.die();
      return never();
  }
}

function hook(world: World, job: Job, state: 'SUCCESS' | 'RETRY' | 'FAILURE'): Promise<void> {
  const plan = world.hookCalled(job, state);
  switch (plan.hook) {
    case 'fine':
      return Promise.resolve();
    case 'throws':
      return Promise.reject(new Error('A hook that throws, as planned.'));
    case 'hangs':
      return never();
  }
}

// One of its own each time: whoever races a promise that lasts leaves something behind in it.
function never(): Promise<never> {
  return new Promise(() => undefined);
}
