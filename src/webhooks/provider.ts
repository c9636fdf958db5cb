// What a provider of webhooks must be able to say of a request. Translation only: nothing here enqueues.

import type { Env } from '../env.ts';

/** What a job is made of. */
export interface WebhookEvent {
  readonly event: string;
  /** The provider's own id of this delivery; null where it sent none. */
  readonly eventId: string | null;
  readonly payload: unknown;
  /** What makes this delivery this delivery. Claimed in order; the last one decides which job it is. */
  readonly tokens: readonly { readonly token: string; readonly ttlMs: number }[];
}

export type Reading =
  | { readonly kind: 'event'; readonly event: WebhookEvent }
  /** Verified, and nothing to do: a handshake. */
  | { readonly kind: 'ignored' }
  /** Verified, and not what this provider sends. */
  | { readonly kind: 'malformed'; readonly detail: string };

export interface WebhookRequest {
  readonly headers: Headers;
  /** The exact bytes that were signed. */
  readonly body: Uint8Array<ArrayBuffer>;
}

export interface Provider {
  readonly name: string;
  /** The current secret and the one before the last rotation; empty where none is configured. */
  secrets(env: Env): readonly string[];
  /** Whether one of the secrets signed exactly these bytes. Never throws. */
  verify(request: WebhookRequest, secrets: readonly string[]): Promise<boolean>;
  /** Only called for a verified request. */
  read(request: WebhookRequest): Reading;
}

/** Secrets that are set, in the order in which they are tried. An empty one is none: its HMAC would verify. */
export function configured(...secrets: readonly (string | undefined)[]): readonly string[] {
  return secrets.filter((secret) => secret !== undefined && secret !== '') as string[];
}
