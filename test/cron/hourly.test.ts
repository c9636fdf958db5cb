import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { tick } from '../../src/cron/tick.ts';
import { findJob } from '../../src/jobs/inspect.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const GITHUB = { GITHUB_TOKEN: 't', GITHUB_HOOKS: 'repos/acme/site/hooks/1', GITHUB_BASE_URL: 'http://github.test' };
const MAILGUN = { MAILGUN_API_KEY: 'k', MAILGUN_DOMAINS: 'mg.example.com', MAILGUN_BASE_URL: 'http://mailgun.test' };

beforeEach(emptyDatabase);
afterEach(() => {
  vi.restoreAllMocks();
});

function benchOf(settings: object, clock = new FastClock(START + 10 * MINUTE)): Bench {
  const bench = new Bench({ clock });
  Object.assign(bench.rt, { env: { ...bench.rt.env, ...settings } });
  return bench;
}

function sent(bench: Bench): readonly string[] {
  return bench.queues.take().map(({ envelope }) => envelope.task);
}

test('each task is one job an hour, however often the tick comes', async () => {
  const clock = new FastClock(START + 10 * MINUTE);
  const bench = benchOf({ ...GITHUB, ...MAILGUN }, clock);
  const hours = async (): Promise<unknown> => {
    const sql = `SELECT count(*) AS jobs, count(DISTINCT task) AS tasks FROM jobs`;
    return (await bench.db.run({ name: 'test', sql, params: [] })).rows[0];
  };
  for (let at = 0; at < 3; at += 1) await tick(bench.rt, undefined);
  expect(sent(bench)).toEqual(['recover_github_deliveries', 'reconcile_mailgun_events']);
  clock.set(START + HOUR - 1);
  await tick(bench.rt, undefined);
  expect(await hours()).toEqual({ jobs: 2, tasks: 2 });
  // The hours between are made good by the next.
  clock.set(START + 3 * HOUR);
  await tick(bench.rt, undefined);
  expect(await hours()).toEqual({ jobs: 4, tasks: 2 });
});

test('two ticks of one hour at once, in isolates of their own, make one job', async () => {
  const [one, other] = [benchOf(GITHUB), benchOf(GITHUB)];
  await Promise.all([tick(one.rt, undefined), tick(other.rt, undefined)]);
  const messages = [...one.queues.take(), ...other.queues.take()];
  expect(messages).toHaveLength(1);
  const id = messages[0]?.envelope.id ?? '';
  expect(await findJob(one.rt, id)).toMatchObject({ source: 'hourly', queue: 'maintenance', state: 'PENDING' });
});

test('a tick whose mark was lost makes no second job', async () => {
  const bench = benchOf(GITHUB);
  bench.db.fault = (names) => (names === 'mark' && marked(bench) ? { when: 'before', error: outage() } : undefined);
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  await tick(bench.rt, undefined);
  bench.db.fault = () => undefined;
  await tick(bench.rt, undefined);
  expect(sent(bench)).toEqual(['recover_github_deliveries']);
});

// Reading the mark comes first and must go well for there to be a job.
function marked(bench: Bench): boolean {
  return bench.statements('accept') > 0;
}

test('a task is run only where all its settings are there', async () => {
  for (const settings of [
    {},
    { GITHUB_TOKEN: 't' },
    { ...GITHUB, GITHUB_HOOKS: ' ' },
    { MAILGUN_DOMAINS: 'a.example' },
  ]) {
    const bench = benchOf(settings);
    await tick(bench.rt, undefined);
    expect(sent(bench)).toEqual([]);
  }
  const bench = benchOf(MAILGUN);
  await tick(bench.rt, undefined);
  expect(sent(bench)).toEqual(['reconcile_mailgun_events']);
  // One that is set up in the middle of an hour need not wait for the next.
  Object.assign(bench.rt, { env: { ...bench.rt.env, ...GITHUB } });
  await tick(bench.rt, undefined);
  expect(sent(bench)).toEqual(['recover_github_deliveries']);
});

test('once it is done for the hour it costs a tick one read, and nothing at all where nothing is set', async () => {
  const bench = benchOf(GITHUB);
  await tick(bench.rt, undefined);
  bench.counts.clear();
  await tick(bench.rt, undefined);
  const done = bench.statements('mark', 'accept');
  const bare = benchOf({});
  await tick(bare.rt, undefined);
  expect([done - bare.statements('mark', 'accept'), bench.statements('accept')]).toEqual([1, 0]);
});

test('what it cannot do keeps the rest of the tick from nothing, and is done by the next', async () => {
  const bench = benchOf(GITHUB);
  const errors = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  bench.db.fault = (names) => (names === 'accept' ? { when: 'before', error: outage() } : undefined);
  bench.queues.fault = 'refuse';
  await tick(bench.rt, undefined);
  expect(errors.mock.calls.flat().join()).toContain('"part":"hourly"');
  expect(bench.statements('retention')).toBeGreaterThan(0);
  bench.db.fault = () => undefined;
  bench.queues.fault = 'none';
  await tick(bench.rt, undefined);
  expect(sent(bench)).toEqual(['recover_github_deliveries']);
});
