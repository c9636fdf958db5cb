// /api/v1/alerts: what people should look at.

import type { Context } from 'hono';
import { z } from 'zod';
import { formatInstant, instantOrNull } from '../core/instant.ts';
import { page as pageOf } from '../jobs/inspect.ts';
import { ALERT_STATES, readAlert, selectAlerts, type AlertRow } from '../store/alerts.ts';
import type { App } from './app.ts';
import { problem } from './problems.ts';
import { page, readQuery } from './query.ts';

const filters = { ...page, state: z.enum(ALERT_STATES).optional(), kind: z.string().optional() };

export async function listAlerts(c: Context<App>): Promise<Response> {
  const query = readQuery(c, filters);
  if (!query.ok) return problem(query.failure);
  const { limit, cursor: before, ...filter } = query.value;
  const { items, next } = await pageOf(c.get('rt'), selectAlerts({ ...filter, before }, limit), limit, readAlert);
  return c.json({ items: items.map(alertJson), next_cursor: next });
}

function alertJson({ v: _, opened_at, seen_at, times, resolved_at, ...alert }: AlertRow): Record<string, unknown> {
  return {
    ...alert,
    state: resolved_at === null ? 'open' : 'resolved',
    opened_at: formatInstant(opened_at),
    seen_at: formatInstant(seen_at),
    times,
    resolved_at: instantOrNull(resolved_at),
  };
}
