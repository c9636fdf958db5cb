// One name for every failure that is the same failure: ids, numbers, addresses and quoted values do not count.

import { createHash } from 'node:crypto';

// Order matters: what is most specific is replaced first. All patterns are linear in the length of the text.
const VARIABLE_PARTS: readonly (readonly [RegExp, string])[] = [
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '<id>'],
  [/\bhttps?:\/\/[^\s"'<>]+/gi, '<url>'],
  [/[^\s@"'<>]{1,64}@[^\s@"'<>]{1,255}/g, '<email>'],
  [/"[^"]*"|'[^']*'|`[^`]*`/g, '<value>'],
  [/\b(?:0x)?(?=[0-9a-f]*\d)[0-9a-f]{8,}\b/gi, '<hex>'],
  [/\d+/g, '<n>'],
  [/\s+/g, ' '],
];

/** The text of an error with everything that varies between two of the same kind taken out. */
export function normaliseMessage(message: string): string {
  return VARIABLE_PARTS.reduce((text, [pattern, name]) => text.replace(pattern, name), message.slice(0, 1_000)).trim();
}

/** 16 hex characters, equal for failures of one task with one code whose messages differ only in their values. */
export function fingerprint(task: string, code: string, message: string): string {
  return createHash('sha256')
    .update(`${task}\n${code}\n${normaliseMessage(message)}`)
    .digest('hex')
    .slice(0, 16);
}
