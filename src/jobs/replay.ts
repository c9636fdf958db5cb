// Asking the replay guard, with an end to the waiting: which job a call under its tokens is.

import { answerWithin } from '../core/deadline.ts';
import type { Identity, IdentityToken } from '../core/envelope.ts';
import { STATEMENT_DEADLINE_MS, GUARD_DEADLINE_MS } from '../core/limits.ts';
import type { KnownToken, TokenAnswer, TokenClaim, TokenMove, TokenMoved } from '../durable/replay-guard.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/** Which job the tokens name. */
export interface Claimed {
  readonly id: string;
  /** Nobody had claimed any of them before. */
  readonly fresh: boolean;
  readonly claimedAt: number;
}

/**
 * `conflict`: a token names another call. `silent`: the guard did not answer for all of them; `id` is what it had said
 * until then, or the one that was proposed, which a claim may have stored whose answer was lost.
 */
export type Claiming =
  | ({ readonly kind: 'claimed' } & Claimed)
  | { readonly kind: 'conflict' }
  | { readonly kind: 'silent'; readonly id: string };

/** Claims every token, every time and in order, for the job `id`; the last answer names the job. Never rejects. */
export async function claimTokens(rt: Runtime, identity: Identity, id: string, now: number): Promise<Claiming> {
  const claimed = { id, fresh: true, claimedAt: now };
  for (const token of identity.tokens) {
    let said;
    try {
      said = await claimToken(rt, identity.scope, claimOf(identity, token, claimed.id, now));
    } catch (error) {
      logError('replay_guard.silent', error, { scope: identity.scope.split(':')[0] });
      return { kind: 'silent', id: claimed.id };
    }
    if (token.party === undefined && said.verdict === 'conflict') return { kind: 'conflict' };
    // Seen by the same party before, which tells it by its other tokens.
    if (token.party !== undefined && said.verdict === 'duplicate') continue;
    // Of one job the earliest claim tells how old it is.
    claimed.claimedAt = said.jobId === claimed.id ? Math.min(claimed.claimedAt, said.claimedAt) : said.claimedAt;
    claimed.id = said.jobId;
    if (said.verdict !== 'fresh') claimed.fresh = false;
  }
  return { kind: 'claimed', ...claimed };
}

function claimOf(
  { digest = '' }: Identity,
  { token, ttlMs, party }: IdentityToken,
  jobId: string,
  now: number,
): TokenClaim {
  return { token, jobId, digest: party ?? digest, ttlMs, now };
}

/** Those of a scope's tokens that are claimed, and by which jobs. Claims nothing; rejects where the guard is silent. */
export async function findTokens(
  rt: Runtime,
  scope: string,
  tokens: readonly string[],
): Promise<readonly KnownToken[]> {
  if (tokens.length === 0) return [];
  return answerWithin(rt.clock, STATEMENT_DEADLINE_MS, rt.replay.find(scope, tokens, rt.clock.now()), GUARD);
}

/** Claims one token. Rejects where the guard is silent. */
export async function claimToken(rt: Runtime, scope: string, claim: TokenClaim): Promise<TokenAnswer> {
  return inTime(rt, rt.replay.claim(scope, claim));
}

/** Lets a token name another job. Rejects where the guard is silent. */
export async function moveToken(rt: Runtime, scope: string, move: TokenMove): Promise<TokenMoved> {
  return inTime(rt, rt.replay.move(scope, move));
}

async function inTime<T>(rt: Runtime, asking: Promise<T>): Promise<T> {
  return answerWithin(rt.clock, GUARD_DEADLINE_MS, asking, GUARD);
}

const GUARD = 'The replay guard';
