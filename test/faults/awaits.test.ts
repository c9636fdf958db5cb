import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { submit } from '../../src/jobs/enqueue.ts';
import { readCall } from '../../src/jobs/request.ts';
import { requeue, requeueMany } from '../../src/jobs/requeue.ts';
import { defineTask, type Job } from '../../src/jobs/task.ts';
import { insertEffect } from '../../src/store/debug-effects.ts';
import { emptyDatabase, START, type Bench } from '../worker/bench.ts';
import { dieEverywhere, World } from '../worker/world.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;

/** When the handler of each key ran, whoever ran it. */
type Runs = { readonly key: string; readonly at: number }[];

/** Tasks that leave an effect of every run, and end in every way there is. */
function tasksOf(runs: Runs): Parameters<World['isolate']>[0] {
  const input = z.object({ key: z.string() });
  const leave = async (key: string, job: Job): Promise<void> => {
    runs.push({ key, at: job.clock.now() });
    await job.db.run(insertEffect({ key, jobId: job.id, attempt: job.attempt, at: job.clock.now() }));
  };
  return {
    tasks: [
      defineTask({
        name: 'test.plain',
        queue: 'default',
        input,
        async run({ key }, job) {
          await leave(key, job);
          // Longer than a heartbeat: its end is written apart from the others'.
          await job.clock.sleep(25_000, job.signal);
          return key;
        },
      }),
      defineTask({
        name: 'test.once_more',
        queue: 'default',
        input,
        retry: { max: 1, delays: { kind: 'delays', seconds: [10] } },
        async run({ key }, job) {
          await leave(`${key} ${String(job.attempt)}`, job);
          if (job.attempt === 1) throw new Error('not yet');
          return key;
        },
      }),
      defineTask({
        name: 'test.failing',
        queue: 'default',
        input,
        retry: { max: 0 },
        async run({ key }, job) {
          await leave(key, job);
          throw new Error('never');
        },
      }),
      defineTask({
        name: 'test.deferring',
        queue: 'default',
        input,
        async run({ key }, job) {
          if (job.clock.now() < START + MINUTE) return job.defer({ seconds: 30, reason: 'too early' });
          await leave(key, job);
          return key;
        },
      }),
    ],
  };
}

interface Row {
  readonly task: string;
  readonly state: string;
  readonly attempt: number;
  readonly lost: number;
  readonly finished_at: number | null;
  readonly input: string;
}

async function rows(): Promise<readonly Row[]> {
  return (await env.DB.prepare(`SELECT * FROM jobs ORDER BY id`).all<Row>()).results;
}

/** State and attempts of each job, by the key it was given. */
async function ends(): Promise<Record<string, unknown>> {
  return Object.fromEntries((await rows()).map(({ input, state, attempt }) => [keyOf(input), [state, attempt]]));
}

function keyOf(input: string): string {
  return (JSON.parse(input) as { key: string }).key;
}

async function count(sql: string): Promise<unknown> {
  return (await env.DB.prepare(`SELECT count(*) AS n FROM ${sql}`).first())?.['n'];
}

async function effects(): Promise<ReadonlyMap<string, number>> {
  const { results } = await env.DB.prepare(`SELECT key, count(*) AS n FROM debug_effects GROUP BY key`).all<{
    key: string;
    n: number;
  }>();
  return new Map(results.map(({ key, n }) => [key, n]));
}

/** Ticks and deliveries, minute by minute, by an isolate that lives: until all is done, and once more. */
async function goOn(world: World, bench: Bench, minutes: number): Promise<void> {
  let done = false;
  for (let minute = 0; minute < minutes && !done; minute += 1) {
    done = world.broker.size === 0 && (await count('jobs WHERE finished_at IS NULL')) === 0;
    await world.pass(MINUTE);
    await world.run(tick(bench.rt, undefined));
    await world.deliver(bench);
  }
}

describe('an isolate that dies between any two awaits', () => {
  test.each([
    ['and its messages come again', false],
    ['and its queue is lost with it', true],
  ])(
    'while it runs a batch %s: each job ends as it should, with one dead letter and no attempt too many',
    async (_, queueLost) => {
      await dieEverywhere(8, async (life, at) => {
        const world = new World();
        const runs: Runs = [];
        const tasks = tasksOf(runs);
        const living = world.isolate(tasks);
        const calls = ['plain', 'once_more', 'failing', 'deferring'].map((name) => ({
          task: `test.${name}`,
          key: name,
        }));
        for (const { task, key } of calls) await world.run(living.enqueue({ task, input: { key } }));
        await world.run(living.enqueue({ task: 'test.plain', input: { key: 'later' }, options: { countdown: 40 } }));
        await world.pass(40_000);
        await world.deliver(world.isolate({ ...tasks, life }), life);
        if (queueLost) world.broker.lose();
        await world.pass(95_000);
        await world.deliver(living);
        await goOn(world, living, 6);

        expect([at, await ends()]).toEqual([
          at,
          {
            plain: ['SUCCESS', 1],
            once_more: ['SUCCESS', 2],
            failing: ['FAILURE', 1],
            deferring: ['SUCCESS', 1],
            later: ['SUCCESS', 1],
          },
        ]);
        expect([at, await count('dead_letters'), world.broker.size]).toEqual([at, 1, 0]);
        const done = await effects();
        for (const key of ['plain', 'once_more 1', 'once_more 2', 'failing', 'deferring', 'later']) {
          expect([at, key, done.get(key)]).toEqual([at, key, expect.toBeOneOf([1, 2])]);
        }
        // Nothing ran after it had ended, and nothing vanished more often than isolates did.
        for (const { input, finished_at, lost } of await rows()) {
          const last = Math.max(...runs.filter(({ key }) => key.startsWith(keyOf(input))).map((run) => run.at));
          expect(last).toBeLessThanOrEqual(finished_at ?? 0);
          expect(lost).toBeLessThanOrEqual(1);
        }
      });
    },
    120_000,
  );

  test.each([
    ['', 3, ''],
    [' whose input is kept aside', 4, 'x'.repeat(200_000)],
  ])(
    'while it accepts a call%s: repeated under the same key, the call is one job that runs once',
    async (name, least, filler) => {
      let keys = 0;
      await dieEverywhere(least, async (life, at) => {
        const world = new World();
        const options = { idempotency_key: `call${name}-${String(keys++)}` };
        const body = { task: 'debug.effect', input: { key: at, filler }, options };
        const accept = async (bench: Bench): Promise<unknown> => {
          const request = readCall(bench.rt.registry, body);
          if (!request.ok) throw new Error(JSON.stringify(request.faults));
          const enqueued = await submit(bench.rt, request.value, { owner: 'test', source: 'test' });
          await bench.background();
          return enqueued;
        };
        const first = await world.run(accept(world.isolate({ life })), life);
        const living = world.isolate();
        await world.pass(5_000);
        const again = await world.run(accept(living));
        expect(again).toMatchObject({ kind: 'accepted' });
        if (first !== 'died') expect(again).toMatchObject({ replayed: true, id: (first as { id: string }).id });
        await world.deliver(living);
        await goOn(world, living, 5);
        expect([at, ...(await rows()).map(({ state, attempt }) => [state, attempt])]).toEqual([at, ['SUCCESS', 1]]);
        expect([at, (await effects()).get(at)]).toEqual([at, 1]);
        expect(world.broker.size).toBe(0);
      });
    },
    120_000,
  );

  test('while it ticks: the next ticks put right what is owed, lapsed, expired and suspect, and each job runs once', async () => {
    await dieEverywhere(12, async (life, at) => {
      const world = new World();
      const living = world.isolate();
      const refusing = world.isolate({ fault: (port) => (port === 'queue' ? 'refused' : 'answered') });
      const effect = (key: string, options = {}): Parameters<Bench['enqueue']>[0] => ({
        task: 'debug.effect',
        input: { key },
        options,
      });
      const lapsed: string[] = [];
      for (const queue of ['default', 'bulk']) {
        await world.run(living.enqueue(effect(`${queue} suspect`, { queue })));
        await world.run(living.enqueue(effect(`${queue} expired`, { queue, expires: 10 })));
        const accepted = await world.run(living.enqueue(effect(`${queue} lapsed`, { queue })));
        lapsed.push(accepted.id);
        await world.run(refusing.enqueue(effect(`${queue} owed`, { queue })));
        await world.run(refusing.background());
      }
      for (const id of lapsed) {
        await env.DB.prepare(
          `UPDATE jobs SET state = 'STARTED', attempt = 1, claim = 1, started_at = ?2, lease_until = ?2 WHERE id = ?1`,
        )
          .bind(id, START + 90_000)
          .run();
      }
      world.broker.lose();
      await world.pass(3 * MINUTE);
      await world.run(tick(world.isolate({ life }).rt, undefined), life);
      await goOn(world, living, 6);

      expect([at, await ends()]).toEqual([
        at,
        Object.fromEntries(
          ['default', 'bulk'].flatMap((queue) => [
            [`${queue} suspect`, ['SUCCESS', 1]],
            [`${queue} expired`, ['REVOKED', 0]],
            [`${queue} lapsed`, ['SUCCESS', 1]],
            [`${queue} owed`, ['SUCCESS', 1]],
          ]),
        ),
      ]);
      expect([at, [...(await effects()).values()]]).toEqual([at, [1, 1, 1, 1, 1, 1]]);
      expect([at, world.broker.size]).toEqual([at, 0]);
    });
  }, 120_000);

  test('while it requeues a dead letter: what is still open is requeued once more, and the job runs once', async () => {
    await dieEverywhere(4, async (life, at) => {
      const world = new World();
      const runs: Runs = [];
      const living = world.isolate(tasksOf(runs));
      await world.run(living.enqueue({ task: 'test.failing', input: { key: 'first' } }));
      await world.deliver(living);
      const letter = await env.DB.prepare(`SELECT id FROM dead_letters`).first<{ id: string }>();
      const dying = world.isolate({ ...tasksOf(runs), life });
      await world.run(requeue(dying.rt, letter?.id ?? '', undefined), life);
      // Whoever was not answered asks for what nobody has requeued yet.
      await world.run(requeueMany(living.rt, { task: 'test.failing' }, 10, false));
      await world.deliver(living);
      await goOn(world, living, 4);
      expect([at, await count(`jobs WHERE source = 'requeue' AND state = 'FAILURE'`), runs.length]).toEqual([at, 1, 2]);
      expect([at, await count('jobs WHERE finished_at IS NULL'), await count('dead_letters')]).toEqual([at, 0, 2]);
    });
  }, 120_000);
});
