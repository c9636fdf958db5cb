// GET /health: each binding is really asked, and has two seconds to answer.

import type { Context } from 'hono';
import { within } from '../core/deadline.ts';
import { base64Key } from '../core/hmac.ts';
import { PROBE_DEADLINE_MS } from '../core/limits.ts';
import { isFull, roomOf } from '../jobs/room.ts';
import type { Env } from '../env.ts';
import { QUEUE_NAMES } from '../queues.ts';
import { keysOf } from '../webhooks/provider.ts';
import { PROVIDERS } from '../webhooks/providers.ts';
import type { App } from './app.ts';

interface Check {
  readonly status: 'healthy' | 'unhealthy';
  readonly ms: number;
  readonly detail?: string;
}

export async function health(c: Context<App>): Promise<Response> {
  const { db, queues, replay, rates, locks, streams, watchdog, clock } = c.get('rt');
  const probes: Record<string, () => Promise<unknown>> = {
    database: async () => {
      await db.run({ name: 'probe', sql: 'SELECT count(*) FROM marks', params: [] });
      if (await isFull(c.get('rt'))) throw new Error('The database is full: no more jobs are accepted.');
    },
    queues: () => Promise.all(QUEUE_NAMES.map((queue) => queues.backlog(queue))),
    results: () => c.env.RESULTS.get('health-probe'),
    objects: () => c.env.OBJECTS.head('health-probe'),
    replay_guard: () =>
      replay.claim('health', { token: 'probe', jobId: 'probe', digest: '', ttlMs: 60_000, now: clock.now() }),
    job_stream: () => streams.latest('health-probe'),
    rate_limiter: () => rates.settle('health', { limit: 1, periodMs: 1_000 }, [], []),
    semaphore: () => locks.standing('health', 'health-probe'),
    watchdog: () => watchdog.lastBeatAt(),
  };
  const checks = Object.fromEntries(
    await Promise.all(
      Object.entries(probes).map(async ([name, probe]) => [name, await check(c, name, probe)] as const),
    ),
  );
  const healthy = Object.values(checks).every(({ status }) => status === 'healthy');
  return c.json(
    { status: healthy ? 'healthy' : 'unhealthy', checks, settings: settingsJson(c.env), database: roomJson(c) },
    healthy ? 200 : 503,
    healthy ? {} : { 'retry-after': '10' },
  );
}

/** What is missing makes nothing unhealthy: it is not used. */
function settingsJson(env: Env): Record<string, 'configured' | 'not_configured'> {
  const isSet = (...values: readonly (string | undefined)[]): boolean =>
    values.every((each) => each !== undefined && each !== '');
  const there: Record<string, boolean> = {
    ...Object.fromEntries(PROVIDERS.map((each) => [`webhooks.${each.name}`, keysOf(each, env).length > 0])),
    callbacks: base64Key(env.CALLBACK_SIGNING_SECRET) !== undefined,
    'recovery.github': isSet(env.GITHUB_TOKEN, env.GITHUB_HOOKS),
    'recovery.mailgun': isSet(env.MAILGUN_API_KEY, env.MAILGUN_DOMAINS),
  };
  return Object.fromEntries(Object.entries(there).map(([name, set]) => [name, set ? 'configured' : 'not_configured']));
}

function roomJson(c: Context<App>): Record<string, number> {
  const { bytes, limitBytes } = roomOf(c.get('rt'));
  return { bytes, limit_bytes: limitBytes };
}

async function check(c: Context<App>, name: string, probe: () => Promise<unknown>): Promise<Check> {
  const { clock } = c.get('rt');
  const from = clock.now();
  try {
    const answer = await within(clock, PROBE_DEADLINE_MS, probe());
    const ms = clock.now() - from;
    if (answer.inTime) return { status: 'healthy', ms };
    return { status: 'unhealthy', ms, detail: `${name} did not answer within ${String(PROBE_DEADLINE_MS)} ms` };
  } catch (error) {
    return {
      status: 'unhealthy',
      ms: clock.now() - from,
      detail: error instanceof Error ? error.message : String(error),
    };
  }
}
