// /api/v1/debug, only where DEBUG_TASKS is on: what the debug tasks did, and what the database was asked.

import { Hono } from 'hono';
import { query as select } from '../jobs/database.ts';
import { countEffects, readEffects } from '../store/debug-effects.ts';
import { z } from 'zod';
import type { App } from './app.ts';
import { needs } from './auth.ts';
import { problem } from './problems.ts';
import { readQuery } from './query.ts';

export const debugRoutes = new Hono<App>();

debugRoutes.get('/effects', needs('admin'), async (c) => {
  const query = readQuery(c, { prefix: z.string().default('') });
  if (!query.ok) return problem(query.failure);
  return c.json(readEffects(await select(c.get('rt'), countEffects(query.value.prefix))));
});

/** Statements, rows written and rows read by this isolate since it started, by what they were for. */
debugRoutes.get('/statements', needs('admin'), (c) =>
  c.json(
    Object.fromEntries(
      [...c.get('rt').isolate.counts].map(([name, { statements, rowsWritten, rowsRead }]) => [
        name,
        { statements, rows_written: rowsWritten, rows_read: rowsRead },
      ]),
    ),
  ),
);
