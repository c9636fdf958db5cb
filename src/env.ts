// The bindings and settings the Worker is given by wrangler.toml, its secrets and `.dev.vars`.

import type { JobStream } from './durable/job-stream.ts';
import type { RateLimiter } from './durable/rate-limiter.ts';
import type { ReplayGuard } from './durable/replay-guard.ts';
import type { SemaphoreObject } from './durable/semaphore.ts';
import type { WatchdogObject } from './durable/watchdog.ts';

export interface Env {
  readonly DB: D1Database;
  readonly RESULTS: KVNamespace;
  readonly OBJECTS: R2Bucket;
  readonly REPLAY_GUARD: DurableObjectNamespace<ReplayGuard>;
  readonly RATE_LIMITER: DurableObjectNamespace<RateLimiter>;
  readonly SEMAPHORE: DurableObjectNamespace<SemaphoreObject>;
  readonly JOB_STREAM: DurableObjectNamespace<JobStream>;
  readonly WATCHDOG: DurableObjectNamespace<WatchdogObject>;
  readonly [producer: `QUEUE_${string}`]: Queue;

  /** Opens every route. Without it every authenticated route answers 503. */
  readonly ADMIN_API_KEY?: string;
  readonly GITHUB_WEBHOOK_SECRET?: string;
  /** The secret before the last rotation: accepted beside the current one. */
  readonly GITHUB_WEBHOOK_SECRET_PREVIOUS?: string;
  /** Lists deliveries of webhooks and asks for them again: the scope `admin:repo_hook` or `admin:org_hook`. */
  readonly GITHUB_TOKEN?: string;
  /** The webhooks whose missed deliveries are recovered: `repos/acme/site/hooks/123,orgs/acme/hooks/9`. */
  readonly GITHUB_HOOKS?: string;
  /** https://api.github.com where it is not set. */
  readonly GITHUB_BASE_URL?: string;
  /** Reads events of mail; not the key that signs webhooks. */
  readonly MAILGUN_API_KEY?: string;
  /** The domains whose missed events are recovered: `mg.example.com,mail.example.org`. */
  readonly MAILGUN_DOMAINS?: string;
  /** https://api.mailgun.net where it is not set; https://api.eu.mailgun.net in Europe. */
  readonly MAILGUN_BASE_URL?: string;
  readonly MAILGUN_SIGNING_KEY?: string;
  readonly MAILGUN_SIGNING_KEY_PREVIOUS?: string;
  /** How long after its signature a delivery of Mailgun's may come, in hours; 12 where it is not set, at most 144. */
  readonly MAILGUN_WINDOW_HOURS?: string;
  readonly SLACK_SIGNING_SECRET?: string;
  readonly SLACK_SIGNING_SECRET_PREVIOUS?: string;
  /** Base64, with or without `whsec_`, of both schemes; several with commas, since each webhook has its own. */
  readonly OPENPHONE_SIGNING_KEY?: string;
  readonly OPENPHONE_SIGNING_KEY_PREVIOUS?: string;
  /** How old a delivery of OpenPhone's legacy scheme may be, in seconds; 300 where it is not set, at most 6 days. */
  readonly OPENPHONE_WINDOW_SECONDS?: string;
  /** Signs callbacks: `whsec_` and base64, or base64 alone. Without it none is sent. */
  readonly CALLBACK_SIGNING_SECRET?: string;
  /** The secret before the last rotation: callbacks carry a signature by it, too. */
  readonly CALLBACK_SIGNING_SECRET_PREVIOUS?: string;
  /** `host` or `host:port`, comma-separated: may be requested although they are not public. For local use. */
  readonly CALLBACK_ALLOW_HOSTS?: string;
  /** Who says which addresses a name has before it is requested; Cloudflare's resolver where it is not set. */
  readonly DOH_URL?: string;
  /** How large the database may become, in MB; 10,000 where it is not set. The Free plan ends at 500. */
  readonly DATABASE_LIMIT_MB?: string;
  /** `1` registers the `debug.*` tasks and their routes. */
  readonly DEBUG_TASKS?: string;
  /** Where `debug.effect` says each run before it writes its row, for whoever counts outside the Worker. */
  readonly DEBUG_EFFECTS_URL?: string;
  /** A new value each time the local runner starts: its queues begin empty, so every open row is owed a message. */
  readonly BOOT_ID?: string;
}

export function debugTasksOn(env: Env): boolean {
  return env.DEBUG_TASKS === '1' || env.DEBUG_TASKS === 'true';
}
