// SHA-256, and comparisons that take the same time wherever two secrets differ.

import { createHash, timingSafeEqual } from 'node:crypto';

/** 64 hex characters. */
export function sha256Hex(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

/** Whether two texts are equal. Hashed first: the comparison itself wants equal lengths. */
export function sameSecret(a: string, b: string): boolean {
  return timingSafeEqual(createHash('sha256').update(a).digest(), createHash('sha256').update(b).digest());
}

/** A number in [0, shards) that is the same for the same text. */
export function shardOfText(text: string, shards: number): number {
  return Number.parseInt(sha256Hex(text).slice(0, 8), 16) % shards;
}
