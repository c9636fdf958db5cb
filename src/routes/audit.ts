// /api/v1/audit: who did what to many jobs at once.

import type { Context } from 'hono';
import { formatInstant } from '../core/instant.ts';
import { query as select } from '../jobs/database.ts';
import { readDeed, selectDeeds } from '../store/audit.ts';
import type { App } from './app.ts';
import { problem } from './problems.ts';
import { page, readQuery } from './query.ts';

export async function listAudit(c: Context<App>): Promise<Response> {
  const query = readQuery(c, page);
  if (!query.ok) return problem(query.failure);
  const { limit, cursor } = query.value;
  const deeds = (await select(c.get('rt'), selectDeeds(cursor, limit))).map(readDeed);
  const items = deeds.map(({ id, at, actor, action, target, detail }) => ({
    id,
    at: formatInstant(at),
    actor,
    action,
    target,
    detail,
  }));
  return c.json({ items, next_cursor: items.length === limit ? (items.at(-1)?.id ?? null) : null });
}
