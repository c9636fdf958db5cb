// What the worker tests see of the outside world: URLs of a receiver that may be called, and what it was sent.

import { inject } from 'vitest';
import { seenUrl, urlOf, type Seen, type Step } from '../outside.ts';
import type { Bench } from './bench.ts';

const { host, canary } = inject('outside');

/** Settings under which the receiver may be called and says itself which addresses a name has. */
export const OUTSIDE = {
  CALLBACK_ALLOW_HOSTS: host,
  DOH_URL: `http://${host}/dns`,
  CALLBACK_SIGNING_SECRET: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
} as const;

export interface Receiver {
  readonly url: string;
  seen(): Promise<readonly Seen[]>;
}

/** A URL of its own that answers with these steps, one after another, the last one from then on. */
export function receiver(...steps: readonly Step[]): Receiver {
  return at(host, steps);
}

/** One on a host that may not be called. */
export function forbidden(): Receiver {
  return at(canary, []);
}

function at(where: string, steps: readonly Step[]): Receiver {
  const key = crypto.randomUUID();
  return {
    url: urlOf(where, key, steps),
    // Written by the server of the tests themselves.
    seen: async () => (await fetch(seenUrl(where, key))).json<readonly Seen[]>(),
  };
}

/** Resolves once the receiver was sent so many requests. */
export async function untilSeen(to: Receiver, count: number): Promise<void> {
  while ((await to.seen()).length < count) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** What a provider's client is given of a job. */
export function callerOn(
  { rt }: Bench,
  signal = new AbortController().signal,
): {
  clock: typeof rt.clock;
  db: typeof rt.db;
  env: typeof rt.env;
  signal: AbortSignal;
} {
  return { clock: rt.clock, db: rt.db, env: rt.env, signal };
}
