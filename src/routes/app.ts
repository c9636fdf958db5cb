// HTTP in: which route is where, who may pass, and what becomes of an error nobody expected.

import { Hono } from 'hono';
import { routePath } from 'hono/route';
import { DatabaseError } from '../core/ports.ts';
import { debugTasksOn, type Env } from '../env.ts';
import { logError } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { listAlerts } from './alerts.ts';
import { listAudit } from './audit.ts';
import { authenticated, needs, type Principal } from './auth.ts';
import { deadLetterRoutes } from './dead-letters.ts';
import { deliveryRoutes } from './deliveries.ts';
import { debugRoutes } from './debug.ts';
import { health } from './health.ts';
import { jobRoutes } from './jobs.ts';
import { DATABASE_SILENT, problem } from './problems.ts';
import { asksInBody } from './query.ts';
import { queueRoutes } from './queues.ts';
import { revokeRoutes } from './revoke.ts';
import { scheduleRoutes } from './schedules.ts';
import { streamRoutes } from './stream.ts';
import { listTasks } from './tasks.ts';
import { receiveWebhook } from './webhooks.ts';

export interface App {
  Bindings: Env;
  Variables: { rt: Runtime; principal: Principal };
}

export function createApp(runtimeOf: (env: Env, context: ExecutionContext) => Runtime): Hono<App> {
  const app = new Hono<App>();
  app.use(async (c, next) => {
    // Hono types its own context; on Workers it is the platform's.
    c.set('rt', runtimeOf(c.env, c.executionCtx as ExecutionContext));
    return next();
  });
  app.get('/health/live', (c) => c.json({ status: 'ok' }));
  app.post('/webhooks/:provider', receiveWebhook);

  const closed = new Hono<App>();
  closed.use(authenticated);
  closed.use('/api/v1/*', asksInBody);
  closed.get('/health', health);
  closed.route('/api/v1/jobs', jobRoutes);
  closed.route('/api/v1/jobs', revokeRoutes);
  closed.route('/api/v1/queues', queueRoutes);
  closed.route('/api/v1/schedules', scheduleRoutes);
  closed.get('/api/v1/alerts', needs('jobs:read'), listAlerts);
  closed.get('/api/v1/audit', needs('admin'), listAudit);
  closed.route('/api/v1/jobs', streamRoutes);
  closed.get('/api/v1/tasks', listTasks);
  closed.route('/api/v1/dead-letters', deadLetterRoutes);
  closed.route('/api/v1/deliveries', deliveryRoutes);
  closed.use('/api/v1/debug/*', async (c, next) => (debugTasksOn(c.env) ? next() : c.notFound()));
  closed.route('/api/v1/debug', debugRoutes);
  app.route('/', closed);

  app.notFound((c) => problem({ kind: 'not_found', what: `route ${c.req.method} ${c.req.path}` }));
  app.onError((error, c) => {
    logError('request.failed', error, { method: c.req.method, route: routePath(c) });
    return problem(error instanceof DatabaseError && error.kind === 'outage' ? DATABASE_SILENT : { kind: 'internal' });
  });
  return app;
}
