import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import type { Env } from '../../src/env.ts';
import type { JobStream, Place, StreamEvent, StreamPage } from '../../src/durable/job-stream.ts';
import { HeldClock, settled, START } from '../worker/bench.ts';

const TTL_MS = 60_000;

/** A stream of this name, and the clock it goes by. */
async function streamOf(name: string): Promise<{ stub: DurableObjectStub<JobStream>; clock: HeldClock }> {
  const stub = (env as unknown as Env).JOB_STREAM.getByName(name);
  const clock = new HeldClock(START);
  await runInDurableObject(stub, (instance) => {
    instance.clock = clock;
  });
  return { stub, clock };
}

function log(seq: number, line = `line ${String(seq)}`): StreamEvent {
  return { seq, at: START + seq, event: 'log', data: { line } };
}

function progress(seq: number, percent: number): StreamEvent {
  return { seq, at: START + seq, event: 'progress', data: { percent, note: null } };
}

function batch(generation: number, ...events: StreamEvent[]): Parameters<JobStream['append']>[0] {
  return { generation, events, ttlMs: TTL_MS };
}

function look(after?: Place, waitMs = 0, limit = 100): Parameters<JobStream['read']>[0] {
  return { after, waitMs, limit };
}

function seqs({ events }: StreamPage): readonly number[] {
  return events.map(({ seq }) => seq);
}

test('what an attempt says is read in order, in pages, without a gap', async () => {
  const { stub } = await streamOf('order');
  const chunk: StreamEvent = { seq: 3, at: START, event: 'chunk', data: { text: 'é"\n\u0000€' } };
  expect(await stub.append(batch(1, log(1), progress(2, 10)))).toBe('kept');
  expect(await stub.append(batch(1, chunk, log(4)))).toBe('kept');
  expect(await stub.read(look())).toEqual({ generation: 1, events: [log(1), progress(2, 10), chunk, log(4)] });
  expect(seqs(await stub.read(look(undefined, 0, 2)))).toEqual([1, 2]);
  expect(seqs(await stub.read(look({ generation: 1, seq: 2 }, 0, 2)))).toEqual([3, 4]);
  expect(seqs(await stub.read(look({ generation: 1, seq: 4 })))).toEqual([]);
});

test('a repetition after a lost answer adds nothing and changes nothing, however late it comes', async () => {
  const { stub } = await streamOf('repeated');
  await stub.append(batch(1, log(1), progress(2, 10)));
  await stub.append(batch(1, log(1), progress(2, 10), progress(3, 20)));
  await stub.append(batch(1, log(1, 'another'), progress(2, 5)));
  expect(await stub.read(look())).toEqual({ generation: 1, events: [log(1), progress(2, 10), progress(3, 20)] });
  expect(await stub.latest()).toEqual({ generation: 1, percent: 20, note: null });
});

test('the first words of a later attempt end those of the one before, which is refused from then on', async () => {
  const { stub } = await streamOf('generations');
  await stub.append(batch(1, log(1), progress(2, 80)));
  expect(await stub.append(batch(3, log(1, 'anew')))).toBe('kept');
  expect(await stub.append(batch(1, log(3), progress(4, 90)))).toBe('stale');
  const anew = { generation: 3, events: [log(1, 'anew')] };
  expect(await stub.read(look())).toEqual(anew);
  expect(await stub.read(look({ generation: 1, seq: 2 }))).toEqual(anew);
  expect(await stub.read(look({ generation: 2, seq: 9 }))).toEqual(anew);
  expect(seqs(await stub.read(look({ generation: 4, seq: 0 })))).toEqual([]);
  expect(await stub.latest()).toBeUndefined();
});

test('whoever waits is answered by the next event, and misses none', async () => {
  const { stub, clock } = await streamOf('waiting');
  await stub.append(batch(1, log(1)));
  const waiting = [
    stub.read(look({ generation: 1, seq: 1 }, 10_000)),
    stub.read(look({ generation: 1, seq: 1 }, 10_000)),
  ];
  while (clock.sleeping < 2) await settled();
  await stub.append(batch(1, log(2), log(3)));
  expect((await Promise.all(waiting)).map(seqs)).toEqual([
    [2, 3],
    [2, 3],
  ]);
  expect(clock.sleeping).toBe(0);
});

test('whoever waits in vain is answered when the time is over', async () => {
  const { stub, clock } = await streamOf('in-vain');
  const waiting = stub.read(look(undefined, 10_000));
  while (clock.sleeping < 1) await settled();
  await runInDurableObject(stub, () => clock.advance(10_000));
  expect(await waiting).toEqual({ generation: 0, events: [] });
});

test('events and the number of the attempt survive the object being evicted', async () => {
  const { stub } = await streamOf('evicted');
  await stub.append({ ...batch(2, log(1), progress(2, 30)), ttlMs: 100 * 365 * 86_400_000 });
  await evictDurableObject(stub);
  expect(seqs(await stub.read(look()))).toEqual([1, 2]);
  expect(await stub.latest()).toMatchObject({ generation: 2, percent: 30 });
  expect(await stub.append(batch(1, log(3)))).toBe('stale');
});

test('it is forgotten a while after its last event: for readers at once, and by the alarm for good', async () => {
  const { stub, clock } = await streamOf('alarm');
  await stub.append(batch(1, progress(1, 10)));
  await clock.advance(TTL_MS - 1);
  await stub.append(batch(1, progress(2, 20)));
  await clock.advance(1);
  // Too early by now: it comes back.
  await runDurableObjectAlarm(stub);
  expect(seqs(await stub.read(look()))).toEqual([1, 2]);
  await clock.advance(TTL_MS - 1);
  expect(seqs(await stub.read(look()))).toEqual([]);
  expect(await stub.latest()).toBeUndefined();
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await runDurableObjectAlarm(stub)).toBe(false);
  expect(await tablesOf(stub)).toEqual([]);
});

test('an attempt that goes on after it was forgotten begins anew', async () => {
  const { stub, clock } = await streamOf('forgotten');
  await stub.append(batch(1, log(1)));
  await clock.advance(TTL_MS);
  await stub.append(batch(1, log(2)));
  expect(seqs(await stub.read(look()))).toEqual([2]);
});

test('being asked about a job that never said a word leaves nothing behind', async () => {
  const { stub } = await streamOf('silent');
  expect(await stub.latest()).toBeUndefined();
  expect(await stub.read(look())).toEqual({ generation: 0, events: [] });
  expect(await tablesOf(stub)).toEqual([]);
});

async function tablesOf(stub: DurableObjectStub<JobStream>): Promise<readonly unknown[]> {
  return runInDurableObject(stub, (_instance, state) =>
    state.storage.sql.exec(`SELECT name FROM sqlite_master WHERE name IN ('head', 'events')`).toArray(),
  );
}
