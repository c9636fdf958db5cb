// Sequences of calls, runs and time against a model of a few lines: which job each call is, and what each job runs with.

import { env } from 'cloudflare:workers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { submit } from '../../src/jobs/enqueue.ts';
import { readCall } from '../../src/jobs/request.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { emptyDatabase, START } from '../worker/bench.ts';
import { World } from '../worker/world.ts';

const DAY = 86_400_000;

type Step =
  | { readonly kind: 'call'; readonly countdown: number }
  | { readonly kind: 'pass'; readonly seconds: number }
  /** Everything that is due runs. */
  | { readonly kind: 'run' };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('call'), countdown: fc.constantFrom(0, 20, 100) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass'), seconds: fc.constantFrom(1, 29, 30, 70) }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: 'run' }) },
);

const policy = fc.oneof(
  fc.record({ on: fc.constantFrom('return', 'replace'), for: fc.constantFrom(undefined, 30, 90) }),
  fc.record({ on: fc.constant('debounce'), for: fc.constantFrom(30, 90) }),
);
type Policy = typeof policy extends fc.Arbitrary<infer T> ? T : never;

interface ModelJob {
  input: number;
  dueAt: number;
  ended: boolean;
}

class Model {
  readonly jobs: ModelJob[] = [];
  readonly ran: number[] = [];
  readonly #policy: Policy;
  #key: { job: ModelJob; until: number } | undefined;

  constructor(given: Policy) {
    this.#policy = given;
  }

  /** The job that a call is, and whether it was given back. */
  call(input: number, countdown: number, now: number): { readonly job: ModelJob; readonly given: boolean } {
    const { on, for: seconds } = this.#policy;
    const dueAt = now + 1_000 * (on === 'debounce' ? seconds : countdown);
    const until = seconds === undefined ? dueAt + 30 * DAY : now + seconds * 1_000;
    const named = this.#key !== undefined && this.#key.until > now ? this.#key : undefined;
    if (named !== undefined && (on === 'debounce' || seconds === undefined)) named.until = Math.max(named.until, until);
    if (named !== undefined && on === 'return' && !(named.job.ended && seconds === undefined)) {
      return { job: named.job, given: true };
    }
    if (named !== undefined && on !== 'return' && !named.job.ended) {
      const { job } = named;
      Object.assign(job, { input, dueAt: Math.max(job.dueAt, dueAt) <= now ? job.dueAt : dueAt });
      return { job, given: false };
    }
    const job = { input, dueAt, ended: false };
    this.jobs.push(job);
    this.#key = { job, until };
    return { job, given: false };
  }

  run(now: number): void {
    for (const job of this.jobs.filter(({ ended, dueAt }) => !ended && dueAt <= now)) {
      job.ended = true;
      this.ran.push(job.input);
    }
  }
}

let runs = 0;

async function follow(given: Policy, steps: readonly Step[]): Promise<void> {
  await emptyDatabase();
  runs += 1;
  const world = new World(START + runs * 40 * DAY);
  const ran: number[] = [];
  const input = z.number();
  const task = defineTask({ name: 'test.n', queue: 'default', input, run: (n) => void ran.push(n) });
  const bench = world.isolate({ tasks: [task] });
  const model = new Model(given);
  const ids = new Map<ModelJob, string>();
  const unique = { key: `model-${String(runs)}`, on: given.on, ...(given.for === undefined ? {} : { for: given.for }) };
  let calls = 0;
  for (const { kind, ...at } of steps) {
    if ('seconds' in at) await world.pass(at.seconds * 1_000);
    if (kind === 'run') {
      // A message that comes early is put back until its row is due: it is ready by then.
      await world.run(tick(bench.rt, undefined));
      await world.deliver(bench);
      model.run(world.clock.now());
      expect(ran.toSorted()).toEqual(model.ran.toSorted());
    }
    if ('countdown' in at) {
      calls += 1;
      const options = { unique, ...(given.on === 'debounce' ? {} : { countdown: at.countdown }) };
      const request = readCall(bench.rt.registry, { task: 'test.n', input: calls, options });
      if (!request.ok) throw new Error(JSON.stringify(request.faults));
      const answer = await world.run(submit(bench.rt, request.value, { owner: 'test', source: 'test' }));
      const { job, given: replayed } = model.call(calls, at.countdown, world.clock.now());
      expect(answer).toMatchObject({ kind: 'accepted', replayed });
      const { id } = answer as { id: string };
      expect(id).toBe(ids.get(job) ?? id);
      ids.set(job, id);
      expect(new Set(ids.values()).size).toBe(ids.size);
    }
    const { results } = await env.DB.prepare(
      `SELECT id, CAST(input AS INTEGER) AS input, due_at AS dueAt, finished_at IS NOT NULL AS ended FROM jobs`,
    ).all<{ id: string }>();
    const rows = new Map(results.map(({ id, ...row }) => [id, row]));
    for (const [job, id] of ids) expect(rows.get(id)).toEqual({ ...job, ended: Number(job.ended) });
    expect(rows.size).toBe(ids.size);
  }
}

test('whatever is called, run and waited for, each call is the job that the model says, and each job runs once with the last it was given', async () => {
  await fc.assert(fc.asyncProperty(policy, fc.array(step, { minLength: 3, maxLength: 16 }), follow), {
    numRuns: 60,
    seed: 20260105,
  });
}, 120_000);
