import { beforeEach, describe, expect, test } from 'vitest';
import { Hono } from 'hono';
import { z } from 'zod';
import type { Clock } from '../../src/core/ports.ts';
import type { Place } from '../../src/durable/job-stream.ts';
import { systemClock } from '../../src/durable/system-clock.ts';
import type { Runtime } from '../../src/jobs/runtime.ts';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import type { App } from '../../src/routes/app.ts';
import type { Scope } from '../../src/routes/auth.ts';
import { jobRoutes } from '../../src/routes/jobs.ts';
import { streamRoutes } from '../../src/routes/stream.ts';
import { Bench, emptyDatabase, START } from '../worker/bench.ts';
import { hear, type Heard } from '../worker/events.ts';

beforeEach(emptyDatabase);

const talking = defineTask({
  name: 'test.talking',
  queue: 'default',
  input: z.unknown(),
  retry: { max: 3, delays: { kind: 'delays', seconds: [0] } },
  async run(_input, job) {
    for (const [at, percent] of [20, 50, 90].entries()) {
      job.progress(percent, `note ${String(at)}`);
      job.log(`attempt ${String(job.attempt)}, line ${String(at)}`);
      job.chunk(`piece ${String(at)}`);
      await job.clock.sleep(5);
    }
    if (job.attempt === 1) throw new Error('once more');
    return 'done';
  },
});

/** Asks the routes of jobs as somebody with these scopes. */
async function askAs(
  rt: Runtime,
  path: string,
  { headers = {}, scopes = ['jobs:read', 'payload:read'] }: { headers?: Record<string, string>; scopes?: Scope[] } = {},
): Promise<Response> {
  const app = new Hono<App>();
  app.use(async (c, next) => {
    c.set('rt', rt);
    c.set('principal', { owner: 'test', scopes: new Set(scopes) });
    return next();
  });
  app.route('/api/v1/jobs', jobRoutes);
  app.route('/api/v1/jobs', streamRoutes);
  return app.request(`/api/v1/jobs${path}`, { headers });
}

let ahead = START - systemClock.now();
/** Ours, moved: bindings answer as fast as this machine lets them, and a deadline is as long as it says. */
const clock: Clock = { ...systemClock, now: () => systemClock.now() + ahead };

function benchOf(tasks: readonly Task[] = [], ports: (rt: Runtime) => Partial<Runtime> = () => ({})): Bench {
  return new Bench({ tasks, ports: (rt) => ({ clock, ...ports(rt) }) });
}

interface Ran {
  readonly bench: Bench;
  readonly id: string;
  /** Lets its next attempt run to its end; the second ends the job. */
  readonly attempt: () => Promise<unknown>;
}

/** A job of `test.talking` after so many attempts. */
async function ran(attempts: number): Promise<Ran> {
  const bench = benchOf([talking]);
  const { id } = await bench.enqueue({ task: talking.name });
  const [message] = bench.queues.take();
  const attempt = (): Promise<unknown> => bench.deliver([message?.envelope]);
  for (let at = 1; at <= attempts; at += 1) await attempt();
  return { bench, id, attempt };
}

const SAID = [
  ['progress', { percent: 20, note: 'note 0' }],
  ['log', { line: 'attempt 2, line 0' }],
  ['chunk', { text: 'piece 0' }],
  ['progress', { percent: 50, note: 'note 1' }],
  ['log', { line: 'attempt 2, line 1' }],
  ['chunk', { text: 'piece 1' }],
  ['progress', { percent: 90, note: 'note 2' }],
  ['log', { line: 'attempt 2, line 2' }],
  ['chunk', { text: 'piece 2' }],
] as const;
const IDS = SAID.map((_, at) => `2.${String(at + 1)}`);

function without(heard: Heard): readonly [string, unknown] {
  const { at: _, ...data } = heard.data;
  return [heard.event, data];
}

describe('the stream of a job', () => {
  test('that has ended is all its last attempt said, in order, then its end, then nothing', async () => {
    const { bench, id } = await ran(2);
    const response = await askAs(bench.rt, `/${id}/stream`);
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream']);
    const heard = await hear(response);
    expect(heard.slice(0, -1).map(without)).toEqual(SAID);
    expect(heard.slice(0, -1).map((each) => each.id)).toEqual(IDS);
    expect(Date.parse(String(heard[0]?.data['at']))).toBeGreaterThanOrEqual(START);
    expect(heard.at(-1)).toEqual({
      id: undefined,
      event: 'state',
      data: {
        state: 'SUCCESS',
        status: 'completed',
        ready: true,
        successful: true,
        attempt: 2,
        error: null,
        next_attempt_at: null,
        waiting_for: null,
      },
    });
  });

  test('goes on behind every event without a gap or a repetition', async () => {
    const { bench, id } = await ran(2);
    for (const [at, eventId] of IDS.entries()) {
      const byHeader = await askAs(bench.rt, `/${id}/stream`, { headers: { 'last-event-id': eventId } });
      const byQuery = await askAs(bench.rt, `/${id}/stream?last_event_id=${eventId}`);
      for (const response of [byHeader, byQuery]) {
        const rest = (await hear(response)).filter(({ event }) => event !== 'state');
        expect(rest.map((each) => each.id)).toEqual(IDS.slice(at + 1));
      }
    }
    const newer = await askAs(bench.rt, `/${id}/stream?last_event_id=2.1`, { headers: { 'last-event-id': '2.8' } });
    expect((await hear(newer)).map((each) => each.id)).toEqual(['2.9', undefined]);
  });

  test('begins anew with a retry, for whoever stood in the attempt before as well', async () => {
    const { bench, id } = await ran(1);
    const first = await hear(await askAs(bench.rt, `/${id}/stream`), 10);
    expect(first.map((each) => each.id)).toEqual([...IDS.map((each) => each.replace('2.', '1.')), undefined]);
    expect(first.at(-1)?.data).toMatchObject({ state: 'RETRY', status: 'retrying', attempt: 1 });
    const again = await ran(2);
    const second = await hear(
      await askAs(again.bench.rt, `/${again.id}/stream`, { headers: { 'last-event-id': '1.9' } }),
    );
    expect(second.map((each) => each.id)).toEqual([...IDS, undefined]);
  });

  test('that waits stays open, and is told everything from there on', async () => {
    const { id, attempt } = await ran(0);
    const response = await askAs(benchOf().rt, `/${id}/stream`);
    const [first, rest] = response.body?.tee() ?? [];
    expect((await hear(new Response(first), 1)).map(without)).toMatchObject([['state', { state: 'PENDING' }]]);
    const hearing = hear(new Response(rest));
    await attempt();
    await attempt();
    const heard = await hearing;
    expect(heard.filter(({ id: of }) => of?.startsWith('2.')).map((each) => each.id)).toEqual(IDS);
    expect(heard.at(-1)?.data).toMatchObject({ state: 'SUCCESS' });
  });

  test('shows only percents to whoever may not see payloads, and goes on behind what it hid', async () => {
    const { bench, id } = await ran(2);
    const response = await askAs(bench.rt, `/${id}/stream`, { scopes: ['jobs:read'] });
    const [copy, text] = response.body?.tee() ?? [];
    const heard = await hear(new Response(copy));
    expect(heard.map(without).slice(0, -1)).toEqual(
      [20, 50, 90].map((percent) => ['progress', { percent, note: null }]),
    );
    const whole = await new Response(text).text();
    expect(whole).not.toMatch(/line|piece|note \d/);
    expect(whole).toContain('id: 2.9\n\n');
  });

  test('of an unknown job is 404, behind a malformed id 422, without the scope 403', async () => {
    const { bench, id } = await ran(0);
    for (const path of ['/019a9b2c-3d4e-7abc-8def-012345678900/stream', '/nonsense/stream', '/nonsense/events']) {
      expect((await askAs(bench.rt, path)).status).toBe(404);
    }
    for (const bad of ['', '1', '1.', '1.x', '-1.2', '1.2.3', ' 1.2x', '1'.repeat(16) + '.1', '１.２']) {
      const header = await askAs(bench.rt, `/${id}/stream`, { headers: { 'last-event-id': encodeURI(bad) } });
      expect([bad, header.status, header.headers.get('content-type')]).toEqual([bad, 422, 'application/problem+json']);
      // The word of the docs: a generation is not the number of an attempt.
      expect(await header.text()).toContain('<generation>.<number>');
      expect((await askAs(bench.rt, `/${id}/stream?last_event_id=${encodeURIComponent(bad)}`)).status).toBe(422);
      expect((await askAs(bench.rt, `/${id}/events?after=${encodeURIComponent(bad)}`)).status).toBe(422);
    }
    expect((await askAs(bench.rt, `/${id}/stream`, { scopes: ['jobs:write'] })).status).toBe(403);
  });
});

const eventPage = z.object({
  items: z.array(z.object({ id: z.string(), event: z.string(), at: z.iso.datetime(), data: z.unknown() })),
  next_cursor: z.string().nullable(),
});

describe('the events of a job, polled', () => {
  async function poll(rt: Runtime, path: string, scopes?: Scope[]): Promise<z.infer<typeof eventPage>> {
    const response = await askAs(rt, path, scopes && { scopes });
    expect(response.status).toBe(200);
    return eventPage.parse(await response.json());
  }

  test('come in pages, each behind the one before, until a job that has ended has no more', async () => {
    const { bench, id } = await ran(2);
    const items: unknown[] = [];
    let pages = 0;
    for (let after: string | null = '0.0'; after !== null; pages += 1) {
      const page: z.infer<typeof eventPage> = await poll(bench.rt, `/${id}/events?limit=4&after=${after}`);
      items.push(...page.items.map((each) => [each.id, each.event, each.data]));
      after = page.next_cursor;
    }
    expect(items).toEqual(SAID.map(([event, data], at) => [IDS[at], event, data]));
    expect(pages).toBe(3);
  });

  test('say where to go on while more may come', async () => {
    const waiting = await ran(0);
    expect(await poll(waiting.bench.rt, `/${waiting.id}/events`)).toEqual({ items: [], next_cursor: '0.0' });
    const { bench, id } = await ran(1);
    expect((await poll(bench.rt, `/${id}/events`)).next_cursor).toBe('1.9');
    expect(await poll(bench.rt, `/${id}/events?after=1.9`)).toEqual({ items: [], next_cursor: '1.9' });
  });

  test('are left out where they are payload, and the page is short', async () => {
    const { bench, id } = await ran(2);
    const { items, next_cursor } = await poll(bench.rt, `/${id}/events?limit=8`, ['jobs:read']);
    expect(items.map((each) => [each.id, each.data])).toEqual([
      ['2.1', { percent: 20, note: null }],
      ['2.4', { percent: 50, note: null }],
      ['2.7', { percent: 90, note: null }],
    ]);
    expect(next_cursor).toBe('2.8');
  });

  test('of a stream that does not answer are 503', async () => {
    const { id } = await ran(2);
    const bench = benchOf([], silentStreams);
    const response = await askAs(bench.rt, `/${id}/events`);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
  });

  test('of a sensitive job are hidden once its payload has left', async () => {
    const secret = defineTask({ ...talking, name: 'test.secret', sensitive: true });
    const bench = benchOf([secret]);
    const { id } = await bench.enqueue({ task: secret.name, options: { max_retries: 0, result_ttl: 600 } });
    await bench.drain();
    expect((await poll(bench.rt, `/${id}/events`)).items).toHaveLength(9);
    ahead += 601_000;
    const left = await poll(bench.rt, `/${id}/events`);
    expect(left.items.every(({ event }) => event === 'progress')).toBe(true);
  });
});

describe('a running job', () => {
  const running = defineTask({
    name: 'test.running',
    queue: 'default',
    input: z.unknown(),
    async run(_input, job) {
      job.progress(40, 'as told');
      // Out of the way of the test’s clock, so that it still runs when it is looked at.
      await looked;
    },
  });
  let looked: Promise<unknown> = Promise.resolve();

  async function look(options: { scopes?: Scope[]; ports?: typeof silentStreams } = {}): Promise<unknown> {
    const gate = Promise.withResolvers<undefined>();
    looked = gate.promise;
    const bench = benchOf([running]);
    const { id } = await bench.enqueue({ task: running.name });
    const batch = bench.drain();
    let place: Place | undefined;
    while (place === undefined) {
      const page = await bench.rt.streams.read(id, { after: undefined, waitMs: 0, limit: 1 });
      if (page.events.length > 0) place = { generation: page.generation, seq: 1 };
    }
    const watcher = benchOf([], options.ports);
    const shown = z
      .looseObject({ state: z.string(), progress: z.int(), progress_note: z.string().nullable() })
      .parse(await (await askAs(watcher.rt, `/${id}`, options.scopes && { scopes: options.scopes })).json());
    gate.resolve(undefined);
    await batch;
    return [shown.state, shown.progress, shown.progress_note];
  }

  test('shows the progress it told last, before any heartbeat', async () => {
    expect(await look()).toEqual(['STARTED', 40, 'as told']);
  });

  test('hides its note from whoever may not see payloads', async () => {
    expect(await look({ scopes: ['jobs:read'] })).toEqual(['STARTED', 40, null]);
  });

  test('is shown as its row has it while its stream is silent', async () => {
    expect(await look({ ports: silentStreams })).toEqual(['STARTED', 0, null]);
  });

  test('that says nothing itself is not shown the progress of the attempt before', async () => {
    const { bench, id } = await ran(1);
    await bench.rt.db.run({
      name: 'test',
      sql: `UPDATE jobs SET state = 'STARTED', claim = 2, progress = 7, progress_note = 'of the row' WHERE id = ?1`,
      params: [id],
    });
    const body: unknown = await (await askAs(bench.rt, `/${id}`)).json();
    expect(body).toMatchObject({ state: 'STARTED', progress: 7, progress_note: 'of the row' });
  });

  test('is the only kind of job whose stream is asked', async () => {
    const { id } = await ran(2);
    let asked = 0;
    const bench = benchOf([], ({ streams }) => ({
      streams: {
        ...streams,
        latest: (of) => {
          asked += 1;
          return streams.latest(of);
        },
      },
    }));
    expect(await (await askAs(bench.rt, `/${id}`)).json()).toMatchObject({ state: 'SUCCESS', progress: 100 });
    expect((await askAs(bench.rt, '')).status).toBe(200);
    expect(asked).toBe(0);
  });
});

function silentStreams({ streams }: Runtime): Partial<Runtime> {
  const never = (): Promise<never> => new Promise(() => undefined);
  return { streams: { ...streams, read: never, latest: never } };
}
