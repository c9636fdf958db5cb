import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, test } from 'vitest';
import type { Env } from '../../src/env.ts';
import type { ReplayGuard } from '../../src/durable/replay-guard.ts';

// Ahead of the real clock, by which alarms fire.
const NOW = Date.UTC(2040, 0, 2, 12);

function guard(name: string): DurableObjectStub<ReplayGuard> {
  return (env as unknown as Env).REPLAY_GUARD.getByName(name);
}

function claim(token: string, jobId: string, digest = '', now = NOW): Parameters<ReplayGuard['claim']>[0] {
  return { token, jobId, digest, ttlMs: 60_000, now };
}

test('the first claim of a token is fresh; every other is told whose it is', async () => {
  const stub = guard('first');
  expect(await stub.claim(claim('t', 'job-1'))).toEqual({ verdict: 'fresh', jobId: 'job-1', claimedAt: NOW });
  expect(await stub.claim(claim('t', 'job-2', '', NOW + 5))).toEqual({
    verdict: 'duplicate',
    jobId: 'job-1',
    claimedAt: NOW,
  });
  expect(await stub.claim(claim('u', 'job-2'))).toMatchObject({ verdict: 'fresh', jobId: 'job-2' });
});

test('of 50 claims at once exactly one is fresh, and all name its job', async () => {
  const stub = guard('many');
  const answers = await Promise.all(Array.from({ length: 50 }, (_, at) => stub.claim(claim('t', `job-${String(at)}`))));
  expect(answers.filter(({ verdict }) => verdict === 'fresh')).toHaveLength(1);
  expect(new Set(answers.map(({ jobId }) => jobId)).size).toBe(1);
});

test('the same token with another digest is a conflict', async () => {
  const stub = guard('conflict');
  await stub.claim(claim('t', 'job-1', 'a'));
  expect(await stub.claim(claim('t', 'job-2', 'b'))).toMatchObject({ verdict: 'conflict', jobId: 'job-1' });
});

test('tokens survive the object being evicted', async () => {
  await guard('evicted').claim(claim('t', 'job-1'));
  await evictDurableObject(guard('evicted'));
  expect(await guard('evicted').claim(claim('t', 'job-2'))).toMatchObject({ verdict: 'duplicate', jobId: 'job-1' });
});

test('a token is free again after its time', async () => {
  const stub = guard('expiry');
  await stub.claim(claim('t', 'job-1'));
  expect(await stub.claim(claim('t', 'job-2', '', NOW + 60_000))).toMatchObject({ verdict: 'fresh', jobId: 'job-2' });
});

test('a token is extended by a claim that asks for it, never shortened, and stays the job it is', async () => {
  const stub = guard('extend');
  await stub.claim(claim('t', 'job-1'));
  const later = { ...claim('t', 'job-2', '', NOW + 30_000), extend: true };
  expect(await stub.claim(later)).toEqual({ verdict: 'duplicate', jobId: 'job-1', claimedAt: NOW });
  await stub.claim({ ...later, ttlMs: 1 });
  expect(await stub.claim(claim('t', 'job-3', '', NOW + 89_999))).toMatchObject({ jobId: 'job-1' });
  expect(await stub.claim(claim('t', 'job-3', '', NOW + 90_000))).toMatchObject({ verdict: 'fresh' });
});

test('of many moves of a token from one job exactly one is made, and all are told of it', async () => {
  const stub = guard('move');
  await stub.claim(claim('t', 'job-1'));
  const move = (from: string, to: string, now = NOW + 5): Parameters<ReplayGuard['move']>[0] => ({
    token: 't',
    from,
    to,
    ttlMs: 60_000,
    now,
  });
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, at) => stub.move(move('job-1', `next-${String(at)}`))),
  );
  expect(answers.filter(({ moved }) => moved)).toHaveLength(1);
  expect(new Set(answers.map(({ jobId, claimedAt }) => `${jobId} ${String(claimedAt)}`)).size).toBe(1);
  const winner = answers[0]?.jobId ?? '';
  expect(await stub.claim(claim('t', 'job-9', '', NOW + 60_000))).toMatchObject({ jobId: winner, claimedAt: NOW + 5 });
  // Its answer was lost: the same move again is the same move.
  expect(await stub.move(move('job-1', winner, NOW + 9))).toEqual({ moved: true, jobId: winner, claimedAt: NOW + 5 });
  // What names nothing any more is free.
  expect(await stub.move(move('job-1', 'job-8', NOW + 60_005))).toMatchObject({ moved: true, jobId: 'job-8' });
});

test('a token that lives for years does not keep those beside it from being forgotten', async () => {
  const stub = guard('years');
  const alarm = (): Promise<number | null> => runInDurableObject(stub, (_instance, state) => state.storage.getAlarm());
  await stub.claim({ ...claim('long', 'job-1'), ttlMs: 20 * 365 * 86_400_000 });
  await stub.claim(claim('short', 'job-2'));
  expect(await alarm()).toBe(NOW + 3_600_000);
});

test('the alarm forgets what has expired, and nothing else', async () => {
  const stub = guard('alarm');
  await stub.claim(claim('live', 'job-1'));
  await stub.claim(claim('dead', 'job-2', '', Date.UTC(2020, 0, 1)));
  await runDurableObjectAlarm(stub);
  const tokens = await runInDurableObject(stub, (_instance, state) => [
    ...state.storage.sql.exec(`SELECT token FROM tokens`).toArray(),
  ]);
  expect(tokens).toEqual([{ token: 'live' }]);
});

test('it says which of many tokens are claimed and by whom, and claims none by being asked', async () => {
  const stub = guard('find');
  await stub.claim(claim('a', 'job-1'));
  await stub.claim(claim('b', 'job-2', '', NOW + 5));
  const asked = ['a', 'b', 'unknown', "' OR 1 --"];
  expect(await stub.find(asked, NOW + 10)).toEqual([
    { token: 'a', jobId: 'job-1', claimedAt: NOW },
    { token: 'b', jobId: 'job-2', claimedAt: NOW + 5 },
  ]);
  expect(await stub.find(asked, NOW + 60_000)).toEqual([{ token: 'b', jobId: 'job-2', claimedAt: NOW + 5 }]);
  expect(await stub.find([], NOW)).toEqual([]);
  expect(await stub.claim(claim('unknown', 'job-3'))).toMatchObject({ verdict: 'fresh' });
});
