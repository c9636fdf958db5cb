// One name for every failure that is the same failure: ids, numbers, addresses and quoted values do not count.

import { createHash } from 'node:crypto';

// Order matters: what may hold the others comes first. Each pattern is linear in the length of the text. A quotation
// mark inside a word is an apostrophe.
const VARIABLE_PARTS: readonly (readonly [RegExp, string])[] = [
  [/"[^"]*"|`[^`]*`|(?<!\w)'[^']*'(?!\w)/g, '<value>'],
  [/\bhttps?:\/\/[^\s"'`<>]+/gi, '<url>'],
  [/[^\s@"'`<>]{1,64}@[^\s@"'`<>]{1,255}/g, '<email>'],
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '<id>'],
  // Ids of all kinds and long numbers: a word of eight or more with a digit in it.
  [/\b0x[0-9a-f]+\b|\b(?=\w*\d)\w{8,}\b/gi, '<n>'],
  [/\d+(?:\.\d+)?/g, '<n>'],
  [/\s+/g, ' '],
];

const LONGEST_MESSAGE = 100_000;

/** The text of an error with everything that varies between two of the same kind taken out. */
export function normaliseMessage(message: string): string {
  return VARIABLE_PARTS.reduce(
    (text, [pattern, name]) => text.replace(pattern, name),
    message.slice(0, LONGEST_MESSAGE),
  ).trim();
}

/** 16 hex characters, equal for failures of one task with one code whose messages differ only in their values. */
export function fingerprint(task: string, code: string, message: string): string {
  return createHash('sha256')
    .update(`${task}\n${code}\n${normaliseMessage(message)}`)
    .digest('hex')
    .slice(0, 16);
}
