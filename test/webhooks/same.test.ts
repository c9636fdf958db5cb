// What makes two deliveries the same one, and what keeps them apart.

import { beforeEach, describe, expect, test } from 'vitest';
import { Bench, emptyDatabase, FastClock, START } from '../worker/bench.ts';
import { serve } from '../worker/client.ts';
import { formFromSlack, fromGithub, fromMailgun, fromOpenphone, fromQuo, fromSlack } from '../worker/senders.ts';

beforeEach(emptyDatabase);

const clock = new FastClock(START);
const bench = (): Bench => new Bench({ clock });
const seconds = (): number => Math.floor(clock.now() / 1_000);
const unique = (): string => crypto.randomUUID();

/** The job that a request is. */
async function jobOf(request: Request | Promise<Request>): Promise<string> {
  const answer = await serve(bench().rt, await request);
  expect(answer.status).toBe(200);
  return answer.headers.get('x-job-id') ?? 'none';
}

async function expectSame(...requests: readonly (() => Promise<Request>)[]): Promise<void> {
  const ids = [];
  for (const request of requests) ids.push(await jobOf(request()));
  expect(new Set(ids).size).toBe(1);
}

async function expectApart(...requests: readonly (() => Promise<Request>)[]): Promise<void> {
  const ids = [];
  for (const request of requests) ids.push(await jobOf(request()));
  expect(new Set(ids).size).toBe(requests.length);
}

describe('GitHub', () => {
  test('where a body and a delivery id name two jobs, the body decides: it is what is signed', async () => {
    const [a, b] = [JSON.stringify({ unique: unique() }), JSON.stringify({ unique: unique() })];
    const ids = [unique(), unique()];
    const first = await jobOf(fromGithub(a, 'issues', { id: ids[0] ?? '' }));
    await jobOf(fromGithub(b, 'issues', { id: ids[1] ?? '' }));
    expect(await jobOf(fromGithub(a, 'issues', { id: ids[1] ?? '' }))).toBe(first);
  });

  test('a dispatch without a delivery id is told by its bytes; a run of a workflow is no dispatch', async () => {
    const dispatch = JSON.stringify({ client_payload: {}, unique: unique() });
    const headers = { 'x-github-delivery': null };
    const nameless = (): Promise<Request> => fromGithub(dispatch, 'repository_dispatch', { headers });
    await expectSame(nameless, nameless);
    const run = JSON.stringify({ workflow: {}, workflow_run: { id: 1 }, unique: unique() });
    await expectSame(
      () => fromGithub(run, 'workflow_run'),
      () => fromGithub(run, 'workflow_run'),
    );
  });
});

test('Mailgun: where an event and a token name two jobs, the token decides: it is what is signed', async () => {
  const [one, two] = [
    { event: 'opened', id: unique(), timestamp: 1 },
    { event: 'opened', id: unique(), timestamp: 1 },
  ];
  const [first, second] = [unique(), unique()];
  await jobOf(fromMailgun(one, { id: first, timestamp: seconds() }));
  const job = await jobOf(fromMailgun(two, { id: second, timestamp: seconds() }));
  expect(await jobOf(fromMailgun(one, { id: second, timestamp: seconds() }))).toBe(job);
});

describe('Slack', () => {
  const event = (more: object): Promise<Request> =>
    fromSlack(JSON.stringify({ type: 'event_callback', event: { type: 'message' }, ...more }), {
      timestamp: seconds(),
    });
  const interaction = (payload: object): Promise<Request> =>
    formFromSlack({ payload: JSON.stringify(payload) }, { timestamp: seconds() });
  const command = (fields: Record<string, string>): Promise<Request> =>
    formFromSlack({ command: '/x', ...fields }, { timestamp: seconds() });

  test('events without an id are told by their bytes, for as long as a replay may come', async () => {
    const [a, b] = [unique(), unique()];
    await expectApart(
      () => event({ event_id: '', a }),
      () => event({ event_id: '', b }),
      () => event({ b }),
    );
    const first = await jobOf(event({ event_id: '', a }));
    clock.set(clock.now() + 10 * 60_000);
    expect(await jobOf(event({ event_id: '', a }))).toBe(first);
    clock.set(clock.now() + 6 * 60_000);
    expect(await jobOf(event({ event_id: '', a }))).not.toBe(first);
  });

  test('an interaction is told by what it is, its trigger and its moment', async () => {
    const trigger_id = unique();
    await expectApart(
      () => interaction({ type: 'block_actions', trigger_id }),
      () => interaction({ type: 'shortcut', trigger_id }),
      () => interaction({ type: 'block_actions', trigger_id, action_ts: '1' }),
      () => interaction({ type: 'block_actions', trigger_id, actions: [{ action_ts: '2' }] }),
      () => interaction({ type: 'block_actions', trigger_id: unique() }),
    );
    await expectSame(
      () => interaction({ type: 'block_actions', trigger_id, action_ts: '1', message: 'as it was' }),
      () => interaction({ type: 'block_actions', trigger_id, action_ts: '1', message: 'as it is' }),
    );
  });

  test('a view is told by who submits what; a command without a trigger by its bytes', async () => {
    const view = { id: 'V1', hash: unique() };
    const by = (id: string): Promise<Request> =>
      interaction({ type: 'view_submission', trigger_id: unique(), user: { id }, view });
    await expectApart(
      () => by('U1'),
      () => by('U2'),
    );
    await expectSame(
      () => by('U1'),
      () => by('U1'),
    );
    await expectApart(
      () => command({ text: unique() }),
      () => command({ text: unique() }),
    );
  });

  test('what another bot or a person says is an event, whatever is missing from it', async () => {
    const bot = { type: 'message', bot_id: 'B1' };
    const ours = [{ user_id: 'U1', is_bot: false }, { is_bot: true }];
    for (const said of [
      { event: bot },
      { event: { ...bot, user: 'U1' }, authorizations: ours },
      { event: { ...bot, user: undefined }, authorizations: ours },
      { event: { ...bot, app_id: 'A2' }, api_app_id: 'A1' },
    ]) {
      expect(await jobOf(event({ ...said, event_id: unique() }))).not.toBe('none');
    }
  });
});

describe('OpenPhone', () => {
  const legacy = (body: object): Promise<Request> => fromOpenphone(JSON.stringify(body), { timestamp: clock.now() });
  const standard = (body: object): Promise<Request> => fromQuo(JSON.stringify(body), { timestamp: seconds() });

  test('of the older scheme an id counts for its type; across both, a type for its resource', async () => {
    const [id, about] = [unique(), unique()];
    await expectApart(
      () => legacy({ id, type: 'call.ringing', data: { object: { id: about } } }),
      () => legacy({ id, type: 'call.completed', data: { object: { id: about } } }),
      () => standard({ type: 'call.missed', data: { resource: { id: about } } }),
    );
    await expectSame(
      () => legacy({ id, type: 'call.ringing', data: { object: { id: about } } }),
      () => standard({ type: 'call.ringing', data: { resource: { id: about } } }),
    );
  });

  test('a report is told by its call across both schemes', async () => {
    const callId = unique();
    await expectSame(
      () => legacy({ id: unique(), type: 'callSummary', data: { object: { callId, object: 'callSummary' } } }),
      () => standard({ type: 'call.summary.completed', data: { resource: { callId } } }),
    );
  });
});
