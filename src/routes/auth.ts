// Who is calling, and what they may do.

import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import { sameSecret } from '../core/digest.ts';
import type { Env } from '../env.ts';
import type { App } from './app.ts';
import { problem, type Failure } from './problems.ts';

export const SCOPES = ['jobs:write', 'jobs:read', 'payload:read', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

export interface Principal {
  /** Whose idempotency keys these are. */
  readonly owner: string;
  readonly scopes: ReadonlySet<Scope>;
}

/** Refuses every request without a good key. Everything routed below it is closed by default. */
export const authenticated = createMiddleware<App>(async (c, next) => {
  const found = authenticate(c.req.raw.headers, c.env);
  if ('kind' in found) return problem(found);
  c.set('principal', found);
  return next();
});

/** Refuses a caller without the scope. `admin` has them all. */
export function needs(scope: Scope): ReturnType<typeof createMiddleware<App>> {
  return createMiddleware<App>(async (c, next) =>
    may(c.get('principal'), scope) ? next() : problem({ kind: 'forbidden', scope }),
  );
}

export function may({ scopes }: Principal, scope: Scope): boolean {
  return scopes.has(scope) || scopes.has('admin');
}

/** Whether the caller is shown what jobs were given and what they made of it. */
export function showsPayload(c: Context<App>): boolean {
  return may(c.get('principal'), 'payload:read');
}

function authenticate(headers: Headers, env: Env): Principal | Failure {
  const expected = env.ADMIN_API_KEY;
  if (expected === undefined || expected === '') {
    return { kind: 'not_configured', detail: 'ADMIN_API_KEY is not set, so nobody can be let in.' };
  }
  const given = /^Bearer\s+(\S+)$/i.exec(headers.get('authorization') ?? '')?.[1] ?? headers.get('x-api-key');
  if (given === null || !sameSecret(given, expected)) return { kind: 'unauthorized' };
  return { owner: 'admin', scopes: new Set(SCOPES) };
}
