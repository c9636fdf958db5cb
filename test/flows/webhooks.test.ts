import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import {
  fromGithub,
  multipartFromMailgun,
  FIXTURES,
  SECRETS,
  send as signed,
  type Fixture,
} from '../worker/senders.ts';
import { answerOf, readJob, side, startProduct, until, type Answer, type Product } from './product.ts';

const EVENTS = 200;
const COPIES = 8;
/** Events under way at a time, all copies of each at once: 200 requests. */
const AT_ONCE = 25;
/** From a request to its answer, the slowest of all of them sent at once: Slack's own limit. */
const SLACK_WAITS_MS = 3_000;

let product: Product;

beforeAll(async () => {
  product = await startProduct({
    env: {
      GITHUB_WEBHOOK_SECRET: SECRETS.github[0],
      MAILGUN_SIGNING_KEY: SECRETS.mailgun[0],
      SLACK_SIGNING_SECRET: SECRETS.slack[0],
      OPENPHONE_SIGNING_KEY: SECRETS.openphone[0],
    },
  });
});
afterAll(() => product.stop());

interface Reply extends Answer {
  readonly ms: number;
}

async function deliver(request: Request): Promise<Reply> {
  const { method, headers } = request;
  const body = await request.arrayBuffer();
  const from = performance.now();
  const path = new URL(request.url).pathname;
  const response = await fetch(`${product.address}${path}`, {
    method,
    headers,
    body,
    signal: AbortSignal.timeout(60_000),
  });
  return { ...(await answerOf(response)), ms: performance.now() - from };
}

const verdict = z.object({ status: z.enum(['accepted', 'duplicate']), job_id: z.string() });

// Those that are answered in words, from every provider alike.
function eventsOf(count: number): readonly Fixture[] {
  const kinds = [
    'github/push/',
    'mailgun/docs-2026/',
    'slack/docs/event_callback',
    'openphone/2026-03-30/',
    'openphone/v4',
  ];
  return Array.from({ length: count }, (_, at) => {
    const of = FIXTURES.filter(({ file }) => file.startsWith(kinds[at % kinds.length] ?? ''));
    const fixture = of[Math.floor(at / kinds.length) % of.length];
    if (fixture === undefined) throw new Error('There is no such payload.');
    return fixture;
  });
}

test(`INV-F13 ${String(EVENTS)} events, ${String(COPIES)} copies of each at once: ${String(EVENTS)} jobs, and every answer names the job of its event`, async () => {
  const requests = await Promise.all(eventsOf(EVENTS).map((fixture) => signed(fixture)));
  const from = performance.now();
  const answers: (Reply & { readonly event: number })[] = [];
  await side([...requests.entries()], AT_ONCE, async ([event, request]) => {
    const copies = Array.from({ length: COPIES }, () => deliver(request.clone()));
    answers.push(...(await Promise.all(copies)).map((reply) => ({ event, ...reply })));
  });
  const seconds = (performance.now() - from) / 1_000;

  expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
  const named = new Map<number, Set<string>>();
  let accepted = 0;
  for (const { event, body } of answers) {
    const { status, job_id: id } = verdict.parse(body);
    if (status === 'accepted') accepted += 1;
    named.set(event, (named.get(event) ?? new Set()).add(id));
  }
  expect([...named.values()].map(({ size }) => size)).toEqual(Array.from({ length: EVENTS }, () => 1));
  const ids = new Set([...named.values()].flatMap((each) => [...each]));
  expect([ids.size, accepted]).toEqual([EVENTS, EVENTS]);
  await side([...ids], 16, async (id) => {
    expect(await readJob(product, id, 30)).toMatchObject({ state: 'SUCCESS', attempt: 1 });
  });
  const seen = await until('every delivery to be written down', 20_000, async () => {
    const all = await deliveries();
    return all.length === EVENTS * COPIES ? all : undefined;
  });
  expect(new Set(seen.map(({ job_id: id }) => id))).toEqual(ids);
  const slowest = Math.max(...answers.map(({ ms }) => ms));
  console.log(
    `${String(answers.length)} answers in ${seconds.toFixed(1)} s, the slowest after ${String(Math.round(slowest))} ms`,
  );
}, 120_000);

const page = z.object({
  items: z.array(z.looseObject({ job_id: z.string().nullable() })),
  next_cursor: z.string().nullable(),
});

async function deliveries(): Promise<readonly { job_id: string | null }[]> {
  const items: { job_id: string | null }[] = [];
  for (let cursor: string | null = ''; cursor !== null && items.length <= EVENTS * COPIES;) {
    const { body } = await product.get(`/api/v1/deliveries?limit=200${cursor === '' ? '' : `&cursor=${cursor}`}`);
    const read: z.infer<typeof page> = page.parse(body);
    items.push(...read.items);
    cursor = read.next_cursor;
  }
  return items;
}

test('Slack is answered within its three seconds; the largest body of GitHub’s and a mail with a film are taken', async () => {
  const slack = FIXTURES.find(({ file }) => file.includes('slash_command')) ?? { file: '', text: '' };
  const answer = await deliver(await signed(slack));
  expect([answer.status, answer.body, answer.ms < SLACK_WAITS_MS]).toEqual([200, '', true]);
  const large = JSON.stringify({ ref: 'refs/heads/main', filler: 'x'.repeat(25 * 1024 * 1024 - 100) });
  const pushed = await deliver(await fromGithub(large, 'push'));
  expect([pushed.status, pushed.ms < 10_000]).toEqual([200, true]);
  const { job_id: id } = verdict.parse(pushed.body);
  expect(await readJob(product, id, 30)).toMatchObject({
    state: 'SUCCESS',
    result: { event: 'push', bytes: large.length },
  });
  expect((await deliver(await fromGithub(`${large}${' '.repeat(200)}`, 'push'))).status).toBe(413);

  const form = new FormData();
  form.append('recipient', 'inbox@example.com');
  form.append('attachment-1', new File([new Uint8Array(24 * 1024 * 1024)], 'film.mov', { type: 'video/quicktime' }));
  const mail = await deliver(await multipartFromMailgun(form));
  const { input } = await readJob(product, verdict.parse(mail.body).job_id, 30);
  const sized = { filename: 'film.mov', content_type: 'video/quicktime', bytes: 24 * 1024 * 1024 };
  expect(input).toMatchObject({ event: 'inbound', webhook_data: { 'attachment-1': sized } });
});
