import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { newId } from '../../src/core/ids.ts';
import { githubDeliveryToken } from '../../src/providers/identity.ts';
import { FakeGithub } from '../fakes/github.ts';
import { emptyDatabase, outage } from '../worker/bench.ts';
import { fromGithub } from '../worker/senders.ts';
import { outside, resultOf, type Outside } from '../worker/recovery.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const HOOK = 'repos/acme/site/hooks/1';
const OTHER = 'orgs/acme/hooks/9';
const TASK = 'recover_github_deliveries';

beforeEach(emptyDatabase);
afterEach(() => {
  vi.restoreAllMocks();
});

interface World extends Outside {
  readonly github: FakeGithub;
  /** Sends an event to our door, as GitHub does. */
  deliver(guid: string, body?: string): Promise<Response>;
  ago(milliseconds: number): number;
}

function world(hooks = [HOOK]): World {
  const github = new FakeGithub(HOOK, OTHER);
  const settings = {
    GITHUB_TOKEN: github.token,
    GITHUB_HOOKS: hooks.join(', '),
    GITHUB_BASE_URL: 'http://github.test',
  };
  const there = outside(settings, (request) => github.handle(request));
  const deliver = async (guid: string, body = JSON.stringify({ ref: 'refs/heads/main', guid })): Promise<Response> => {
    const request = await fromGithub(body, 'push', { id: guid });
    return there.knock(request);
  };
  github.now = () => there.clock.now();
  github.send = async (guid) => (await deliver(guid)).status;
  return { ...there, github, deliver, ago: (milliseconds) => there.clock.now() - milliseconds };
}

// The replay guard lives on from test to test.
let made = 0;
function guid(): string {
  made += 1;
  return `${crypto.randomUUID().slice(0, 24)}${String(made).padStart(12, '0')}`;
}

/** Claims the tokens of deliveries for one job that is there, as if each had been accepted. */
async function accept({ bench }: World, guids: readonly string[]): Promise<void> {
  const { id } = await bench.enqueue({ task: 'debug_task' });
  await Promise.all(
    guids.map((each) => {
      const now = bench.rt.clock.now();
      const { token, ttlMs } = githubDeliveryToken(each);
      return bench.rt.replay.claim('github', { token, jobId: id, digest: '', ttlMs, now });
    }),
  );
}

test('what never came is asked for, comes, is one job, and its row goes from missed to recovered', async () => {
  const there = world();
  const [lost, taken] = [guid(), guid()];
  await there.deliver(taken);
  there.github.sent(HOOK, { guid: taken, at: there.ago(50 * MINUTE), statusCode: 504 });
  there.github.sent(HOOK, { guid: lost, at: there.ago(40 * MINUTE) });
  expect(resultOf(await there.run(TASK))).toMatchObject({
    hooks: [{ hook: HOOK, complete: true, looked_at: 2, missed: 1, asked: 1, recovered: 0, gave_up: 0 }],
    totals: { looked_at: 2, missed: 1, asked: 1, refused: 0, recovered: 0, gave_up: 0 },
  });
  await there.github.settled();
  // What GitHub was answered the first time says nothing: that one is a job.
  expect(there.github.asked).toEqual([lost]);
  expect(await there.count('process_webhook')).toBe(2);
  const first = (await there.deliveries()).filter(({ event_id: id }) => id === lost);
  expect(first.map(({ verdict, job_id: id, bytes }) => [verdict, id === null, bytes])).toEqual([
    ['missed', true, 0],
    ['accepted', false, expect.any(Number)],
  ]);

  there.clock.move(HOUR);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 0, asked: 0, recovered: 1 } });
  const [row, accepted] = (await there.deliveries()).filter(({ event_id: id }) => id === lost);
  expect([row?.verdict, row?.job_id]).toEqual(['recovered', accepted?.job_id]);
  expect(there.github.asked).toEqual([lost]);

  expect(resultOf(await there.run(TASK))).toMatchObject({
    totals: { looked_at: 2, missed: 0, asked: 0, recovered: 0 },
  });
  expect(await there.count('process_webhook')).toBe(2);
});

test('nothing is asked for that is a ping, may still be on its way, or is too old for GitHub to send again', async () => {
  const there = world();
  const [onTime, justInTime] = [guid(), guid()];
  const sent: [string, number, string?][] = [
    [guid(), 2 * DAY + HOUR, 'ping'],
    [guid(), 3 * DAY + 1_000],
    [justInTime, 3 * DAY - MINUTE],
    [onTime, 5 * MINUTE + 1_000],
    [guid(), 5 * MINUTE - 10_000],
    [guid(), 1_000],
  ];
  for (const [each, age, event = 'push'] of sent) there.github.sent(HOOK, { guid: each, at: there.ago(age), event });
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 5, missed: 2, asked: 2 } });
  expect(there.github.asked).toEqual([justInTime, onTime]);
});

test('an event that was first sent longer ago is not asked for because it was sent again since', async () => {
  const there = world();
  const old = guid();
  there.github.sent(HOOK, { guid: old, at: there.ago(3 * DAY + 3 * HOUR) });
  there.github.sent(HOOK, { guid: old, at: there.ago(2 * DAY), redelivery: true });
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 0, missed: 0, asked: 0 } });
});

test('a token that was claimed for a job that never came to be is missed, and becomes that job', async () => {
  const there = world();
  const died = guid();
  const jobId = newId(there.ago(HOUR), crypto.getRandomValues(new Uint8Array(9)));
  const { token, ttlMs } = githubDeliveryToken(died);
  await there.bench.rt.replay.claim('github', { token, jobId, digest: '', ttlMs, now: there.ago(HOUR) });
  there.github.sent(HOOK, { guid: died, at: there.ago(HOUR) });
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 1, asked: 1 } });
  await there.github.settled();
  expect(await there.bench.job(jobId)).toMatchObject({ state: 'SUCCESS', task: 'process_webhook' });
  there.clock.move(HOUR);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 0, recovered: 1 } });
});

test('a claim older than any row is sure to live counts as accepted', async () => {
  const there = world();
  const old = guid();
  const jobId = newId(there.ago(5 * DAY), crypto.getRandomValues(new Uint8Array(9)));
  const { token, ttlMs } = githubDeliveryToken(old);
  await there.bench.rt.replay.claim('github', { token, jobId, digest: '', ttlMs, now: there.ago(5 * DAY) });
  there.github.sent(HOOK, { guid: old, at: there.ago(HOUR) });
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 1, missed: 0, asked: 0 } });
});

test('the same bytes from two hooks are one job, and neither delivery is missed', async () => {
  const there = world([HOOK, OTHER]);
  const [ours, theirs] = [guid(), guid()];
  const body = JSON.stringify({ ref: 'refs/heads/main', both: ours });
  await there.deliver(ours, body);
  await there.deliver(theirs, body);
  for (const [hook, each] of [
    [HOOK, ours],
    [OTHER, theirs],
  ] as const) {
    there.github.sent(hook, { guid: each, at: there.ago(0), statusCode: 200 });
  }
  there.clock.move(10 * MINUTE);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 2, missed: 0, asked: 0 } });
  expect(await there.count('process_webhook')).toBe(1);
});

test('what is on a later page is found, and at most a hundred are asked for in one run, the oldest first', async () => {
  const there = world();
  const lost = Array.from({ length: 120 }, guid);
  const taken = Array.from({ length: 130 }, guid);
  await accept(there, taken);
  lost.forEach((each, at) => {
    there.github.sent(HOOK, { guid: each, at: there.ago(2 * DAY - at * 1_000) });
  });
  for (const each of taken) there.github.sent(HOOK, { guid: each, at: there.ago(DAY), statusCode: 200 });
  there.github.send = () => Promise.resolve(503);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 250, missed: 120, asked: 100 } });
  expect(there.github.requests.filter((request) => request.startsWith('GET'))).toEqual([
    `GET ${HOOK}/deliveries?per_page=100`,
    `GET ${HOOK}/deliveries?per_page=100&cursor=v1_100`,
    `GET ${HOOK}/deliveries?per_page=100&cursor=v1_200`,
  ]);
  expect(there.github.asked).toEqual(lost.slice(0, 100));
  expect((await there.deliveries()).filter(({ verdict }) => verdict === 'missed')).toHaveLength(120);
});

test('hooks share what one run may ask for: what one leaves is there for the next, and GitHub is asked once a second', async () => {
  const there = world([HOOK, OTHER]);
  const asked = (hook: string): number =>
    there.github.requests.filter((request) => request.startsWith(`POST ${hook}`)).length;
  there.github.send = () => Promise.resolve(503);
  for (let at = 0; at < 30; at += 1) there.github.sent(HOOK, { guid: guid(), at: there.ago(HOUR) });
  for (let at = 0; at < 120; at += 1) there.github.sent(OTHER, { guid: guid(), at: there.ago(HOUR) });
  const before = there.clock.now();
  await there.run(TASK);
  expect([asked(HOOK), asked(OTHER)]).toEqual([30, 70]);
  expect(there.clock.now() - before).toBeGreaterThan(98_000);
  for (let at = 0; at < 90; at += 1) there.github.sent(HOOK, { guid: guid(), at: there.ago(HOUR) });
  await there.run(TASK);
  expect([asked(HOOK) - 30, asked(OTHER) - 70]).toEqual([50, 50]);
});

test('one that was taken in while the replay guard was silent, and still waits for it, is not missed', async () => {
  const there = world();
  const waiting = guid();
  const { replay } = there.bench.rt;
  Object.assign(there.bench.rt, { replay: { ...replay, claim: () => Promise.reject(new Error('overloaded')) } });
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  expect((await there.deliver(waiting)).status).toBe(200);
  there.github.sent(HOOK, { guid: waiting, at: there.ago(0), statusCode: 504 });
  there.clock.move(10 * MINUTE);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 1, missed: 0, asked: 0 } });
});

test('pages are not read further back than anything can be done about', async () => {
  const there = world();
  for (let at = 0; at < 250; at += 1)
    there.github.sent(HOOK, { guid: guid(), at: there.ago(10 * DAY - at), event: 'ping' });
  await there.run(TASK);
  expect(there.github.requests).toEqual([`GET ${HOOK}/deliveries?per_page=100`]);
});

test('what fails again is asked for again an hour later, five times and then no more', async () => {
  const there = world();
  const lost = guid();
  there.github.sent(HOOK, { guid: lost, at: there.ago(HOUR) });
  there.github.send = () => Promise.resolve(503);
  for (let hour = 1; hour <= 5; hour += 1) {
    expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 1, asked: 1, gave_up: 0 } });
    await there.github.settled();
    // It may still be on its way.
    expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 0, asked: 0 } });
    there.clock.move(HOUR);
  }
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 1, asked: 0, gave_up: 1 } });
  expect(there.github.asked).toHaveLength(5);
  // Every time the newest attempt was named.
  const ids = there.github.attempts(HOOK).map(({ id }) => String(id));
  const named = there.github.requests.flatMap((request) => /deliveries\/(\d+)\//.exec(request)?.[1] ?? []);
  expect(named).toEqual(ids.slice(1).reverse());
  expect((await there.deliveries()).map(({ verdict }) => verdict)).toEqual(['missed']);
});

test('a hook that is broken keeps no other from being looked at, and the job says which it is and what it needs', async () => {
  const there = world([OTHER, HOOK]);
  const lost = guid();
  there.github.broken.set(OTHER, () => Response.json({ message: 'Not Found' }, { status: 404 }));
  there.github.sent(HOOK, { guid: lost, at: there.ago(HOUR) });
  const job = await there.run(TASK);
  expect(there.github.asked).toEqual([lost]);
  expect([job.state, job.error?.code]).toEqual(['FAILURE', 'not_configured']);
  expect(job.error?.message).toMatch(/orgs\/acme\/hooks\/9: answered 404.*admin:org_hook.*Webhooks: write/);
});

test('a hook whose server is ill is tried again, and so is the whole while GitHub asks to wait', async () => {
  const there = world([OTHER, HOOK]);
  const lost = guid();
  there.github.sent(HOOK, { guid: lost, at: there.ago(HOUR) });
  there.github.broken.set(OTHER, () => new Response('<html>', { status: 502 }));
  const ill = await there.run(TASK);
  expect([ill.state, ill.error?.message]).toEqual(['RETRY', `GitHub's deliveries of ${OTHER}: answered 502`]);
  expect(there.github.asked).toEqual([lost]);

  const reset = Math.floor(there.clock.now() / 1_000) + 1_200;
  const limited = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(reset) };
  there.github.broken.set(OTHER, () => Response.json({ message: 'API rate limit' }, { status: 403, headers: limited }));
  const before = there.github.requests.length;
  const told = await there.run(TASK);
  expect(told.state).toBe('RETRY');
  expect(Math.abs(told.due_at - reset * 1_000)).toBeLessThan(5_000);
  // It would only be refused at the other hook as well.
  expect(there.github.requests).toHaveLength(before + 1);
});

test('one attempt that GitHub will not repeat is no reason to ask for no other', async () => {
  const there = world();
  const [first, second] = [guid(), guid()];
  there.github.sent(HOOK, { guid: first, at: there.ago(2 * HOUR) });
  there.github.sent(HOOK, { guid: second, at: there.ago(HOUR) });
  const handle = there.github.handle.bind(there.github);
  const refused = String(there.github.attempts(HOOK)[1]?.id);
  there.github.handle = (request) =>
    request.url.includes(`/${refused}/`)
      ? Response.json({ message: 'Validation Failed' }, { status: 422 })
      : handle(request);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 2, asked: 1, refused: 1 } });
  expect(there.github.asked).toEqual([second]);
});

test('missed deliveries are on record before GitHub is asked, and a run that dies there is safely repeated', async () => {
  const there = world();
  const lost = guid();
  there.github.sent(HOOK, { guid: lost, at: there.ago(HOUR) });
  there.bench.db.fault = (names) => (names === 'deliveries' ? { when: 'after', error: outage() } : undefined);
  expect((await there.run(TASK)).state).toBe('RETRY');
  expect(there.github.asked).toEqual([]);
  there.bench.db.fault = () => undefined;
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { missed: 1, asked: 1 } });
  expect((await there.deliveries()).filter(({ verdict }) => verdict === 'missed')).toHaveLength(1);
});

test.each([
  ['GITHUB_TOKEN', undefined, 'GITHUB_TOKEN is not set.'],
  ['GITHUB_TOKEN', 'ghp_a\nb', 'GITHUB_TOKEN has characters in it that no header carries.'],
  ['GITHUB_HOOKS', ' , ', 'GITHUB_HOOKS is not set.'],
  ['GITHUB_HOOKS', `${HOOK},repos/acme/hooks`, 'GITHUB_HOOKS: "repos/acme/hooks" is not one'],
  ['GITHUB_HOOKS', 'repos/../site/hooks/1', 'GITHUB_HOOKS: "repos/../site/hooks/1" is not one'],
  ['GITHUB_BASE_URL', 'ftp://github.test', 'GITHUB_BASE_URL is no http or https address'],
])('with %s as %j the job fails at once and says so', async (name, value, message) => {
  const there = world();
  Object.assign(there.bench.rt, { env: { ...there.bench.rt.env, [name]: value } });
  const job = await there.run(TASK);
  expect([job.state, job.error?.code]).toEqual(['FAILURE', 'not_configured']);
  expect(job.error?.message).toContain(message);
  expect(job.error?.message).not.toContain('ghp_');
  expect(there.github.requests).toEqual([]);
  const letters = await there.bench.db.run({ name: 'test', sql: `SELECT error FROM dead_letters`, params: [] });
  expect(letters.rows).toHaveLength(1);
});

test('the token is in no error, whatever goes wrong', async () => {
  const there = world();
  const seen: string[] = [];
  vi.spyOn(console, 'error').mockImplementation((text) => void seen.push(String(text)));
  vi.spyOn(console, 'log').mockImplementation((text) => void seen.push(String(text)));
  const answers = [401, 403, 404, 301, 422, 429, 500].map(
    (status) => () => new Response(there.github.token, { status }),
  );
  for (const answer of [...answers, () => new Response('no JSON'), () => Response.json({}), () => Response.error()]) {
    there.github.broken.set(HOOK, answer);
    seen.push(JSON.stringify(await there.run(TASK)));
  }
  expect(seen.length).toBeGreaterThan(9);
  expect(seen.filter((text) => text.includes(there.github.token))).toEqual([]);
});
