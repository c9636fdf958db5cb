import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { countEffects, readEffects } from '../../src/store/debug-effects.ts';
import { Bench, emptyDatabase } from '../worker/bench.ts';

const URL = 'http://127.0.0.1:9/effects';

beforeEach(emptyDatabase);
afterEach(() => {
  vi.restoreAllMocks();
});

test('debug.effect says each run where DEBUG_EFFECTS_URL is, before it writes its row', async () => {
  const bench = countedOutside();
  const rowsThen: number[] = [];
  const fetched = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => {
    rowsThen.push(await rows(bench));
    return new Response(null, { status: 204 });
  });
  const { id } = await bench.enqueue({ task: 'debug.effect', input: { key: 'one' } });
  await bench.drain();
  expect(fetched.mock.calls.map(([url, init]) => [url, init?.method, init?.body])).toEqual([
    [URL, 'POST', JSON.stringify({ key: 'one', job_id: id, attempt: 1 })],
  ]);
  expect(rowsThen).toEqual([0]);
  expect(await rows(bench)).toBe(1);
});

test('what is not counted outside is not written either: the attempt has failed', async () => {
  const bench = countedOutside();
  vi.spyOn(globalThis, 'fetch').mockResolvedValue(new Response('full', { status: 507 }));
  const { id } = await bench.enqueue({ task: 'debug.effect', input: { key: 'one' } });
  await bench.drain();
  expect(await bench.job(id)).toMatchObject({ state: 'RETRY', error: { message: `${URL} answers 507.` } });
  expect(await rows(bench)).toBe(0);
});

test('without the setting nobody outside is told', async () => {
  const bench = new Bench();
  const fetched = vi.spyOn(globalThis, 'fetch');
  await bench.enqueue({ task: 'debug.effect', input: { key: 'one' } });
  await bench.drain();
  expect(fetched).not.toHaveBeenCalled();
  expect(await rows(bench)).toBe(1);
});

function countedOutside(): Bench {
  const bench = new Bench();
  Object.assign(bench.rt, { env: { ...bench.rt.env, DEBUG_EFFECTS_URL: URL } });
  return bench;
}

async function rows(bench: Bench): Promise<number> {
  return readEffects((await bench.db.run(countEffects(''))).rows).total;
}
