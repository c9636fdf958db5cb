import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { mailgunEventTokens } from '../../src/providers/identity.ts';
import { FakeMailgun, type MailEvent } from '../fakes/mailgun.ts';
import { emptyDatabase, outage } from '../worker/bench.ts';
import { fromMailgun } from '../worker/senders.ts';
import { outside, resultOf, type Outside } from '../worker/recovery.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DOMAIN = 'mg.example.com';
const OTHER = 'mail.example.org';
const TASK = 'reconcile_mailgun_events';

beforeEach(emptyDatabase);
afterEach(() => {
  vi.restoreAllMocks();
});

interface World extends Outside {
  readonly mailgun: FakeMailgun;
  /** An event of so long ago. */
  event(agoMs: number, name?: string): MailEvent;
  /** Sends an event to our door, as Mailgun does. */
  deliver(event: MailEvent): Promise<{ status: string; job_id: string }>;
}

// The replay guard lives on from test to test.
let made = 0;

function world(domains = [DOMAIN]): World {
  const mailgun = new FakeMailgun(DOMAIN, OTHER);
  const settings = {
    MAILGUN_API_KEY: mailgun.key,
    MAILGUN_DOMAINS: domains.join(','),
    MAILGUN_BASE_URL: 'http://mailgun.test',
  };
  const there = outside(settings, (request) => mailgun.handle(request));
  const event = (agoMs: number, name = 'delivered'): MailEvent => {
    made += 1;
    const message = { headers: { 'message-id': `${String(made)}@${DOMAIN}` } };
    return {
      id: `event-${String(made)}`,
      event: name,
      timestamp: (there.clock.now() - agoMs) / 1_000,
      recipient: 'a@example.net',
      message,
    };
  };
  const deliver = async (data: MailEvent): Promise<{ status: string; job_id: string }> => {
    const request = await fromMailgun(data, { timestamp: Math.floor(there.clock.now() / 1_000) });
    return (await there.knock(request)).json();
  };
  return { ...there, mailgun, event, deliver };
}

/** Claims the tokens of events for one job that is there, as if each had been accepted. */
async function accept({ bench }: World, events: readonly MailEvent[]): Promise<void> {
  const { id } = await bench.enqueue({ task: 'debug_task' });
  await bench.drain();
  const now = bench.rt.clock.now();
  await Promise.all(
    events.flatMap((event) =>
      mailgunEventTokens(event).map(({ token, ttlMs }) =>
        bench.rt.replay.claim('mailgun', { token, jobId: id, digest: '', ttlMs, now }),
      ),
    ),
  );
}

test('of 700 events in three pages the 3 that never came become 3 jobs, once', async () => {
  const there = world();
  const events = Array.from({ length: 700 }, (_, at) => there.event(20 * HOUR - at * MINUTE));
  const missed = [events[1], events[350], events[699]].filter((each) => each !== undefined);
  await accept(
    there,
    events.filter((each) => !missed.includes(each)),
  );
  there.mailgun.happened(DOMAIN, ...events);
  const first = await there.run(TASK);
  expect(resultOf(first)).toMatchObject({
    domains: [{ domain: DOMAIN, looked_at: 700, recovered: 3 }],
    totals: { looked_at: 700, recovered: 3 },
  });
  // Three pages, and the empty one that is the end.
  expect(there.mailgun.requests).toHaveLength(4);
  expect(await there.count('process_webhook')).toBe(3);
  const rows = await there.deliveries();
  expect(rows.map(({ verdict, event_id: id }) => [verdict, id])).toEqual(missed.map(({ id }) => ['recovered', id]));

  const [row] = rows;
  const job = await there.bench.job(row?.job_id ?? '');
  expect(job).toMatchObject({
    state: 'SUCCESS',
    source: 'webhook:mailgun',
    parent_id: first.id,
    result: { provider: 'mailgun', event: 'delivered', event_id: missed[0]?.id },
  });

  there.clock.move(HOUR);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { recovered: 0 } });
  expect(await there.count('process_webhook')).toBe(3);
  expect(await there.deliveries()).toEqual(rows);
});

test('a webhook that comes late after all is a duplicate of the job that was made of its event', async () => {
  const there = world();
  const late = there.event(HOUR);
  there.mailgun.happened(DOMAIN, late);
  await there.run(TASK);
  const [row] = await there.deliveries();
  expect(await there.deliver(late)).toEqual({ status: 'duplicate', job_id: row?.job_id });
  expect(await there.count('process_webhook')).toBe(1);
});

test('an event whose webhook came is left alone; one whose webhook died after its claim becomes that very job', async () => {
  const there = world();
  const [came, died] = [there.event(HOUR), there.event(HOUR)];
  const { job_id: first } = await there.deliver(came);
  const { job_id: lost } = await there.deliver(died);
  await there.bench.db.run({ name: 'test', sql: `DELETE FROM jobs WHERE id = ?1`, params: [lost] });
  there.mailgun.happened(DOMAIN, came, died);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 2, recovered: 1 } });
  expect((await there.bench.job(lost)).state).toBe('SUCCESS');
  expect((await there.bench.job(first)).state).toBe('SUCCESS');
  expect(await there.count('process_webhook')).toBe(2);
});

test('events younger than half an hour are left to the next run, and other kinds of event to their webhooks', async () => {
  const there = world();
  there.mailgun.happened(DOMAIN, there.event(29 * MINUTE), there.event(HOUR, 'opened'));
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 0, recovered: 0 } });
  there.clock.move(2 * MINUTE);
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 1, recovered: 1 } });
});

test('the first run looks back a day, each later one to where the last had come and ten minutes more, none over six days', async () => {
  const there = world();
  const begins = (): number[] =>
    there.mailgun.requests.splice(0).map((request) => Number(/begin=(\d+)/.exec(request)?.[1]) * 1_000);
  const from = async (): Promise<number> => {
    const now = there.clock.now();
    await there.run(TASK);
    return Math.round((now - (begins()[0] ?? 0)) / MINUTE);
  };
  expect(await from()).toBe(24 * 60 + 10);
  there.clock.move(HOUR);
  expect(await from()).toBe(60 + 30 + 10);
  there.clock.move(20 * DAY);
  expect(await from()).toBe(6 * 24 * 60 + 10);
});

test('a run that dies after its first page is repeated from there, and makes nothing twice', async () => {
  const there = world();
  const events = Array.from({ length: 320 }, (_, at) => there.event(20 * HOUR - at * MINUTE));
  const [first, last] = [events[0], events[319]];
  await accept(
    there,
    events.filter((each) => each !== first && each !== last),
  );
  there.mailgun.happened(DOMAIN, ...events);
  const handle = there.mailgun.handle.bind(there.mailgun);
  there.mailgun.handle = (request) =>
    new URL(request.url).pathname.endsWith('/events') ? handle(request) : new Response('', { status: 502 });
  expect((await there.run(TASK)).state).toBe('RETRY');
  expect(await there.count('process_webhook')).toBe(1);

  there.mailgun.handle = handle;
  there.mailgun.requests.length = 0;
  // What was durable is behind the mark: the 300th event, less the overlap.
  expect(resultOf(await there.run(TASK))).toMatchObject({ totals: { looked_at: 31, recovered: 1 } });
  expect(await there.count('process_webhook')).toBe(2);
  expect((await there.deliveries()).map(({ verdict, event_id: id }) => [verdict, id])).toEqual([
    ['recovered', first?.id],
    ['recovered', last?.id],
  ]);
});

test.each(['deliveries', 'accept', 'recovered', 'mark'])(
  'a database that fails at `%s` costs no event: the mark stays, and the next run makes good what is left',
  async (statement) => {
    const there = world();
    const lost = there.event(HOUR);
    there.mailgun.happened(DOMAIN, lost);
    let armed = true;
    const enqueued = there.bench.enqueue({ task: TASK });
    const { id } = await enqueued;
    there.bench.db.fault = (names) => {
      if (!armed || names !== statement) return undefined;
      armed = false;
      return { when: 'before', error: outage() };
    };
    await there.bench.drain();
    expect(armed).toBe(false);
    const failed = (await there.bench.job(id)).state === 'RETRY';
    // A row that was not made at once is carried by its message.
    expect(failed).toBe(statement !== 'accept');
    await there.run(TASK);
    expect((await there.deliveries()).map(({ verdict, event_id }) => [verdict, event_id])).toEqual([
      ['recovered', lost.id],
    ]);
    expect(await there.count('process_webhook')).toBe(1);
  },
);

test('the key goes to no other host than the one that was set, whatever the next page is said to be', async () => {
  const there = world([DOMAIN, OTHER]);
  there.mailgun.happened(DOMAIN, there.event(HOUR));
  there.mailgun.happened(OTHER, there.event(HOUR));
  there.mailgun.nextOrigin = 'http://mailgun.test.evil.example';
  const job = await there.run(TASK);
  expect([job.state, job.error?.code]).toEqual(['FAILURE', 'foreign_page']);
  expect(job.error?.message).toContain("Mailgun's events of mg.example.com: its next page is on another host");
  expect(there.mailgun.requests).toHaveLength(2);
});

test('a domain that is refused keeps no other from being looked at, and the job says what to do', async () => {
  const there = world(['not-ours.example', DOMAIN]);
  there.mailgun.happened(DOMAIN, there.event(HOUR));
  const job = await there.run(TASK);
  expect([job.state, job.error?.code]).toEqual(['FAILURE', 'not_configured']);
  expect(job.error?.message).toMatch(/not-ours\.example: answered 404\. Does MAILGUN_API_KEY belong to/);
  expect(await there.count('process_webhook')).toBe(1);
});

test('told to wait, it waits for as long as it was told', async () => {
  const there = world([DOMAIN, OTHER]);
  there.mailgun.broken.set(DOMAIN, () => new Response('', { status: 429, headers: { 'retry-after': '900' } }));
  const before = there.clock.now();
  const job = await there.run(TASK);
  expect(job.state).toBe('RETRY');
  expect(Math.abs(job.due_at - before - 900_000)).toBeLessThan(5_000);
  expect(there.mailgun.requests).toHaveLength(1);
});

test.each([
  ['MAILGUN_API_KEY', undefined, 'MAILGUN_API_KEY is not set.'],
  ['MAILGUN_API_KEY', 'key-é', 'MAILGUN_API_KEY has characters in it that no header carries.'],
  ['MAILGUN_DOMAINS', undefined, 'MAILGUN_DOMAINS is not set.'],
  ['MAILGUN_DOMAINS', 'mg.example.com/../x', 'MAILGUN_DOMAINS: "mg.example.com/../x" is not one'],
  ['MAILGUN_BASE_URL', 'http://user:pass@mailgun.test', 'MAILGUN_BASE_URL is no http or https address'],
])('with %s as %j the job fails at once and says so', async (name, value, message) => {
  const there = world();
  Object.assign(there.bench.rt, { env: { ...there.bench.rt.env, [name]: value } });
  const job = await there.run(TASK);
  expect([job.state, job.error?.code]).toEqual(['FAILURE', 'not_configured']);
  expect(job.error?.message).toContain(message);
  expect(there.mailgun.requests).toEqual([]);
});
