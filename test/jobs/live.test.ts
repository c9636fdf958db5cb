import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { MAX_CHUNK_CHARS, MAX_LINE_CHARS, MAX_STREAM_BYTES, MAX_STREAM_EVENTS } from '../../src/core/limits.ts';
import type { StreamEvent, StreamPage } from '../../src/durable/job-stream.ts';
import { defineTask, type Job, type Task } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, START } from '../worker/bench.ts';
import { World, type Fate, type Port } from '../worker/world.ts';

beforeEach(emptyDatabase);

function speaking(run: (job: Job) => unknown, more: Partial<Task> = {}): Task {
  return defineTask({
    name: 'test.speaking',
    queue: 'default',
    input: z.unknown(),
    retry: { max: 1, delays: { kind: 'delays', seconds: [5] } },
    ...more,
    run: async (_input, job) => ((await run(job)) ?? null) as unknown,
  });
}

function saying(line: string): (job: Job) => void {
  return (job) => {
    job.log(line);
  };
}

interface Ran {
  readonly world: World;
  readonly bench: Bench;
  readonly id: string;
  /** Which ports were called, in order. */
  readonly calls: readonly Port[];
  readonly page: StreamPage;
  readonly events: readonly StreamEvent[];
}

/** Runs one job of the task to the end of its attempt; `fate` is what becomes of the n-th call of its stream. */
async function runOne(
  task: Task,
  { fate = () => 'answered', options = {} }: { fate?: (n: number) => Fate; options?: Record<string, number> } = {},
): Promise<Ran> {
  const world = new World();
  const calls: Port[] = [];
  const fault = (port: Port): Fate => {
    calls.push(port);
    return port === 'streams' ? fate(streamCalls(calls)) : 'answered';
  };
  const bench = world.isolate({ tasks: [task], fault });
  const { id } = await world.run(bench.enqueue({ task: task.name, options }));
  calls.length = 0;
  await world.deliver(bench);
  const page = await world.isolate().rt.streams.read(id, { after: undefined, waitMs: 0, limit: 20_000 });
  return { world, bench, id, calls, page, events: page.events };
}

function streamCalls(calls: readonly Port[]): number {
  return calls.filter((port) => port === 'streams').length;
}

function lines(events: readonly StreamEvent[]): readonly string[] {
  return events.flatMap((each) => (each.event === 'log' ? [each.data.line] : []));
}

function text(events: readonly StreamEvent[]): string {
  return events.map((each) => (each.event === 'chunk' ? each.data.text : '')).join('');
}

describe('what a handler says', () => {
  test('is with its stream, all of it and in order, before its end is written', async () => {
    const { bench, id, calls, page } = await runOne(
      speaking(async (job) => {
        job.progress(10, 'begun');
        job.log('one');
        await job.clock.sleep(1_000);
        job.chunk('Hel');
        job.chunk('lo');
        job.log('two');
        job.progress(100);
      }),
    );
    expect(page).toEqual({
      generation: 1,
      events: [
        { seq: 1, at: START, event: 'progress', data: { percent: 10, note: 'begun' } },
        { seq: 2, at: START, event: 'log', data: { line: 'one' } },
        { seq: 3, at: START + 1_000, event: 'chunk', data: { text: 'Hello' } },
        { seq: 4, at: START + 1_000, event: 'log', data: { line: 'two' } },
        { seq: 5, at: START + 1_000, event: 'progress', data: { percent: 100, note: null } },
      ],
    });
    expect(calls.lastIndexOf('streams')).toBeLessThan(calls.lastIndexOf('database'));
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });

  test('goes out five times a second at most, however often it is said', async () => {
    const { calls, events } = await runOne(
      speaking(async (job) => {
        for (let step = 1; step <= 1_000; step += 1) {
          job.log(`line ${String(step)}`);
          job.progress(step / 10);
          await job.clock.sleep(1);
        }
      }),
    );
    expect(streamCalls(calls)).toBeLessThanOrEqual(7);
    expect(lines(events)).toHaveLength(1_000);
  });

  test('of progress in one breath only the last is kept', async () => {
    const { events, calls } = await runOne(
      speaking((job) => {
        for (let percent = 0; percent <= 90; percent += 1) job.progress(percent);
      }),
    );
    expect([events.map(({ data }) => data), streamCalls(calls)]).toEqual([[{ percent: 90, note: null }], 1]);
  });

  test('costs no call where it says nothing', async () => {
    const { calls } = await runOne(speaking(() => 'done'));
    expect(streamCalls(calls)).toBe(0);
  });

  test('is kept an hour, or as long as the result where that is shorter, and a minute in any case', async () => {
    const ttlOf = async (options: Record<string, number>): Promise<number> => {
      let ttlMs = 0;
      const bench = new Bench({
        tasks: [speaking(saying('x'))],
        ports: ({ streams }) => ({
          streams: {
            ...streams,
            append: (id, batch) => {
              ({ ttlMs } = batch);
              return streams.append(id, batch);
            },
          },
        }),
      });
      await bench.enqueue({ task: 'test.speaking', options });
      await bench.drain();
      return ttlMs;
    };
    expect(await ttlOf({ result_ttl: 86_400 })).toBe(3_600_000);
    expect(await ttlOf({ result_ttl: 600 })).toBe(600_000);
    expect(await ttlOf({ result_ttl: 1 })).toBe(60_000);
  });
});

describe('a retry', () => {
  test('begins anew: nothing of the attempt before is left', async () => {
    const { world, bench, id, events } = await runOne(
      speaking((job) => {
        job.log(`attempt ${String(job.attempt)}`);
        if (job.attempt === 1) throw new Error('once more');
      }),
    );
    expect(lines(events)).toEqual(['attempt 1']);
    await world.pass(6_000);
    await world.deliver(bench);
    const page = await bench.rt.streams.read(id, { after: { generation: 1, seq: 1 }, waitMs: 0, limit: 10 });
    expect([page.generation, lines(page.events)]).toEqual([2, ['attempt 2']]);
  });
});

describe('a stream that does not answer', () => {
  const talkative = speaking(async (job) => {
    job.log('one');
    await job.clock.sleep(3_000);
    job.log('two');
    return 'done';
  });

  test.each(['refused', 'silent'] as const)(
    '(%s) fails no job, and holds up its end for two seconds at most',
    async (fate) => {
      const { bench, id, events } = await runOne(talkative, { fate: () => fate });
      const job = await bench.job(id);
      expect([job.state, job.result, events]).toEqual(['SUCCESS', 'done', []]);
      expect((job.finished_at ?? Infinity) - START).toBeLessThanOrEqual(3_000 + 2_000 + 10);
    },
  );

  test.each(['refused', 'silent', 'done, refused', 'done, silent'] as const)(
    '(%s) for a while is told everything later, once and in order',
    async (fate) => {
      const { events } = await runOne(talkative, { fate: (n) => (n <= 2 ? fate : 'answered') });
      expect(events.map(({ seq }) => seq)).toEqual([1, 2]);
      expect(lines(events)).toEqual(['one', 'two']);
    },
  );

  test('but has heard a word is told no other in its place', async () => {
    const pieces = speaking(async (job) => {
      job.chunk('Hel');
      await job.clock.sleep(100);
      job.chunk('lo');
    });
    const { events } = await runOne(pieces, { fate: (n) => (n === 1 ? 'done, refused' : 'answered') });
    expect(text(events)).toBe('Hello');
  });

  test('for a moment at the end is tried again, and nothing is held up longer', async () => {
    const { bench, id, events } = await runOne(talkative, { fate: (n) => (n === 2 ? 'refused' : 'answered') });
    expect(lines(events)).toEqual(['one', 'two']);
    expect((await bench.job(id)).finished_at).toBeLessThanOrEqual(START + 3_000 + 510);
  });
});

describe('a handler whose attempt has ended', () => {
  test('past its hard limit says nothing more, and enqueues nothing more', async () => {
    const refused: unknown[] = [];
    const running = speaking(
      async (job) => {
        job.progress(10);
        await job.clock.sleep(3_000);
        job.log('too late');
        job.progress(99, 'too late');
        await job.enqueue(running, null).catch((error: unknown) => void refused.push(String(error)));
      },
      { timeLimit: { softSeconds: 1, hardSeconds: 2 }, retry: { max: 0, delays: { kind: 'delays', seconds: [] } } },
    );
    const { world, bench, id } = await runOne(running);
    await world.pass(5_000);
    const { events } = await bench.rt.streams.read(id, { after: undefined, waitMs: 0, limit: 10 });
    expect(events).toMatchObject([{ event: 'progress', data: { percent: 10 } }]);
    const job = await bench.job(id);
    expect([job.state, job.error?.code, job.progress, job.progress_note]).toEqual(['FAILURE', 'time_limit', 10, null]);
    expect(refused).toEqual(['Error: The attempt has ended: its handler may enqueue nothing more.']);
  });

  test('has hooks that still may enqueue', async () => {
    const hooked: string[] = [];
    const other = defineTask({ name: 'test.other', queue: 'default', input: z.unknown(), run: () => null });
    await runOne(
      speaking(saying('x'), {
        onSuccess: async (_result, job) => {
          hooked.push((await job.enqueue(other, null)).id);
        },
      }),
    );
    expect(hooked).toHaveLength(1);
  });

  test('because another attempt has its job, says nothing more', async () => {
    const world = new World();
    const slow = speaking(async (job) => {
      if (job.attempt === 1) job.log('mine');
      await job.clock.sleep(job.attempt === 1 ? 50_000 : 0);
      job.log(`end of attempt ${String(job.attempt)}`);
    });
    const bench = world.isolate({ tasks: [slow] });
    const { id } = await world.run(bench.enqueue({ task: slow.name }));
    const first = world.deliver(bench);
    // Its row is another attempt's from the first heartbeat on.
    await world.pass(1_000);
    await bench.rt.db.run({ name: 'test', sql: `UPDATE jobs SET claim = claim + 1 WHERE id = ?1`, params: [id] });
    await first;
    const { events } = await bench.rt.streams.read(id, { after: undefined, waitMs: 0, limit: 10 });
    expect(lines(events)).toEqual(['mine']);
  });

  test('or whose stream has heard a later attempt, is told so and makes no more calls', async () => {
    const other = new World().isolate();
    const events: readonly StreamEvent[] = [{ seq: 1, at: START, event: 'log', data: { line: 'later' } }];
    const { calls, page } = await runOne(
      speaking(async (job) => {
        await other.rt.streams.append(job.id, { generation: 7, events, ttlMs: 60_000 });
        for (let step = 0; step < 10; step += 1) {
          job.log('of old');
          await job.clock.sleep(1_000);
        }
      }),
    );
    expect([page.generation, lines(page.events), streamCalls(calls)]).toEqual([7, ['later'], 1]);
  });
});

describe('too much of it', () => {
  test('a long line is cut, and a long chunk comes in pieces', async () => {
    const long = 'ż'.repeat(MAX_CHUNK_CHARS * 2 + 5);
    const { events } = await runOne(
      speaking((job) => {
        job.log(long);
        job.chunk(long);
      }),
    );
    expect(lines(events).map((line) => [line.length, line.at(-1)])).toEqual([[MAX_LINE_CHARS, '…']]);
    expect(text(events)).toBe(long);
    expect(Math.max(...events.map(({ data }) => JSON.stringify(data).length))).toBeLessThan(MAX_CHUNK_CHARS + 20);
  });

  test.each([
    ['bytes', 'é'.repeat(2_000), MAX_STREAM_BYTES / 4_000],
    ['events', 'x', MAX_STREAM_EVENTS],
  ])('is dropped past so many %s, says so once, and progress goes on', async (_what, line, most) => {
    const { bench, id, events } = await runOne(
      speaking(async (job) => {
        for (let n = 0; n < most * 1.2; n += 1) {
          job.log(line);
          if (n % 500 === 0) await job.clock.sleep(1_000);
        }
        job.progress(70);
        await job.clock.sleep(1_000);
        job.chunk('lost, too');
        job.progress(80);
      }),
    );
    const kept = lines(events);
    expect(kept.filter((each) => each === line)).toHaveLength(Math.floor(most));
    expect(kept.filter((each) => each !== line)).toEqual([expect.stringContaining('left out')]);
    expect(text(events)).toBe('');
    expect(events.slice(-2).map(({ data }) => data)).toEqual([
      { percent: 70, note: null },
      { percent: 80, note: null },
    ]);
    expect((await bench.job(id)).state).toBe('SUCCESS');
  });
});
