// Instants in JSON are ISO 8601 with a zone; inside they are epoch milliseconds.

// Date.parse alone takes a great deal more ("2026", "Tue") and reads a missing zone as local time.
const ISO_WITH_ZONE = /^(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})$/i;

/** Epoch milliseconds of an ISO 8601 instant with a zone; undefined for anything else. */
export function parseInstant(text: string): number | undefined {
  const day = ISO_WITH_ZONE.exec(text)?.[1];
  if (day === undefined) return undefined;
  const at = Date.parse(text);
  if (Number.isNaN(at)) return undefined;
  // 30 February would be moved to March.
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day) ? at : undefined;
}

export function formatInstant(at: number): string {
  return new Date(at).toISOString();
}
