// The Worker: HTTP in, queues in, time in, and the Durable Object classes. No logic.

import { consume } from './consumers/batch.ts';
import { SCHEDULES } from './cron/schedules.ts';
import { beatAndTick, takeOver } from './cron/watchdog.ts';
import type { Env } from './env.ts';
import { SemaphoreObject } from './durable/semaphore.ts';
import { WatchdogObject } from './durable/watchdog.ts';
import { wakeTurns } from './jobs/park.ts';
import { runtimesWith } from './jobs/runtime.ts';
import { createApp } from './routes/app.ts';
import { registryFor } from './tasks/index.ts';

const runtimeOf = runtimesWith(registryFor, SCHEDULES);
const app = createApp(runtimeOf);

export default {
  fetch: (request, env, context) => app.fetch(request, env, context),
  queue: (batch, env, context) => consume(runtimeOf(env, context), batch),
  scheduled: (_controller, env, context) => beatAndTick(runtimeOf(env, context), env.BOOT_ID),
} satisfies ExportedHandler<Env>;

export { JobStream } from './durable/job-stream.ts';
export { RateLimiter } from './durable/rate-limiter.ts';
export { ReplayGuard } from './durable/replay-guard.ts';

export class Semaphore extends SemaphoreObject {
  constructor(state: DurableObjectState, env: Cloudflare.Env & Env) {
    super(state, env, (turns, line) => wakeTurns(runtimeOf(env, state), turns, line));
  }
}

export class Watchdog extends WatchdogObject {
  constructor(state: DurableObjectState, env: Cloudflare.Env & Env) {
    super(state, env, (silence) => takeOver(runtimeOf(env, state), env.BOOT_ID, silence));
  }
}
