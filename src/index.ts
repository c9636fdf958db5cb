// The Worker: HTTP in, queues in, time in, and the Durable Object classes. No logic.

import { consume } from './consumers/batch.ts';
import { tick } from './cron/tick.ts';
import type { Env } from './env.ts';
import { SemaphoreObject } from './durable/semaphore.ts';
import { wakeTurns } from './jobs/park.ts';
import { runtimesWith } from './jobs/runtime.ts';
import { createApp } from './routes/app.ts';
import { registryFor } from './tasks/index.ts';

const runtimeOf = runtimesWith(registryFor);
const app = createApp(runtimeOf);

export default {
  fetch: (request, env, context) => app.fetch(request, env, context),
  queue: (batch, env, context) => consume(runtimeOf(env, context), batch),
  scheduled: (_controller, env, context) => tick(runtimeOf(env, context), env.BOOT_ID),
} satisfies ExportedHandler<Env>;

export { JobStream } from './durable/job-stream.ts';
export { RateLimiter } from './durable/rate-limiter.ts';
export { ReplayGuard } from './durable/replay-guard.ts';

export class Semaphore extends SemaphoreObject {
  constructor(state: DurableObjectState, env: Cloudflare.Env & Env) {
    super(state, env, (turns, line) => wakeTurns(runtimeOf(env, state), turns, line));
  }
}
