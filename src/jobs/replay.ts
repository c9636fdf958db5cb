// Asking the replay guard, with an end to the waiting.

import { within } from '../core/deadline.ts';
import { ACCEPT_DEADLINE_MS } from '../core/limits.ts';
import type { TokenAnswer, TokenClaim } from '../durable/replay-guard.ts';
import type { Runtime } from './runtime.ts';

/** Claims a token in a scope (a provider, a key owner). Rejects where the guard has not answered within 2.5 s. */
export async function claimToken(rt: Runtime, scope: string, claim: TokenClaim): Promise<TokenAnswer> {
  const answer = await within(rt.clock, ACCEPT_DEADLINE_MS, rt.replay.claim(scope, claim));
  if (answer.inTime) return answer.value;
  throw new Error('The replay guard did not answer in time.');
}
