// JSON from outside: how deep it may nest and which keys it may use are decided before anything trusts it.

import { MAX_JSON_DEPTH } from './limits.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export type ParsedJson =
  { readonly ok: true; readonly value: Json } | { readonly ok: false; readonly path: string; readonly message: string };

/** Parses `text`: refuses what is not JSON, nests deeper than 64, or has a key `__proto__`. Never throws. */
export function parseJson(text: string): ParsedJson {
  if (deeperThan(text, MAX_JSON_DEPTH)) {
    return { ok: false, path: '', message: `nested deeper than ${String(MAX_JSON_DEPTH)} levels` };
  }
  let value: Json;
  try {
    // `JSON.parse` gives exactly this type; its own signature says `any`.
    value = JSON.parse(text) as Json;
  } catch (error) {
    return { ok: false, path: '', message: `not JSON: ${error instanceof Error ? error.message : 'unreadable'}` };
  }
  // An escaped key (`"__proto\u005f_"`) does not show in the text, so the value is walked whenever it could be there.
  const path = text.includes('proto') || text.includes('\\u') ? pathOfKey(value, '__proto__', '') : undefined;
  if (path !== undefined) return { ok: false, path, message: 'the key __proto__ is refused' };
  return { ok: true, value };
}

/** Whether arrays and objects of a JSON text nest deeper than `limit`, without parsing it. */
export function deeperThan(text: string, limit: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (inString) {
      if (code === 0x5c) at += 1;
      else if (code === 0x22) inString = false;
    } else if (code === 0x22) inString = true;
    else if (code === 0x7b || code === 0x5b) {
      depth += 1;
      if (depth > limit) return true;
    } else if (code === 0x7d || code === 0x5d) depth -= 1;
  }
  return false;
}

/** The same text for equal values, whatever the order of their keys. */
export function canonicalJson(value: Json): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

/** `a.b[2].c`, as problems name a place in a body. */
export function formatPath(parts: readonly PropertyKey[]): string {
  return parts.reduce<string>((path, part) => {
    if (typeof part === 'number') return `${path}[${String(part)}]`;
    return path === '' ? String(part) : `${path}.${String(part)}`;
  }, '');
}

const encoder = new TextEncoder();

/** Bytes of a text in UTF-8. */
export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

function pathOfKey(value: Json, key: string, path: string): string | undefined {
  if (value === null || typeof value !== 'object') return undefined;
  if (isArray(value)) {
    for (const [index, item] of value.entries()) {
      const found = pathOfKey(item, key, `${path}[${String(index)}]`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  for (const [name, member] of Object.entries(value)) {
    const here = path === '' ? name : `${path}.${name}`;
    if (name === key) return here;
    const found = pathOfKey(member, key, here);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isArray(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}
