// Before each file of worker tests: the database as the migrations make it.

import { applyD1Migrations } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import type { D1Migration } from '@cloudflare/vitest-pool-workers';

declare global {
  // eslint-disable-next-line @typescript-eslint/no-namespace -- how workers-types lets a project name its bindings
  namespace Cloudflare {
    interface Env {
      DB: D1Database;
      MIGRATIONS: D1Migration[];
    }
  }
}

await applyD1Migrations(env.DB, env.MIGRATIONS);
