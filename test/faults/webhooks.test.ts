// INV-F13: a delivery counts once. Whatever dies, fails or stays silent while it is taken in, the sender's next try is
// taken, and there is one job.

import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { tick } from '../../src/cron/tick.ts';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import { emptyDatabase, type Bench } from '../worker/bench.ts';
import { ask, serve } from '../worker/client.ts';
import { formFromMailgun, fromGithub, fromMailgun, fromOpenphone, fromQuo, fromSlack } from '../worker/senders.ts';
import { dieEverywhere, Life, World, type Fate, type Port } from '../worker/world.ts';

beforeEach(emptyDatabase);

const MINUTE = 60_000;

/** One event of a provider: each try is signed when it is sent, as far as the provider does that. */
type Event = (now: number) => Promise<Request>;

const unique = (): string => crypto.randomUUID();

function githubEvent(): Event {
  const [id, body] = [unique(), JSON.stringify({ action: 'opened', unique: unique() })];
  return () => fromGithub(body, 'issues', { id });
}

/** All sign a retry anew but Mailgun, which is not known to, and GitHub, which signs no time. */
const EVENTS: Readonly<Record<string, () => Event>> = {
  github: githubEvent,
  'mailgun event': () => {
    const [id, event] = [unique(), { event: 'delivered', id: unique(), timestamp: 1 }];
    let timestamp: number | undefined;
    return (now) => fromMailgun(event, { id, timestamp: (timestamp ??= Math.floor(now / 1_000)) });
  },
  'mailgun route': () => {
    const id = unique();
    let timestamp: number | undefined;
    return (now) =>
      formFromMailgun([['recipient', 'a@b.example']], { id, timestamp: (timestamp ??= Math.floor(now / 1_000)) });
  },
  'slack event': () => {
    const body = JSON.stringify({ type: 'event_callback', event_id: unique(), event: { type: 'app_mention' } });
    return (now) => fromSlack(body, { timestamp: Math.floor(now / 1_000) });
  },
  'openphone legacy': () => {
    const body = JSON.stringify({ id: unique(), type: 'message.received', data: { object: { id: unique() } } });
    return (now) => fromOpenphone(body, { timestamp: now });
  },
  'openphone standard': () => {
    const id = unique();
    const body = JSON.stringify({ id: 'EV1', type: 'message.received', data: { resource: { id: unique() } } });
    return (now) => fromQuo(body, { id, timestamp: Math.floor(now / 1_000) });
  },
};
const events = Object.entries(EVENTS).map(([name, make]) => ({ name, make }));

/** Notes every event it is run on. */
function listener(heard: string[]): Task {
  return defineTask({
    name: 'test.listener',
    queue: 'default',
    on: ['*'],
    input: z.object({ provider: z.string(), event: z.string() }),
    run: ({ provider, event }) => void heard.push(`${provider}.${event}`),
  });
}

interface Reply {
  readonly status: number;
  readonly verdict: unknown;
  readonly id: unknown;
}

async function deliver(bench: Bench, event: Event): Promise<Reply> {
  const response = await serve(bench.rt, await event(bench.clock.now()));
  const body: Record<string, unknown> = await response.json();
  // What was promised after the answer is the isolate's own business: a dying one never keeps it.
  void bench.background();
  return { status: response.status, verdict: body['status'], id: body['job_id'] };
}

interface Row {
  readonly id: string;
  readonly task: string;
  readonly state: string;
  readonly error: string | null;
}

async function rows(): Promise<readonly Row[]> {
  return (await env.DB.prepare(`SELECT id, task, state, error FROM jobs ORDER BY id`).all<Row>()).results;
}

/** Ticks and deliveries, minute by minute, until nothing is left to do. */
async function goOn(world: World, bench: Bench, minutes = 40): Promise<void> {
  for (let minute = 0; minute < minutes; minute += 1) {
    await world.deliver(bench);
    await world.pass(MINUTE);
    await world.run(tick(bench.rt, undefined));
    const open = (await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE finished_at IS NULL`).first())?.['n'];
    if (world.broker.size === 0 && open === 0) return;
  }
  throw new Error('Something is never done.');
}

/** One job that ran, and what it handed on ran once; others of the same delivery say that they are duplicates. */
async function expectOnce(at: string, heard: readonly string[], answered: readonly Reply[]): Promise<void> {
  const all = await rows();
  const ran = all.filter(({ task, state }) => task === 'process_webhook' && state === 'SUCCESS');
  const rest = all.filter(({ task, state }) => task === 'process_webhook' && state !== 'SUCCESS');
  expect([at, ran.length, heard.length]).toEqual([at, 1, 1]);
  for (const { state, error } of rest)
    expect([at, state, error]).toEqual([at, 'REVOKED', expect.stringMatching(/duplicate/)]);
  for (const { id } of answered) expect([at, all.map((row) => row.id)]).toEqual([at, expect.toSatisfy(contains(id))]);
}

function contains(id: unknown): (ids: readonly string[]) => boolean {
  return (ids) => ids.some((each) => each === id);
}

describe.for(events)('INV-F13 a delivery of $name', ({ make }) => {
  test(
    'whose isolate dies at any call of its own is taken when it comes again, and is one job',
    { timeout: 60_000 },
    async () => {
      await dieEverywhere(3, async (life, at) => {
        const [world, event, heard]: [World, Event, string[]] = [new World(), make(), []];
        const tasks = [listener(heard)];
        const first = await world.run(deliver(world.isolate({ tasks, life }), event), life);
        await world.pass(MINUTE);
        const living = world.isolate({ tasks });
        const second = await world.run(deliver(living, event));
        expect([at, second.status]).toEqual([at, 200]);
        if (first !== 'died') expect([at, second.id, second.verdict]).toEqual([at, first.id, 'duplicate']);
        await goOn(world, living);
        await expectOnce(at, heard, [second]);
      });
    },
  );

  test(
    'for which any one call fails is answered truly, and is one job after its sender’s next try',
    { timeout: 120_000 },
    async () => {
      for (const fate of ['refused', 'done, refused', 'silent', 'done, silent'] as const) {
        for (let call = 1; ; call += 1) {
          await emptyDatabase();
          const at = `${fate} at call ${String(call)}`;
          const [world, event, heard]: [World, Event, string[]] = [new World(), make(), []];
          const tasks = [listener(heard)];
          let calls = 0;
          const failing = world.isolate({ tasks, fault: () => ((calls += 1) === call ? fate : 'answered') });
          const replies = [await world.run(deliver(failing, event))];
          const reached = calls >= call;
          await world.pass(MINUTE);
          // GitHub does not try again by itself; somebody may all the same.
          replies.push(await world.run(deliver(world.isolate({ tasks }), event)));
          for (const { status } of replies) expect([at, status]).toEqual([at, expect.toBeOneOf([200, 503])]);
          expect([at, replies[1]?.status]).toEqual([at, 200]);
          await goOn(world, world.isolate({ tasks }));
          await expectOnce(
            at,
            heard,
            replies.filter(({ status }) => status === 200),
          );
          if (!reached) break;
        }
      }
    },
  );

  test('that comes eight times at once is one job, and every answer names it', async () => {
    const [world, event, heard]: [World, Event, string[]] = [new World(), make(), []];
    const [one, other] = [world.isolate({ tasks: [listener(heard)] }), world.isolate({ tasks: [listener(heard)] })];
    const copies = Array.from({ length: 8 }, (_, at) => deliver(at % 2 === 0 ? one : other, event));
    const replies = await world.run(Promise.all(copies));
    expect(new Set(replies.map(({ id }) => id)).size).toBe(1);
    expect(replies.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 200));
    expect(replies.filter(({ verdict }) => verdict === 'accepted').length).toBe(1);
    await goOn(world, one);
    await expectOnce('eight', heard, replies);
  });
});

test('INV-F13 our own retry of a job is not taken for a duplicate, nor does a copy that comes meanwhile make a second', async () => {
  const [world, heard]: [World, string[]] = [new World(), []];
  const event = githubEvent();
  let storesFail = true;
  const tasks = [
    listener(heard),
    defineTask({
      name: 'test.fragile',
      queue: 'default',
      on: ['github.*'],
      input: z.object({}),
      retry: { max: 3, delays: { kind: 'delays', seconds: [30] } },
      run: () => {
        if (storesFail) throw new Error('not yet');
        heard.push('fragile');
      },
    }),
  ];
  const bench = world.isolate({ tasks });
  const first = await world.run(deliver(bench, event));
  await world.deliver(bench);
  await world.pass(10_000);
  const again = await world.run(deliver(bench, event));
  expect([again.verdict, again.id]).toEqual(['duplicate', first.id]);
  storesFail = false;
  await goOn(world, bench);
  expect(heard.sort()).toEqual(['fragile', 'github.issues']);
  expect((await rows()).map(({ state }) => state)).toEqual(['SUCCESS', 'SUCCESS', 'SUCCESS']);
});

describe('INV-F13 while the replay guard is silent', () => {
  const silent = (from: number, until: number, world: World): ((port: Port) => Fate) => {
    const began = world.clock.now();
    return (port) => {
      const elapsed = world.clock.now() - began;
      return port === 'guard' && elapsed >= from && elapsed < until ? 'silent' : 'answered';
    };
  };

  test.for(events.filter(({ name }) => name !== 'github'))(
    '$name is told to try again, and nothing is written',
    async ({ make }) => {
      const [world, event]: [World, Event] = [new World(), make()];
      const bench = world.isolate({ fault: silent(0, MINUTE, world) });
      expect((await world.run(deliver(bench, event))).status).toBe(503);
      expect(await rows()).toEqual([]);
      await world.pass(MINUTE);
      expect(await world.run(deliver(bench, event))).toMatchObject({ status: 200, verdict: 'accepted' });
    },
  );

  test('GitHub is taken: its job waits for the guard, and runs once it has won', async () => {
    const [world, heard]: [World, string[]] = [new World(), []];
    const event = githubEvent();
    const bench = world.isolate({ tasks: [listener(heard)], fault: silent(0, 3 * MINUTE, world) });
    const first = await world.run(deliver(bench, event));
    expect(first).toMatchObject({ status: 200, verdict: 'accepted' });
    const copy = await world.run(deliver(bench, event));
    expect(copy).toMatchObject({ status: 200, verdict: 'duplicate', id: first.id });
    await world.deliver(bench);
    const job = (await env.DB.prepare(`SELECT state, attempt, waiting_for FROM jobs`).first()) ?? {};
    expect(job).toEqual({ state: 'PENDING', attempt: 0, waiting_for: 'the replay guard does not answer' });
    expect(heard).toEqual([]);
    await goOn(world, bench);
    await expectOnce('silent', heard, [first]);
    expect(await world.run(deliver(bench, event))).toMatchObject({ verdict: 'duplicate', id: first.id });
  });

  test('GitHub is taken twice, once under each guard: the second to claim is a duplicate and never runs', async () => {
    const [world, heard]: [World, string[]] = [new World(), []];
    const event = githubEvent();
    const tasks = [listener(heard)];
    const [cut, whole] = [world.isolate({ tasks, fault: silent(0, MINUTE, world) }), world.isolate({ tasks })];
    const lonely = await world.run(deliver(cut, event));
    // Copies of one minute have one id.
    expect((await world.run(deliver(cut, event))).id).toBe(lonely.id);
    await world.pass(MINUTE);
    const known = await world.run(deliver(whole, event));
    expect([lonely.verdict, known.verdict, lonely.id === known.id]).toEqual(['accepted', 'accepted', false]);
    await goOn(world, whole);
    await expectOnce('twice', heard, [lonely, known]);
    const revoked = (await rows()).find(({ id }) => id === lonely.id);
    expect(JSON.parse(revoked?.error ?? '{}')).toMatchObject({ code: 'duplicate' });
    // Whoever runs it again by hand means it.
    const again = await world.run(ask(whole.rt, `/api/v1/jobs/${String(lonely.id)}/retry`, { method: 'POST' }));
    expect(again.status).toBe(202);
    await goOn(world, whole);
    expect(heard.length).toBe(2);
  });

  test('GitHub is taken although the one that claimed before it died with nothing: its job is made under the claimed id', async () => {
    const [world, heard]: [World, string[]] = [new World(), []];
    const event = githubEvent();
    const tasks = [listener(heard)];
    const life = new Life(3, 'before');
    expect(await world.run(deliver(world.isolate({ tasks, life }), event), life)).toBe('died');
    expect(await rows()).toEqual([]);
    await world.pass(MINUTE);
    const cut = world.isolate({ tasks, fault: silent(0, MINUTE, world) });
    const taken = await world.run(deliver(cut, event));
    expect(taken).toMatchObject({ status: 200, verdict: 'accepted' });
    await goOn(world, world.isolate({ tasks }));
    await expectOnce('claimed', heard, [taken]);
    // Whoever delivers it again, hours later, is told of the job that ran.
    await world.pass(3 * 60 * MINUTE);
    const late = await world.run(deliver(world.isolate({ tasks }), event));
    const ran = (await rows()).find(({ task, state }) => task === 'process_webhook' && state === 'SUCCESS');
    expect(late).toEqual({ status: 200, verdict: 'duplicate', id: ran?.id });
    await goOn(world, world.isolate({ tasks }));
    await expectOnce('late', heard, [taken, late]);
  });

  test('GitHub is taken once although the guard’s answer was lost and not its claim', async () => {
    for (const at of [1, 2]) {
      await emptyDatabase();
      const [world, heard]: [World, string[]] = [new World(), []];
      const event = githubEvent();
      const tasks = [listener(heard)];
      let claims = 0;
      const fault = (port: Port): Fate => (port === 'guard' && (claims += 1) === at ? 'done, silent' : 'answered');
      const first = await world.run(deliver(world.isolate({ tasks, fault }), event));
      expect(first).toMatchObject({ status: 200, verdict: 'accepted' });
      await goOn(world, world.isolate({ tasks }));
      await world.pass(60 * MINUTE);
      const late = await world.run(deliver(world.isolate({ tasks }), event));
      expect(late).toEqual({ status: 200, verdict: 'duplicate', id: first.id });
      await goOn(world, world.isolate({ tasks }));
      expect((await rows()).map(({ state }) => state)).toEqual(['SUCCESS', 'SUCCESS']);
      await expectOnce('lost answer', heard, [first, late]);
    }
  });
});

test('INV-F13 while the database is silent a copy that nobody signed whole cannot stand for the job it names', async () => {
  const [world, heard]: [World, unknown[]] = [new World(), []];
  const tasks = [
    defineTask({
      name: 'test.reader',
      queue: 'default',
      on: ['mailgun.*'],
      input: z.object({ webhook_data: z.unknown() }),
      run: ({ webhook_data: data }) => void heard.push(data),
    }),
  ];
  const honest = { event: 'delivered', id: unique(), timestamp: 1, recipient: 'ada@example.com' };
  const [id, timestamp] = [unique(), Math.floor(world.clock.now() / 1_000)];
  const deaf = world.isolate({ tasks, fault: (port) => (port === 'queue' ? 'refused' : 'answered') });
  const first = await world.run(deliver(deaf, () => fromMailgun(honest, { id, timestamp })));
  expect(first).toMatchObject({ status: 200, verdict: 'accepted' });
  const blind = world.isolate({ tasks, fault: (port) => (port === 'database' ? 'refused' : 'answered') });
  const forged = { ...honest, recipient: 'victim@example.com' };
  const copy = await world.run(deliver(blind, () => fromMailgun(forged, { id, timestamp })));
  expect(copy.status).toBe(503);
  expect(world.broker.size).toBe(0);
  await goOn(world, world.isolate({ tasks }));
  expect(heard).toEqual([honest]);
});
