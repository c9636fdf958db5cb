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
const up = Promise.withResolvers<Product>();
/** Sent while there was nobody to take it in. */
const whileStopped = randomUUID();

beforeAll(async () => {
  github.sent(HOOK, { guid: whileStopped, at: Date.now() - HOUR, statusCode: 502 });
  // The first tick asks before anybody was told that the product is ready.
  github.send = async (guid) => deliver(await up.promise, guid);
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
  up.resolve(product);
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

async function totalsOf(task: string): Promise<unknown> {
  const job = await readJob(running(), await enqueue(running(), task, {}), 30);
  expect([job.state, job.error]).toEqual(['SUCCESS', null]);
  return z.looseObject({ totals: z.unknown() }).parse(job.result).totals;
}

test('what was sent while nobody listened is asked for by the hour, comes again, and is one job', async () => {
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

test('an event of Mailgun that no webhook told of is a job by the hour, and by no later run again', async () => {
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

test('an hour is one job of each task, however many ticks there were', async () => {
  const hourly = (await listJobs(running())).filter(({ source }) => source === 'hourly');
  const tasks = hourly.map(({ task }) => task).sort();
  // The tests may have gone on into another hour.
  expect([...new Set(tasks)]).toEqual(['reconcile_mailgun_events', 'recover_github_deliveries']);
  expect(tasks.length).toBeLessThanOrEqual(4);
});
