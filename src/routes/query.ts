// What a request asks for in its URL: `?limit=`, `?cursor=` and the filters of a list.

import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import { z } from 'zod';
import { isId } from '../core/ids.ts';
import { instant } from '../core/instant.ts';
import { DEFAULT_PAGE, MAX_FAULTS, MAX_PAGE } from '../core/limits.ts';
import { STATES } from '../core/states.ts';
import { faultsOf, queueName } from '../jobs/request.ts';
import type { App } from './app.ts';
import type { Read } from './body.ts';
import { problem } from './problems.ts';

const id = z.string().refine(isId, 'is no id');
export const page = {
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(DEFAULT_PAGE),
  cursor: id.optional(),
};

/** By what jobs are chosen, in a query or a body. */
export const jobFilters = {
  state: z.enum(STATES).optional(),
  task: z.string().optional(),
  queue: queueName.optional(),
  tag: z.string().optional(),
  since: instant.optional(),
  until: instant.optional(),
  q: z.string().min(1).max(200).optional(),
};

/** The query of a list that is short and goes by names. */
export const namedPage = { limit: page.limit, cursor: z.string().optional() };

/** The names of one page of it: those after the one that the cursor is. Nothing comes after a name that is not there. */
export function pageOfNames<Name extends string>(
  names: readonly Name[],
  { limit, cursor }: { readonly limit: number; readonly cursor?: string | undefined },
): { readonly names: readonly Name[]; readonly next: string | null } {
  const at = names.findIndex((name) => name === cursor);
  const from = cursor === undefined ? 0 : at === -1 ? names.length : at + 1;
  const shown = names.slice(from, from + limit);
  return { names: shown, next: from + limit < names.length ? (shown.at(-1) ?? null) : null };
}

/**
 * Refuses a POST or PATCH that asks for something in its query. Nobody would read it there: `?dry_run=true` would revoke in
 * earnest, and a pause `?until=60` would have no end.
 */
export const asksInBody = createMiddleware<App>(async (c, next) => {
  const { method } = c.req;
  const names = method === 'POST' || method === 'PATCH' ? Object.keys(c.req.query()) : [];
  if (names.length === 0) return next();
  const message = `is unknown here: what a ${method} asks for goes into its body`;
  return problem({ kind: 'invalid', errors: names.slice(0, MAX_FAULTS).map((path) => ({ path, message })) });
});

/** The query of a request by its schema. What is unknown or given twice is refused, so that no filter is left out silently. */
export function readQuery<Shape extends z.ZodRawShape>(c: Context, shape: Shape): Read<z.infer<z.ZodObject<Shape>>> {
  const repeated = Object.entries(c.req.queries()).filter(([, values]) => values.length > 1);
  if (repeated.length > 0) {
    const errors = repeated
      .slice(0, MAX_FAULTS)
      .map(([path, values]) => ({ path, message: `is given ${String(values.length)} times` }));
    return { ok: false, failure: { kind: 'invalid', errors } };
  }
  const parsed = z.strictObject(shape).safeParse(c.req.query());
  if (parsed.success) return { ok: true, value: parsed.data };
  return { ok: false, failure: { kind: 'invalid', errors: faultsOf(parsed.error) } };
}
