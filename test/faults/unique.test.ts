import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import type { Json } from '../../src/core/json.ts';
import { submit, type Enqueued } from '../../src/jobs/enqueue.ts';
import { readCall } from '../../src/jobs/request.ts';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import { emptyDatabase, type Bench } from '../worker/bench.ts';
import { dieEverywhere, World, type Fate, type Port } from '../worker/world.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;
const LARGE = 'x'.repeat(97_000);

function noting(ran: unknown[]): Task {
  return defineTask({ name: 'test.note', queue: 'default', input: z.unknown(), run: (input) => void ran.push(input) });
}

async function accept(bench: Bench, input: Json, options: Json): Promise<Enqueued> {
  const request = readCall(bench.rt.registry, { task: 'test.note', input, options });
  if (!request.ok) throw new Error(JSON.stringify(request.faults));
  const enqueued = await submit(bench.rt, request.value, { owner: 'test', source: 'test' });
  await bench.background();
  return enqueued;
}

interface Row {
  readonly id: string;
  readonly state: string;
  readonly finished_at: number | null;
}

async function rows(): Promise<readonly Row[]> {
  return (await env.DB.prepare(`SELECT id, state, finished_at FROM jobs ORDER BY id`).all<Row>()).results;
}

/** Ticks and deliveries, minute by minute, until all is done. */
async function goOn(world: World, bench: Bench): Promise<void> {
  for (let minute = 0; minute < 8; minute += 1) {
    await world.deliver(bench);
    if (world.broker.size === 0 && (await rows()).every(({ finished_at: at }) => at !== null)) return;
    await world.pass(MINUTE);
    await world.run(tick(bench.rt, undefined));
  }
}

interface Case {
  readonly on: string;
  /** What the key names before: a job with this input and these options, ended where it says so. */
  readonly before?: { readonly input: Json; readonly options?: object; readonly ended?: true };
  readonly input: Json;
  /** Calls of a port that an undisturbed call makes at least. */
  readonly least: number;
}

let keys = 0;

describe('an isolate that dies at any of its calls while it accepts a unique call', () => {
  const waiting = { input: 'before', options: { countdown: 50 } };
  const ended = { input: 'before', ended: true } as const;
  const cases: readonly [string, Case][] = [
    ['that is the first of its key', { on: 'return', input: 'now', least: 3 }],
    ['that is the first of its key and debounced', { on: 'debounce', input: 'now', least: 3 }],
    ['that is the first of its key, its input kept aside', { on: 'replace', input: LARGE, least: 4 }],
    ['that takes the place of a waiting job', { on: 'replace', before: waiting, input: 'now', least: 3 }],
    ['that debounces a waiting job', { on: 'debounce', before: { input: 'before' }, input: 'now', least: 2 }],
    [
      'that takes the place of a waiting job, both inputs kept aside',
      { on: 'replace', before: { ...waiting, input: `${LARGE}!` }, input: LARGE, least: 5 },
    ],
    ['whose key named a job that has ended', { on: 'return', before: ended, input: 'now', least: 5 }],
    ['whose key named a job that it cannot replace', { on: 'replace', before: ended, input: 'now', least: 5 }],
  ];

  test.each(cases)(
    '%s leaves one open job; repeated, the call is that job, which runs once with what it brought',
    async (_, { on, before, input, least }) => {
      await dieEverywhere(least, async (life, at) => {
        const world = new World();
        const ran: unknown[] = [];
        const tasks = [noting(ran)];
        const living = world.isolate({ tasks });
        const unique = { key: `die-${String(keys++)}`, on, ...(on === 'debounce' ? { for: 40 } : {}) };
        if (before !== undefined) {
          const first = await world.run(accept(living, before.input, { ...before.options, unique }));
          if (before.ended === true) await world.deliver(living);
          expect(first).toMatchObject({ kind: 'accepted' });
          await world.pass(1_000);
        }
        const dying = await world.run(accept(world.isolate({ tasks, life }), input, { unique }), life);
        await world.pass(5_000);
        const open = async (): Promise<number> => (await rows()).filter(({ finished_at: end }) => end === null).length;
        expect([at, (await open()) <= 1]).toEqual([at, true]);
        const again = await world.run(accept(living, input, { unique }));
        expect([at, again.kind, await open()]).toEqual([at, 'accepted', 1]);
        if (dying !== 'died') expect(again).toMatchObject({ id: (dying as { id: string }).id });
        await goOn(world, living);
        const states = (await rows()).map(({ state }) => state);
        const all = before?.ended === true ? ['SUCCESS', 'SUCCESS'] : ['SUCCESS'];
        expect([at, states, world.broker.size]).toEqual([at, all, 0]);
        expect([at, ran]).toEqual([at, before?.ended === true ? [before.input, input] : [input]]);
      });
    },
    120_000,
  );
});

describe('a call of a key whose ports answer as they like', () => {
  test.each(['return', 'replace', 'debounce'])(
    '%s is repeated until it is taken, and is one job whatever was lost on the way',
    async (on) => {
      const ports: readonly Port[] = ['guard', 'database', 'queue'];
      const fates: readonly Fate[] = ['refused', 'done, refused', 'silent', 'done, silent'];
      for (const port of ports) {
        for (const fate of fates) {
          await emptyDatabase();
          const world = new World();
          const ran: unknown[] = [];
          const tasks = [noting(ran)];
          const unique = { key: `fate-${String(keys++)}`, on, ...(on === 'debounce' ? { for: 40 } : {}) };
          const living = world.isolate({ tasks });
          const broken = world.isolate({ tasks, fault: (at) => (at === port ? fate : 'answered') });
          const first = await world.run(accept(living, 1, { unique, ...(on === 'debounce' ? {} : { countdown: 40 }) }));
          const cut = await world.run(accept(broken, 2, { unique }));
          if (port !== 'queue') expect([port, fate, cut]).toEqual([port, fate, { kind: 'unknown' }]);
          const again = await world.run(accept(living, 2, { unique }));
          expect(again).toMatchObject({ kind: 'accepted', id: (first as { id: string }).id });
          await world.pass(45_000);
          await goOn(world, living);
          expect([port, fate, ran, (await rows()).length]).toEqual([port, fate, [on === 'return' ? 1 : 2], 1]);
        }
      }
    },
    60_000,
  );
});
