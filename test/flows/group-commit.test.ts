import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { mulberry32 } from '../mulberry32.ts';
import {
  countEffects,
  countStatements,
  listJobs,
  side,
  startProduct,
  until,
  type JobView,
  type Product,
} from './product.ts';

const JOBS = 1_000;
const IN_FLIGHT = 32;
const SEED = 20_261_120;

let product: Product;

beforeAll(async () => {
  product = await startProduct();
});
afterAll(() => product.stop());

interface Sent {
  readonly key: string;
  /** The client hangs up so long after its request was written; never where it is undefined. */
  readonly hangsUpAfterMs: number | undefined;
}

type Heard = { readonly kind: 'answer'; readonly status: number; readonly id: string } | { readonly kind: 'hung up' };

test('jobs sent at the same time share statements, and not one of them is lost or run twice, whoever hangs up', async () => {
  const random = mulberry32(SEED);
  const sent: readonly Sent[] = Array.from({ length: JOBS }, (_, n) => ({
    key: `group-${String(n)}`,
    hangsUpAfterMs: random() < 1 / 3 ? random() * 5 : undefined,
  }));
  const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });
  const heard = new Map<string, Heard>();
  await side(sent, IN_FLIGHT, async (each) => {
    heard.set(each.key, await send(agent, each));
  });
  agent.destroy();

  const jobs = await settled();
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const effects = await countEffects(product, 'group-');

  const answers = [...heard].flatMap(([key, each]) => (each.kind === 'answer' ? [{ key, ...each }] : []));
  expect(answers.filter(({ status }) => status !== 202)).toEqual([]);
  const stayed = sent.filter(({ hangsUpAfterMs }) => hangsUpAfterMs === undefined);
  expect(stayed.filter(({ key }) => heard.get(key)?.kind !== 'answer')).toEqual([]);
  expect(answers.filter(({ key, id }) => keyOf(byId.get(id)) !== key)).toEqual([]);

  // Answered or not: what has a row succeeded and ran once, and what has none never ran.
  expect(jobs.filter(({ state }) => state !== 'SUCCESS')).toEqual([]);
  expect(sorted(effects.keys())).toEqual(sorted(jobs.map(keyOf)));
  expect([...effects].filter(([, runs]) => runs !== 1)).toEqual([]);

  const statements = await countStatements(product, 'accept');
  // Straight to the terminal: vitest keeps what a passed test logs to itself.
  process.stdout.write(
    `group commit: ${String(jobs.length)} rows of ${String(JOBS)} requests (${String(answers.length)} answered) ` +
      `in ${String(statements)} accept statements\n`,
  );
  expect(statements).toBeGreaterThan(0);
  expect(statements).toBeLessThan(JOBS / 2);
});

/** Every row, once all are final and no new one has come for three seconds. */
async function settled(): Promise<readonly JobView[]> {
  let seen = -1;
  return until('every job is final', 90_000, async () => {
    const jobs = await listJobs(product);
    if (jobs.length === seen && jobs.every(({ ready }) => ready)) return jobs;
    seen = jobs.length;
    await sleep(3_000);
    return undefined;
  });
}

function keyOf(job: JobView | undefined): string {
  return z.object({ key: z.string() }).catch({ key: '' }).parse(job?.input).key;
}

function sorted(texts: Iterable<string>): readonly string[] {
  return [...texts].sort();
}

function send(agent: Agent, { key, hangsUpAfterMs }: Sent): Promise<Heard> {
  const body = JSON.stringify({ task: 'debug.effect', input: { key } });
  return new Promise((resolve, reject) => {
    const outgoing = request(`${product.address}/api/v1/jobs`, {
      method: 'POST',
      agent: hangsUpAfterMs === undefined ? agent : false,
      headers: {
        authorization: `Bearer ${product.key}`,
        'content-type': 'application/json',
        'content-length': String(body.length),
      },
      timeout: 60_000,
    });
    let hungUp = false;
    outgoing.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => {
        const { id } = z.looseObject({ id: z.string() }).catch({ id: '' }).parse(JSON.parse(text));
        resolve({ kind: 'answer', status: response.statusCode ?? 0, id });
      });
      response.on('error', () => {
        if (hungUp) resolve({ kind: 'hung up' });
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${key}: no answer in 60 s`)));
    outgoing.on('error', (error) => {
      if (hungUp) resolve({ kind: 'hung up' });
      else reject(error);
    });
    outgoing.on('close', () => {
      if (hungUp) resolve({ kind: 'hung up' });
    });
    outgoing.end(body, () => {
      if (hangsUpAfterMs === undefined) return;
      setTimeout(() => {
        hungUp = true;
        outgoing.destroy();
      }, hangsUpAfterMs);
    });
  });
}
