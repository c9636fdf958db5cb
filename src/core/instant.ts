// Instants in JSON are ISO 8601 with a zone; inside they are epoch milliseconds.

import { z } from 'zod';

// Date.parse alone takes a great deal more ("2026", "Tue") and reads a missing zone as local time.
const ISO_WITH_ZONE = /^(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3}(\d{0,6}))?)?(?:Z|[+-]\d{2}:?\d{2})$/i;

/**
 * Epoch milliseconds of an ISO 8601 instant with a zone; undefined for anything else. The first whole one that is not
 * before it: what is due then is never early.
 */
export function parseInstant(text: string): number | undefined {
  const [, day, beyond = ''] = ISO_WITH_ZONE.exec(text) ?? [];
  if (day === undefined) return undefined;
  // Cuts off what is beyond milliseconds.
  const at = Date.parse(text);
  if (Number.isNaN(at)) return undefined;
  // 30 February would be moved to March.
  if (!new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)) return undefined;
  return Number(beyond) > 0 ? at + 1 : at;
}

export function formatInstant(at: number): string {
  return new Date(at).toISOString();
}

export function instantOrNull(at: number | null | undefined): string | null {
  return at === null || at === undefined ? null : formatInstant(at);
}

/** An instant in a body or a query: epoch milliseconds. */
export const instant = z.string().transform((text, context) => {
  const at = parseInstant(text);
  if (at !== undefined) return at;
  context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is no ISO 8601 instant with a zone` });
  return z.NEVER;
});
