// Jobs that were accepted while the replay guard was silent, from senders that would not have tried again. Such a job
// has to win its tokens before it runs: the same delivery may have been accepted under another id meanwhile.

import type { Envelope } from '../core/envelope.ts';
import { ENVELOPE_LIFE_MS, GUARD_RETRY_MS, ROW_APPEARS_MS } from '../core/limits.ts';
import { selectStates } from '../store/accept.ts';
import type { Outcome } from './attempt.ts';
import { query } from './database.ts';
import { logError } from './log.ts';
import { claimTokens } from './replay.ts';
import type { Runtime } from './runtime.ts';

/** Whether a job may run, or how its attempt ends instead. Never rejects. */
export async function standingOf(rt: Runtime, { id, options }: Envelope): Promise<'ours' | Outcome> {
  if (options.unclaimed === undefined) return 'ours';
  const now = rt.clock.now();
  const claiming = await claimTokens(rt, options.unclaimed, id, now);
  switch (claiming.kind) {
    case 'silent':
      return later(now, 'the replay guard does not answer');
    case 'conflict':
      return duplicate('another call');
    case 'claimed':
      return claiming.id === id ? 'ours' : beside(rt, claiming.id, claiming.claimedAt);
  }
}

// Whoever claimed first may have died before it made its job: then this one is all there is.
async function beside(rt: Runtime, other: string, claimedAt: number): Promise<'ours' | Outcome> {
  const now = rt.clock.now();
  const age = now - claimedAt;
  // Its row may have been there and left.
  if (age > ENVELOPE_LIFE_MS) return duplicate(other);
  try {
    const rows = await query(rt, selectStates([other]));
    if (rows.length > 0) return duplicate(other);
  } catch (error) {
    logError('unclaimed.silent', error, { job: other });
    return later(now, 'the database does not say whether this delivery is a job already');
  }
  return age > ROW_APPEARS_MS ? 'ours' : later(now, `the same delivery may have become ${other}`);
}

function later(now: number, reason: string): Outcome {
  return { kind: 'deferred', until: now + GUARD_RETRY_MS, reason };
}

function duplicate(other: string): Outcome {
  return { kind: 'revoked', code: 'duplicate', error: new Error(`The same delivery is a job already: ${other}.`) };
}
