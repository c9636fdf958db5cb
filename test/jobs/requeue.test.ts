import { env } from 'cloudflare:workers';
import { beforeEach, expect, test } from 'vitest';
import { requeue } from '../../src/jobs/requeue.ts';
import { Bench, emptyDatabase } from '../worker/bench.ts';

beforeEach(emptyDatabase);

async function deadLetter(bench: Bench): Promise<string> {
  await bench.enqueue({ task: 'debug.fail', options: { max_retries: 0 } });
  await bench.drain();
  const letter = await env.DB.prepare(`SELECT id FROM dead_letters`).first<{ id: string }>();
  return letter?.id ?? '';
}

test('two requests of one moment to requeue a letter make one run, and both are told which', async () => {
  const bench = new Bench();
  const id = await deadLetter(bench);
  // Both have read the letter before either writes.
  const [one, two] = await Promise.all([requeue(bench.rt, id, undefined), requeue(bench.rt, id, undefined)]);
  expect(one).toEqual(two);
  expect(bench.queues.take()).toHaveLength(1);
  expect(await env.DB.prepare(`SELECT count(*) AS n FROM jobs WHERE source = 'requeue'`).first()).toEqual({ n: 1 });
});

test('a letter requeued again later runs again, and a refused message is owed', async () => {
  const bench = new Bench();
  const id = await deadLetter(bench);
  const first = await requeue(bench.rt, id, { times: 0 });
  bench.queues.fault = 'refuse';
  const second = await requeue(bench.rt, id, { times: 0 });
  expect(first).not.toEqual(second);
  const owed = await env.DB.prepare(`SELECT id FROM jobs WHERE sent_at IS NULL AND finished_at IS NULL`).all();
  expect(owed.results).toEqual([{ id: second?.kind === 'requeued' ? second.jobId : '' }]);
});
