// Structured logs: one JSON line an event, named `noun.verb`. Never inputs, results or secrets.

type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export function logInfo(event: string, fields: Fields): void {
  console.log(JSON.stringify({ event, ...fields }));
}

export function logError(event: string, error: unknown, fields: Fields): void {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  console.error(JSON.stringify({ event, error: text, ...fields }));
}
