// Jobs that were accepted while the replay guard was silent, from senders that would not have tried again. Such a job
// has to win its tokens before it runs: the same delivery may have been claimed for another id meanwhile.

import type { Envelope } from '../core/envelope.ts';
import { GUARD_RETRY_MS } from '../core/limits.ts';
import type { Json } from '../core/json.ts';
import type { Won } from '../store/claims.ts';
import type { Outcome } from './attempt.ts';
import { commit, itemOf } from './enqueue.ts';
import { inputOf } from './payloads.ts';
import { claimTokens, type Claimed } from './replay.ts';
import type { Runtime } from './runtime.ts';

/** Whether a job may run, or how its attempt ends instead. Never rejects. */
export async function standingOf(rt: Runtime, envelope: Envelope, won: Won): Promise<'ours' | Outcome> {
  const { id, options } = envelope;
  if (options.unclaimed === undefined) return 'ours';
  const now = rt.clock.now();
  const claiming = await claimTokens(rt, options.unclaimed, id, now);
  switch (claiming.kind) {
    case 'silent':
      return later(now, 'the replay guard does not answer');
    case 'conflict':
      return duplicate('another call');
    case 'claimed':
      return claiming.id === id ? 'ours' : yieldTo(rt, envelope, won, claiming);
  }
}

// Whoever claimed first may have died before it made its job. The claimed id is the one that every copy to come will be
// told, so the job is made under it where it is missing, and this one ends.
async function yieldTo(rt: Runtime, envelope: Envelope, won: Won, claimed: Claimed): Promise<Outcome> {
  const now = rt.clock.now();
  const given = await inputOf(rt, envelope, won);
  if (given.kind !== 'value') return later(now, 'its stored input could not be read');
  const { unclaimed: _, ...options } = envelope.options;
  const { task, queue, priority, tags, source, acceptedAt, dueAt, expiresAt, parentId, retryOf } = envelope;
  const members = { task, queue, priority, tags, source, acceptedAt, dueAt, expiresAt, parentId, retryOf };
  // What came in as a message or an object is JSON.
  const first: Envelope = { v: 1, ...members, id: claimed.id, options, input: given.value as Json };
  const item = itemOf(rt, first, { ...claimed, fresh: false });
  const enqueued = 'envelope' in item ? await commit(rt, item) : item;
  if (enqueued.kind === 'accepted') return duplicate(claimed.id);
  return later(now, `the same delivery is claimed for ${claimed.id}, which could not be looked for`);
}

function later(now: number, reason: string): Outcome {
  return { kind: 'deferred', until: now + GUARD_RETRY_MS, reason };
}

function duplicate(other: string): Outcome {
  return { kind: 'revoked', code: 'duplicate', error: new Error(`The same delivery is a job already: ${other}.`) };
}
