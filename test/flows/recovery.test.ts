import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { FakeGithub } from '../fakes/github.ts';
import { listen, type Listening } from '../fakes/listen.ts';
import { FakeMailgun, type MailEvent } from '../fakes/mailgun.ts';
import { enqueue, listJobs, readJob, sendGithub, startProduct, until, type Product } from './product.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const HOOK = 'repos/acme/site/hooks/1';
const DOMAIN = 'mg.example.com';

const github = new FakeGithub(HOOK);
const mailgun = new FakeMailgun(DOMAIN);
const servers: Listening[] = [];
let product: Product | undefined;
/** Sent while there was nobody to take it in. */
const whileStopped = randomUUID();

beforeAll(async () => {
  github.sent(HOOK, { guid: whileStopped, at: Date.now() - HOUR, statusCode: 502 });
  github.send = async (guid) => deliver(running(), guid);
  mailgun.happened(DOMAIN, mailEvent('lost'));
  const [hub, gun] = [await listen((r) => github.handle(r)), await listen((r) => mailgun.handle(r))];
  servers.push(hub, gun);
  product = await startProduct({
    env: {
      GITHUB_TOKEN: github.token,
      GITHUB_HOOKS: HOOK,
      GITHUB_BASE_URL: hub.address,
      MAILGUN_API_KEY: mailgun.key,
      MAILGUN_DOMAINS: DOMAIN,
      MAILGUN_BASE_URL: gun.address,
    },
  });
});

afterAll(async () => {
  await product?.kill();
  await Promise.all(servers.map((each) => each.close()));
});

async function deliver(to: Product, guid: string): Promise<number> {
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify({ ref: 'refs/heads/main', guid })));
  return (await sendGithub(to, 'push', body, guid)).status;
}

function mailEvent(id: string): MailEvent {
  return { id, event: 'delivered', timestamp: (Date.now() - HOUR) / 1_000, recipient: 'a@example.net' };
}

function running(): Product {
  if (product === undefined) throw new Error('The product is not started.');
  return product;
}

const page = z.object({
  items: z.array(
    z.looseObject({ event_id: z.string().nullable(), verdict: z.string(), job_id: z.string().nullable() }),
  ),
});

async function verdicts(eventId: string): Promise<readonly string[]> {
  const { body } = await running().get(`/api/v1/deliveries?event_id=${eventId}`);
  return page
    .parse(body)
    .items.map(({ verdict }) => verdict)
    .sort();
}

/** Does what the tick does at the full hour. */
async function runSchedule(name: string): Promise<void> {
  const { status, body } = await running().post(`/api/v1/schedules/${name}/run`);
  expect([status, body]).toMatchObject([202, { task: name }]);
}

async function totalsOf(task: string): Promise<unknown> {
  const job = await readJob(running(), await enqueue(running(), task, {}), 30);
  expect([job.state, job.error]).toEqual(['SUCCESS', null]);
  return z.looseObject({ totals: z.unknown() }).parse(job.result).totals;
}

test('what was sent while nobody listened is asked for by its schedule, comes again, and is one job', async () => {
  await runSchedule('recover_github_deliveries');
  await until('the delivery to have become a job', 60_000, async () =>
    (await verdicts(whileStopped)).includes('accepted') ? true : undefined,
  );
  expect(github.asked).toEqual([whileStopped]);
  const made = await listJobs(running(), 'task=process_webhook');
  expect(made.filter(({ source }) => source === 'webhook:github')).toHaveLength(1);
  expect(await verdicts(whileStopped)).toEqual(['accepted', 'missed']);

  // The next run finds it to be a job, and what was accepted in time is not asked for, whatever GitHub was answered.
  const taken = randomUUID();
  expect(await deliver(running(), taken)).toBe(200);
  github.sent(HOOK, { guid: taken, at: Date.now() - 10 * MINUTE, statusCode: 504 });
  expect(await totalsOf('recover_github_deliveries')).toMatchObject({ missed: 0, asked: 0, recovered: 1 });
  expect(await verdicts(whileStopped)).toEqual(['accepted', 'recovered']);
  expect(github.asked).toEqual([whileStopped]);
});

test('an event of Mailgun that no webhook told of is a job by its schedule, and by no later run again', async () => {
  await runSchedule('reconcile_mailgun_events');
  await until('the event to have become a job', 60_000, async () =>
    (await verdicts('lost')).includes('recovered') ? true : undefined,
  );
  const before = mailgun.requests.length;
  mailgun.happened(DOMAIN, { ...mailEvent('second'), timestamp: (Date.now() - 35 * MINUTE) / 1_000 });
  expect(await totalsOf('reconcile_mailgun_events')).toMatchObject({ looked_at: 1, recovered: 1 });
  expect(mailgun.requests.length).toBeGreaterThan(before + 1);
  expect(await totalsOf('reconcile_mailgun_events')).toMatchObject({ recovered: 0 });
  const jobs = await listJobs(running(), 'task=process_webhook');
  expect(jobs.filter(({ source }) => source === 'webhook:mailgun')).toHaveLength(2);
});

test('both are schedules of the code that are run here, at the full hour, and their history has what was run', async () => {
  for (const name of ['recover_github_deliveries', 'reconcile_mailgun_events']) {
    const { body } = await running().get(`/api/v1/schedules/${name}`);
    expect(body).toMatchObject({ origin: 'code', state: 'active', cron: '0 * * * *', task: name });
    const { next_runs: next } = z.looseObject({ next_runs: z.array(z.string()) }).parse(body);
    expect(next.map((at) => new Date(at).getTime() % HOUR)).toEqual([0, 0, 0, 0, 0]);
    const history = await running().get(`/api/v1/schedules/${name}/history`);
    const { items } = z.object({ items: z.array(z.looseObject({ cause: z.string() })) }).parse(history.body);
    // The tests may have gone on into another hour.
    expect(items.filter(({ cause }) => cause === 'run')).toMatchObject([{ outcome: 'fired', state: 'SUCCESS' }]);
  }
});
