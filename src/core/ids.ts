// Job ids: UUIDv7, so that the table appends and lists newest-first by id.
// The last byte is the shard, inherited by children (always 0 until there is more than one database).

import { createHash } from 'node:crypto';

/** A new id for `now` (epoch ms) from nine random bytes. */
export function newId(now: number, random: Uint8Array, shard = 0): string {
  if (random.length < 9) throw new RangeError('an id takes nine random bytes');
  return layOut(now, random, shard);
}

/** The first id that a millisecond (epoch) can have: what came before it has smaller ones. */
export function firstIdAt(milliseconds: number): string {
  return layOut(milliseconds, new Uint8Array(9), 0);
}

/** The id that `text` has at `milliseconds` (epoch): the same each time, and another for every other text. */
export function derivedId(milliseconds: number, text: string, shard = 0): string {
  return layOut(milliseconds, createHash('sha256').update(text).digest(), shard);
}

/** The id of what follows from `parentId`: the parent's milliseconds and shard, the rest from what it is for. */
export function followUpId(parentId: string, role: string, index: number): string {
  return derivedId(millisecondsOf(parentId), `${parentId}\n${role}\n${String(index)}`, shardOf(parentId));
}

/** Epoch milliseconds an id was made at. */
export function millisecondsOf(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

export function shardOf(id: string): number {
  return Number.parseInt(id.slice(-2), 16);
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export function isId(text: string): boolean {
  return ID.test(text);
}

/** Bytes as text, two digits each. */
export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// 48 bits of time, version 7, 12 random bits, variant, 54 random bits, 8 bits of shard.
function layOut(milliseconds: number, random: Uint8Array, shard: number): string {
  const time = milliseconds.toString(16).padStart(12, '0');
  const hex = hexOf(random.subarray(0, 9));
  const variant = (8 + (Number.parseInt(hex.charAt(3), 16) & 3)).toString(16);
  const tail = hex.slice(7, 17) + shard.toString(16).padStart(2, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(0, 3)}-${variant}${hex.slice(4, 7)}-${tail}`;
}
