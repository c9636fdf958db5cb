// What tells an event of a provider apart from every other. Spelled here alone: the door it comes in by and the tasks
// that look for what did not come must never disagree on it.

import { sha256Hex } from '../core/digest.ts';
import type { IdentityToken } from '../core/envelope.ts';
import { GITHUB_TOKEN_TTL_MS, MAX_EVENT_ID_CHARS, WEBHOOK_TOKEN_TTL_MS } from '../core/limits-outside.ts';

/** A token of what tells a delivery apart, whatever was in it and however long. */
export function token(kind: string, ...parts: readonly (string | number)[]): IdentityToken {
  return { token: `${kind}:${sha256Hex(JSON.stringify(parts))}`, ttlMs: WEBHOOK_TOKEN_TTL_MS };
}

/** An id or a name as it came in a header or a body: anybody may have made it long, or no text at all. */
export function idOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, MAX_EVENT_ID_CHARS) : null;
}

/** The name of an event, as tasks name it; `unknown` for what is no name. */
export function eventName(value: unknown): string {
  return typeof value === 'string' && /^[\w.:-]{1,100}$/.test(value) ? value : 'unknown';
}

/** A delivery of GitHub's, by its GUID as {@link idOf} leaves it: the same for every redelivery of it. */
export function githubDeliveryToken(guid: string): IdentityToken {
  return { token: `delivery:${sha256Hex(guid)}`, ttlMs: GITHUB_TOKEN_TTL_MS };
}

/** What tells an event of Mailgun's API or of its webhook apart: ids are unique within a day only. */
export function mailgunEventTokens(data: Readonly<Record<string, unknown>>): readonly IdentityToken[] {
  const { id, event, timestamp } = data;
  if (typeof id !== 'string' || id === '') return [];
  return [token('event', id, eventName(event), Math.floor(Number(timestamp)) || 0)];
}
