// What a provider of webhooks must be able to say of a request. Translation only: nothing here enqueues.

import type { IdentityToken } from '../core/envelope.ts';
import { base64Key, textKey, type Key } from '../core/hmac.ts';
import type { Json } from '../core/json.ts';
import type { Env } from '../env.ts';
import type { WebhookRequest } from './request.ts';

/** What a job is made of. */
export interface WebhookEvent {
  readonly event: string;
  /** The provider's own id of this delivery; null where it sent none. */
  readonly eventId: string | null;
  /** What it says; undefined where it is too large to be looked into here. */
  readonly payload: Json | undefined;
  /** What makes this delivery this delivery. Claimed in order; the last one decides which job it is. */
  readonly tokens: readonly IdentityToken[];
  /** Where a person waits for the answer: it is empty when the delivery is taken, and this, with 200, when it is not. */
  readonly reply?: { readonly notTaken: Json | undefined };
}

export type Reading =
  | { readonly kind: 'event'; readonly event: WebhookEvent }
  /** Verified, and nothing to do. */
  | { readonly kind: 'ignored'; readonly event: string }
  /** Verified, and answered with this text. */
  | { readonly kind: 'handshake'; readonly event: string; readonly text: string }
  /** Verified, and not what this provider sends. */
  | { readonly kind: 'malformed'; readonly detail: string };

/** `stale`: rightly signed, but too long ago or too far ahead. */
export type Signature = 'good' | 'bad' | 'stale';

export interface Provider {
  readonly name: string;
  /** Largest body it sends. */
  readonly maxBodyBytes: number;
  /** Whether it tries again by itself where it is not answered with a 2xx. */
  readonly triesAgain: boolean;
  /** Whether its signature covers the body: else a copy may say anything. */
  readonly signsBody: boolean;
  /** How long it may be kept waiting. */
  readonly answerWithinMs: number;
  /** What a request is answered with that is refused for good, where it is not 401 or 400; and what is said beside it. */
  readonly refusal?: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> };
  /** Headers that {@link read} needs beside the content type: kept with the body. */
  readonly readsHeaders: readonly string[];
  /**
   * The setting that holds its secret; `<name>_PREVIOUS` holds the one before the last rotation. In base64 it may be
   * several, with commas: a provider may have one for each webhook.
   */
  readonly secret: { readonly name: string; readonly encoding: 'text' | 'base64' };
  /** Whether one of the keys signed this. `now` is epoch ms. Never rejects. */
  verify(request: WebhookRequest, keys: readonly Key[], now: number, env: Env): Promise<Signature>;
  /** Only called for a verified request, or for one that was. `now` is epoch ms. */
  read(request: WebhookRequest, now: number): Promise<Reading>;
}

/** The current key of a provider and the one before the last rotation; empty where none is set, or none can be read. */
export function keysOf({ secret: { name, encoding } }: Provider, env: Env): readonly Key[] {
  // A provider brings its setting along: the type of all settings need not know it.
  const settings = env as unknown as Readonly<Record<string, unknown>>;
  return [settings[name], settings[`${name}_PREVIOUS`]].flatMap((secret) => {
    if (typeof secret !== 'string') return [];
    const keys = encoding === 'text' ? [textKey(secret)] : secret.split(',').map(base64Key);
    return keys.filter((key) => key !== undefined);
  });
}

export function malformed(detail: string): Reading {
  return { kind: 'malformed', detail };
}

export type JsonObject = Readonly<Record<string, Json>>;

/** A JSON object, or an empty one for any other value: what providers send where there is nothing differs. */
export function objectIn(value: unknown): JsonObject {
  // What came in as JSON: an object that is no array has nothing but JSON in it.
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as JsonObject) : {};
}

/** Seconds of a signed timestamp in exactly ten digits; undefined for anything else. */
export function tenDigits(text: string): number | undefined {
  return /^\d{10}$/.test(text) ? Number(text) : undefined;
}

/** Whether a time lies in `[now - past, now + ahead]`. All but `now` (epoch ms) in seconds. */
export function isTimely(atSeconds: number, now: number, pastSeconds: number, aheadSeconds: number): boolean {
  const age = now / 1_000 - atSeconds;
  return age <= pastSeconds && -age <= aheadSeconds;
}

/** Of several signatures one that is good is enough. */
export function bestOf(verdicts: readonly Signature[]): Signature {
  return verdicts.find((each) => each === 'good') ?? verdicts.find((each) => each === 'stale') ?? 'bad';
}
