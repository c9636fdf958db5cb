// What each provider says, and what becomes of it: events, mail, commands, handshakes, and who is handed what.

import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Env } from '../../src/env.ts';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import { Bench, emptyDatabase, FastClock, outage } from '../worker/bench.ts';
import { ask, get, post, send, serve } from '../worker/client.ts';
import {
  FIXTURES,
  formFromMailgun,
  formFromSlack,
  fromGithub,
  fromMailgun,
  fromOpenphone,
  fromQuo,
  fromSlack,
  mailgunSignature,
  multipartFromMailgun,
} from '../worker/senders.ts';

beforeEach(emptyDatabase);

interface Taken {
  readonly id: string;
  readonly status: unknown;
  readonly input: Record<string, unknown>;
  readonly data: Record<string, unknown>;
  readonly result: Record<string, unknown>;
}

/** Sends, waits for the job, and says what it was given. */
async function take(request: Request): Promise<Taken> {
  const reply = await send(request);
  const id = reply.headers.get('x-job-id') ?? '';
  expect([reply.status, id]).toEqual([200, expect.stringMatching(/^[0-9a-f-]{36}$/)]);
  const { body } = await get(`/api/v1/jobs/${id}?wait=10`);
  expect(body['state']).toBe('SUCCESS');
  const input = body['input'] as Record<string, unknown>;
  const [data, result] = [input['webhook_data'], body['result']] as Record<string, unknown>[];
  return { id, status: reply.body['status'], input, data: data ?? {}, result: result ?? {} };
}

async function verdicts(): Promise<readonly unknown[]> {
  const { items } = (await get('/api/v1/deliveries')).body as { items: { verdict: string }[] };
  return items.map(({ verdict }) => verdict).reverse();
}

describe('Mailgun', () => {
  const event = (): Record<string, unknown> => ({
    event: 'delivered',
    id: crypto.randomUUID(),
    timestamp: 1_700_000_000.25,
  });

  test('an event is one job, without the signature that came beside it', async () => {
    const { data, result, input } = await take(await fromMailgun({ ...event(), recipient: 'ada@example.com' }));
    expect(data).toMatchObject({ event: 'delivered', recipient: 'ada@example.com' });
    expect(result).toMatchObject({ provider: 'mailgun', event: 'delivered', event_id: data['id'] });
    expect(JSON.stringify(input)).not.toContain('signature');
  });

  test('a token counts once, whatever is attached to it: nothing but the token is signed', async () => {
    const id = 'a'.repeat(50);
    const timestamp = Math.floor(Date.now() / 1_000);
    const first = await take(await fromMailgun(event(), { id, timestamp }));
    const forged = await send(await fromMailgun({ ...event(), recipient: 'victim@example.com' }, { id, timestamp }));
    expect(forged.body).toEqual({ status: 'duplicate', job_id: first.id });
    const asMail = await send(await formFromMailgun([['recipient', 'victim@example.com']], { id, timestamp }));
    expect(asMail.body).toEqual({ status: 'duplicate', job_id: first.id });
  });

  test('an event that is signed anew when it is tried again is still the same event', async () => {
    const data = event();
    const first = await take(await fromMailgun(data));
    expect((await send(await fromMailgun(data))).body).toEqual({ status: 'duplicate', job_id: first.id });
    // An id is unique within its day only.
    const later = await take(await fromMailgun({ ...data, timestamp: 1_700_086_400 }));
    expect(later.status).toBe('accepted');
  });

  test('numbers, empty lists for objects, texts for objects and null are what real events have', async () => {
    const odd = { ...event(), 'user-variables': [], storage: [], 'delivery-status': null, message: 'none' };
    expect((await take(await fromMailgun(odd))).data).toMatchObject(odd);
    const { token, timestamp, signature } = await mailgunSignature();
    const body = JSON.stringify({
      signature: { token, timestamp: Number(timestamp), signature },
      'event-data': event(),
    });
    const headers = { 'content-type': 'application/json' };
    await take(new Request('http://lovage.test/webhooks/mailgun', { method: 'POST', headers, body }));
  });

  test('mail by a route is one job; of its files the job knows names, types and sizes', async () => {
    const form = new FormData();
    for (const [name, value] of [
      ['recipient', 'inbox@example.com'],
      ['sender', 'ada@example.com'],
      ['subject', 'Grüße'],
      ['body-plain', 'Hello\r\n'],
      ['Received', 'one'],
      ['Received', 'two'],
      ['__proto__', 'polluted'],
    ] as const)
      form.append(name, value);
    form.append('attachment-1', new File([new Uint8Array([0, 255, 1])], 'a b.bin', { type: 'application/x-odd' }));
    const { data, result } = await take(await multipartFromMailgun(form));
    expect(result).toMatchObject({ event: 'inbound' });
    expect(data).toMatchObject({
      recipient: 'inbox@example.com',
      subject: 'Grüße',
      'body-plain': 'Hello\r\n',
      Received: ['one', 'two'],
      'attachment-1': { filename: 'a b.bin', content_type: 'application/x-odd', bytes: 3 },
    });
    expect(Object.keys(data)).not.toEqual(expect.arrayContaining(['token']));
    expect([data['signature'], ({} as Record<string, unknown>)['polluted']]).toEqual([undefined, undefined]);
  });

  test('of a field that the sender of a mail repeated the last one is Mailgun’s', async () => {
    const forged = await mailgunSignature({ secret: 'not ours' });
    const fields = Object.entries(forged).map(([name, value]) => [name, String(value)] as const);
    await take(await formFromMailgun([['recipient', 'a@b.example'], ...fields]));
  });

  test('a legacy event has its name; a mail is a mail, whatever its sender calls it', async () => {
    const fields = (...more: [string, string][]): [string, string][] => [['recipient', 'a@b.example'], ...more];
    const bounced = await take(await formFromMailgun(fields(['event', 'bounced'])));
    const stored = await take(await formFromMailgun(fields(['message-url', 'https://sw.example/1'])));
    const forged = await take(await formFromMailgun(fields(['body-plain', 'Hi'], ['event', 'complained'])));
    expect([bounced, stored, forged].map(({ result }) => result['event'])).toEqual(['bounced', 'inbound', 'inbound']);
  });

  test('what was kept of a delivery first stays: a copy with the same token cannot replace it', async () => {
    const [id, timestamp] = ['c'.repeat(50), Math.floor(Date.now() / 1_000)];
    const first = await take(await formFromMailgun([['subject', 'genuine']], { id, timestamp }));
    const form = new URLSearchParams({ subject: 'FORGED', filler: 'x'.repeat(17_000_000) });
    const forged = await send(await formFromMailgun([...form], { id, timestamp }));
    expect(forged.body).toEqual({ status: 'duplicate', job_id: first.id });
    const kept = await (env as unknown as Env).OBJECTS.get(`webhooks/mailgun/${first.id}`);
    expect(await kept?.text()).toContain('subject=genuine');
  });
});

describe('Slack', () => {
  const mention = (more: Record<string, unknown> = {}): string =>
    JSON.stringify({
      token: 'deprecated',
      type: 'event_callback',
      event_id: `Ev${crypto.randomUUID()}`,
      api_app_id: 'A1',
      authorizations: [{ user_id: 'UBOT', is_bot: true }],
      event: { type: 'app_mention', user: 'U1', text: 'hi', ...more },
    });

  test('an event is one job under its id, however often and however freshly signed it comes', async () => {
    const body = mention();
    const first = await take(await fromSlack(body));
    expect(first.result).toMatchObject({ provider: 'slack', event: 'app_mention' });
    expect(JSON.stringify(first.input)).not.toContain('deprecated');
    const retry = await fromSlack(body, {
      timestamp: Math.floor(Date.now() / 1_000) - 60,
      headers: { 'x-slack-retry-num': '1' },
    });
    expect((await send(retry)).body).toEqual({ status: 'duplicate', job_id: first.id });
  });

  test('a handshake is answered with its challenge, and makes no job', async () => {
    const reply = await send(await fromSlack(JSON.stringify({ type: 'url_verification', challenge: 'say <this>' })));
    expect([reply.status, reply.body['text'], reply.headers.get('content-type')]).toEqual([
      200,
      'say <this>',
      'text/plain; charset=utf-8',
    ]);
    expect((await send(await formFromSlack({ ssl_check: '1' }))).body).toEqual({ status: 'ignored' });
    expect(await verdicts()).toEqual(['handshake', 'ignored']);
    expect((await get('/api/v1/jobs')).body['items']).toEqual([]);
  });

  test('what our own bot said is no event: whoever answered it would talk to himself', async () => {
    for (const own of [
      { bot_id: 'B1', user: 'UBOT' },
      { bot_id: 'B1', app_id: 'A1', user: undefined },
    ]) {
      expect((await send(await fromSlack(mention({ type: 'message', ...own })))).body).toEqual({ status: 'ignored' });
    }
    const another = await take(
      await fromSlack(mention({ type: 'message', bot_id: 'B2', app_id: 'A2', user: 'UOTHER' })),
    );
    expect(another.result).toMatchObject({ event: 'message' });
  });

  test('a command and an interaction are answered with an empty 200 that names the job in a header', async () => {
    const command = await formFromSlack({
      token: 'x',
      command: '/deploy',
      text: 'now',
      trigger_id: crypto.randomUUID(),
    });
    const answer = await send(command.clone());
    expect([answer.status, answer.body['text']]).toEqual([200, '']);
    const first = await take(command);
    expect(first.id).toBe(answer.headers.get('x-job-id'));
    expect([first.result['event'], first.data['command'], first.data['token']]).toEqual([
      'slash_command',
      '/deploy',
      undefined,
    ]);
    const payload = {
      type: 'block_actions',
      trigger_id: crypto.randomUUID(),
      actions: [{ action_id: 'a' }],
      token: 'x',
    };
    const pressed = await take(await formFromSlack({ payload: JSON.stringify(payload) }));
    expect([pressed.result['event'], pressed.data['actions']]).toEqual(['block_actions', [{ action_id: 'a' }]]);
  });

  test('a view that an impatient person submits twice is one job, with other answers another', async () => {
    const submit = (answer: string): Promise<Request> => {
      const view = { id: 'V1', hash: '1.abc', state: { values: { name: answer } } };
      const payload = { type: 'view_submission', trigger_id: crypto.randomUUID(), user: { id: 'U1' }, view };
      return formFromSlack({ payload: JSON.stringify(payload) });
    };
    const answer = crypto.randomUUID();
    const [first, second, other] = [
      await take(await submit(answer)),
      await take(await submit(answer)),
      await take(await submit('b' + answer)),
    ];
    expect([second.id === first.id, other.id === first.id]).toEqual([true, false]);
  });

  test('somebody who typed a command while nothing can be taken is told so; Slack would not ask twice', async () => {
    const bench = new Bench({
      ports: ({ replay }) => ({ replay: { ...replay, claim: () => Promise.reject(new Error('reset')) } }),
    });
    const now = Math.floor(bench.clock.now() / 1_000);
    const command = await serve(bench.rt, await formFromSlack({ command: '/x', trigger_id: 't' }, { timestamp: now }));
    expect([command.status, await command.json()]).toEqual([
      200,
      { response_type: 'ephemeral', text: expect.stringMatching(/may not have got through/) as string },
    ]);
    const event = await serve(bench.rt, await fromSlack(mention(), { timestamp: now }));
    expect([event.status, event.headers.get('x-slack-no-retry')]).toEqual([503, null]);
  });

  test('Slack is answered within its three seconds, whatever does not answer us', async () => {
    const clock = new FastClock(Date.now());
    const never = (): Promise<never> => new Promise(() => undefined);
    const ports = ({ replay }: Bench['rt']): Partial<Bench['rt']> => ({ replay: { ...replay, claim: never } });
    const bench = new Bench({ clock, ports });
    const from = clock.now();
    const answer = await serve(bench.rt, await fromSlack(mention(), { timestamp: Math.floor(from / 1_000) }));
    expect([answer.status, clock.now() - from]).toEqual([503, 2_800]);
  });
});

describe('OpenPhone', () => {
  const of = (file: string): string => FIXTURES.find((each) => each.file === `openphone/${file}`)?.text ?? '';
  const fresh = (text: string, more: Record<string, unknown> = {}): string =>
    JSON.stringify({ ...(JSON.parse(text) as object), id: `EV${crypto.randomUUID()}`, ...more });

  test('a message of the API’s generation and one of the newest are the same event', async () => {
    const older = await take(await fromOpenphone(fresh(of('v4-api-webhooks/message.received.json'))));
    expect(older.data).toMatchObject({
      type: 'message.received',
      api_version: 'v4',
      created_at: '2022-01-23T16:55:52.557Z',
      resource: {
        id: 'AC24a8b8321c4f4cf2be110f4250793d51',
        direction: 'incoming',
        text: 'Hello, world!',
        status: 'delivered',
      },
      context: {
        phoneNumberId: 'PNtoDbDhuz',
        userId: 'USu5AsEHuQ',
        contacts: { ids: ['6824dfb69aee85c132b7dg65'] },
        senderIdentifier: '+19876543210',
        recipientIdentifiers: ['+15555555555'],
      },
    });
    const newest = await take(await fromQuo(of('2026-03-30/message.received.test-event.json')));
    expect(newest.data).toMatchObject({
      type: 'message.received',
      resource: { direction: 'incoming', text: 'Hello from Quo! This is a sample message.' },
      context: { senderIdentifier: '+15555551234', recipientIdentifiers: ['+15555555678'] },
      links: { quo: 'https://my.quo.com/...' },
    });
  });

  test('a message of the app’s generation is it too: its body is the text, of a group the numbers are a list', async () => {
    const object = {
      id: 'AC1',
      object: 'message',
      body: 'Hi',
      from: '+1',
      to: '+2, +3',
      media: [],
      conversationId: 'CN1',
    };
    const body = JSON.stringify({
      id: crypto.randomUUID(),
      apiVersion: 'v3',
      type: 'message.received',
      data: { object },
    });
    const { data } = await take(await fromOpenphone(body));
    expect(data).toMatchObject({
      resource: { id: 'AC1', text: 'Hi', media: [] },
      context: { conversationId: 'CN1', senderIdentifier: '+1', recipientIdentifiers: ['+2', '+3'] },
    });
    expect(Object.keys(data['resource'] as object)).not.toEqual(expect.arrayContaining(['from']));
  });

  test('contacts have numbers and addresses, whichever way they were written down', async () => {
    const one = await take(await fromOpenphone(fresh(of('v3-app-webhooks/contact.updated.redacted.json'))));
    const many = await take(
      await fromOpenphone(fresh(of('v3-app-webhooks/contact.updated-many-phones.redacted.json'))),
    );
    const object = {
      id: 'CT1',
      object: 'contact',
      fields: [
        { name: 'Phone', type: 'phone-number', value: '+1' },
        { name: 'Email', type: 'email', value: 'a@b.example' },
        { name: 'Team', type: 'string', value: 'blue' },
      ],
    };
    const listed = await take(
      await fromOpenphone(JSON.stringify({ id: crypto.randomUUID(), type: 'contact.updated', data: { object } })),
    );
    expect([one, many].map(({ data }) => (data['resource'] as { phoneNumbers: unknown }).phoneNumbers)).toEqual([
      [{ value: '+18005550100', type: 'Phone' }],
      [
        { value: '+18005550100', type: 'Phone' },
        { value: '+18005550102', type: 'Phone' },
      ],
    ]);
    expect(listed.data['resource']).toMatchObject({
      phoneNumbers: [{ value: '+1', type: 'Phone' }],
      emails: [{ value: 'a@b.example', type: 'Email' }],
      customFields: [{ name: 'Team', value: 'blue' }],
    });
  });

  test('summaries and transcripts go by one name, and so does what was never sent', async () => {
    const named = [];
    for (const file of [
      'v4-api-webhooks/call.summary.completed.json',
      'v4-api-webhooks/call.transcript.completed.json',
    ]) {
      const { result, data } = await take(await fromOpenphone(fresh(of(file))));
      named.push([result['event'], (data['resource'] as Record<string, unknown>)['processingStatus']]);
    }
    const sent = await take(
      await fromOpenphone(fresh(of('v4-api-webhooks/message.received.json'), { type: 'message.sent' })),
    );
    expect([...named, sent.result['event']]).toEqual([
      ['call.summary.completed', 'completed'],
      ['call.transcript.completed', 'completed'],
      'message.delivered',
    ]);
  });

  test('an event that comes under both schemes while webhooks are being moved is one job', async () => {
    const [about, updatedAt] = [crypto.randomUUID(), '2026-04-13T12:00:00.000Z'];
    const older = JSON.stringify({
      id: crypto.randomUUID(),
      type: 'call.completed',
      data: { object: { id: about, updatedAt } },
    });
    const newest = JSON.stringify({ id: 'EV9', type: 'call.completed', data: { resource: { id: about, updatedAt } } });
    const first = await take(await fromOpenphone(older));
    const second = await send(await fromQuo(newest));
    expect(second.body).toEqual({ status: 'duplicate', job_id: first.id });
    const changed = newest.replace(updatedAt, '2026-04-13T12:00:01.000Z');
    expect((await send(await fromQuo(changed))).body['status']).toBe('accepted');
  });

  test('what is of no shape that we know is kept as it is, under its own name', async () => {
    const body = JSON.stringify({
      id: crypto.randomUUID(),
      type: 'integration.connected',
      data: { integration: { id: 'I1' } },
    });
    const { result, data } = await take(await fromQuo(body));
    expect([result['event'], data['resource'], data['data']]).toEqual([
      'integration.connected',
      {},
      { integration: { id: 'I1' } },
    ]);
  });

  test('events of the older scheme without an id are told apart by their bytes', async () => {
    const nameless = (about: string): string =>
      JSON.stringify({ type: 'message.received', data: { object: { id: about } } });
    const [one, two] = [crypto.randomUUID(), crypto.randomUUID()];
    const first = await take(await fromOpenphone(nameless(one)));
    const second = await take(await fromOpenphone(nameless(two)));
    expect([first.status, second.status]).toEqual(['accepted', 'accepted']);
    expect((await send(await fromOpenphone(nameless(one)))).body).toEqual({ status: 'duplicate', job_id: first.id });
  });

  test('each of several webhooks has its key, and a late try of the older scheme the time that is set', async () => {
    const keys = ['Zmlyc3Q=', 'c2Vjb25k', 'dGhpcmQ='];
    const settings = { ...env, OPENPHONE_SIGNING_KEY: keys.join(', '), OPENPHONE_WINDOW_SECONDS: '3600' };
    const statusOf = async (request: Request): Promise<number> =>
      (await serve(new Bench({ clock: new FastClock(Date.now()) }).rt, request, settings)).status;
    const body = (): string => fresh(of('v4-api-webhooks/message.received.json'));
    for (const secret of keys) expect(await statusOf(await fromOpenphone(body(), { secret }))).toBe(200);
    expect(await statusOf(await fromOpenphone(body(), { secret: 'Zm91cnRo' }))).toBe(401);
    const [secret] = keys as [string];
    const late = (seconds: number): number => Date.now() - 1_000 * seconds;
    expect(await statusOf(await fromOpenphone(body(), { secret, timestamp: late(3_500) }))).toBe(200);
    expect(await statusOf(await fromOpenphone(body(), { secret, timestamp: late(3_700) }))).toBe(401);
  });

  test('the sample that Quo sends on request is a job each time: only its delivery differs', async () => {
    const sample = of('2026-03-30/message.received.test-event.json');
    const ids = [await take(await fromQuo(sample)), await take(await fromQuo(sample))].map(({ id }) => id);
    expect(new Set(ids).size).toBe(2);
    const id = `msg_${crypto.randomUUID()}`;
    const first = await take(await fromQuo(sample, { id }));
    expect((await send(await fromQuo(sample, { id }))).body).toEqual({ status: 'duplicate', job_id: first.id });
  });
});

describe('an event is handed on', () => {
  const handler = (name: string, on: string[], heard: unknown[], input: z.ZodType = z.looseObject({})): Task =>
    defineTask({ name, queue: 'default', on, input, run: (given, job) => void heard.push([name, given, job.source]) });

  async function deliver(bench: Bench, request: Request): Promise<Record<string, unknown>> {
    const { job_id: id } = await (await serve(bench.rt, request)).json<{ job_id: string }>();
    await bench.drain();
    return (await ask(bench.rt, `/api/v1/jobs/${id}`)).json();
  }

  test('to every task that says it is run on it, by name, by provider or by any, and to nobody else', async () => {
    const heard: unknown[] = [];
    const tasks = [
      handler('test.exact', ['github.issues', 'github.push'], heard),
      handler('test.github', ['github.*'], heard),
      handler('test.all', ['*'], heard),
      handler('test.other', ['github.issue', 'github', 'slack.*'], heard),
    ];
    const bench = new Bench({ tasks });
    const job = await deliver(
      bench,
      await fromGithub(JSON.stringify({ action: 'opened', unique: crypto.randomUUID() }), 'issues'),
    );
    expect(heard.map((each) => (each as unknown[])[0]).sort()).toEqual(['test.all', 'test.exact', 'test.github']);
    const handed = {
      provider: 'github',
      event: 'issues',
      webhook_data: { action: 'opened' },
      raw_key: expect.stringMatching(/^webhooks/) as string,
    };
    expect(heard[0]).toMatchObject([expect.anything(), handed, 'task:process_webhook']);
    const { handled_by: by } = job['result'] as { handled_by: { task: string; job_id: string }[] };
    expect(by.map(({ task }) => task)).toEqual(['test.exact', 'test.github', 'test.all']);
    for (const { job_id: id } of by) {
      const child = await (await ask(bench.rt, `/api/v1/jobs/${id}`)).json<Record<string, unknown>>();
      expect([child['state'], child['parent_id']]).toEqual(['SUCCESS', job['id']]);
    }
  });

  test('once, although it is tried again after some have theirs', async () => {
    const heard: unknown[] = [];
    const bench = new Bench({ tasks: [handler('test.one', ['*'], heard), handler('test.two', ['*'], heard)] });
    await serve(bench.rt, await fromGithub(JSON.stringify({ unique: crypto.randomUUID() }), 'issues'));
    const [message] = bench.queues.take();
    let calls = 0;
    bench.db.fault = (names) =>
      names === 'finish' && (calls += 1) < 3
        ? { when: 'before', error: new Error('Network connection lost') }
        : undefined;
    await bench.deliver([message?.envelope], { queue: 'webhooks' });
    bench.db.fault = () => undefined;
    await bench.deliver([message?.envelope], { queue: 'webhooks', attempts: 2 });
    await bench.drain();
    expect(heard.map((each) => (each as unknown[])[0]).sort()).toEqual(['test.one', 'test.two']);
  });

  test('later, where nobody can take the handler’s job now: that is no refusal', async () => {
    const heard: unknown[] = [];
    const bench = new Bench({ tasks: [handler('test.one', ['*'], heard)] });
    const answer = await serve(bench.rt, await fromGithub(JSON.stringify({ unique: crypto.randomUUID() }), 'issues'));
    const { job_id: id } = await answer.json<{ job_id: string }>();
    const [message] = bench.queues.take();
    bench.db.fault = (names) => (names === 'accept' ? { when: 'before', error: outage() } : undefined);
    bench.queues.fault = 'refuse';
    await bench.deliver([message?.envelope], { queue: 'webhooks' });
    expect(await bench.job(id)).toMatchObject({ state: 'RETRY', error: { code: 'exception' } });
  });

  test('again from the same stored body when it is run again', async () => {
    const bench = new Bench();
    const job = await deliver(bench, await fromGithub(JSON.stringify({ unique: crypto.randomUUID() }), 'issues'));
    const again = await (
      await ask(bench.rt, `/api/v1/jobs/${String(job['id'])}/retry`, { method: 'POST' })
    ).json<{ id: string }>();
    await bench.drain();
    expect((await bench.job(again.id)).input).toMatchObject({ raw_key: (job['input'] as { raw_key: string }).raw_key });
  });

  test('to all others although one refuses it, and then the delivery fails: somebody has to look', async () => {
    const heard: unknown[] = [];
    const picky = handler('test.picky', ['*'], heard, z.object({ webhook_data: z.object({ never: z.string() }) }));
    const bench = new Bench({ tasks: [picky, handler('test.open', ['*'], heard)] });
    const job = await deliver(bench, await fromGithub(JSON.stringify({ unique: crypto.randomUUID() }), 'issues'));
    expect(heard.map((each) => (each as unknown[])[0])).toEqual(['test.open']);
    expect(job).toMatchObject({
      state: 'FAILURE',
      error: { code: 'handler_refused', message: expect.stringMatching(/test.picky.*never/) as string },
    });
  });

  test('by hand as well, in the words of the systems it replaces', async () => {
    const kwargs = { webhook_data: { id: '123', event: 'delivered' }, webhook_type: 'mailgun', source_ip: '192.0.2.1' };
    const named = await post('/api/v1/jobs', { task: 'tasks.webhook_tasks.process_webhook', kwargs });
    const positional = await post('/api/v1/jobs', {
      task: 'app.tasks.process_webhook',
      args: [{ id: 'EV1', type: 'message.received' }],
    });
    const results = [];
    for (const { status, body } of [named, positional]) {
      expect(status).toBe(202);
      results.push((await get(`/api/v1/jobs/${String(body['id'])}?wait=10`)).body['result']);
    }
    expect(results).toMatchObject([
      { provider: 'mailgun', event: 'delivered' },
      { provider: 'openphone', event: 'message.received' },
    ]);
  });
});
