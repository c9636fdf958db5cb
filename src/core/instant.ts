// Instants in JSON are ISO 8601 with a zone; inside they are epoch milliseconds.

// Date.parse alone takes a great deal more ("2026", "Tue") and reads a missing zone as local time.
const ISO_WITH_ZONE = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})$/i;

/** Epoch milliseconds of an ISO 8601 instant with a zone; undefined for anything else. */
export function parseInstant(text: string): number | undefined {
  if (!ISO_WITH_ZONE.test(text)) return undefined;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : at;
}

export function formatInstant(at: number): string {
  return new Date(at).toISOString();
}
