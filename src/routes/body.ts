// Reading what a request carries: counted as it arrives, whatever its headers say, and parsed with nothing trusted.

import { parseJson, type Json } from '../core/json.ts';
import type { Failure } from './problems.ts';

export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure };

const NOT_JSON_TYPE: Failure = { kind: 'unsupported_type', detail: 'Send the body as application/json.' };

/** The body's bytes, or the reason why not. Stops reading at the limit. */
export async function readBytes(request: Request, limitBytes: number): Promise<Read<Uint8Array<ArrayBuffer>>> {
  if (request.headers.has('content-encoding')) {
    return refuse({ kind: 'unsupported_type', detail: 'Content-Encoding is not supported; send the body as it is.' });
  }
  if (Number(request.headers.get('content-length') ?? 0) > limitBytes) return tooLarge(limitBytes);
  const chunks: Uint8Array[] = [];
  let size = 0;
  // A length in a header is a claim; what counts is what comes.
  const body: AsyncIterable<Uint8Array> = request.body ?? empty();
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > limitBytes) return tooLarge(limitBytes);
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return { ok: true, value: bytes };
}

/** A JSON body. 415 for another type, 413 past the limit, 400 for what is not JSON, too deep, or has `__proto__`. */
export async function readJson(request: Request, limitBytes: number): Promise<Read<Json>> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    return refuse(NOT_JSON_TYPE);
  }
  const bytes = await readBytes(request, limitBytes);
  if (!bytes.ok) return bytes;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes.value);
  } catch {
    return refuse({ kind: 'malformed', detail: 'The body is not UTF-8.' });
  }
  const parsed = parseJson(text);
  if (parsed.ok) return parsed;
  const { path, message } = parsed;
  const detail = path === '' ? `The body is refused: ${message}.` : `The body is refused at ${path}: ${message}.`;
  return refuse({ kind: 'malformed', detail, errors: [{ path, message }] });
}

// eslint-disable-next-line @typescript-eslint/require-await -- an async iterable of nothing
async function* empty(): AsyncGenerator<Uint8Array> {
  yield* [];
}

/** A JSON body that may be left out: `{}` then. */
export async function readOptionalJson(request: Request, limitBytes: number): Promise<Read<Json>> {
  if (request.headers.has('content-type') && request.headers.get('content-length') !== '0' && request.body !== null) {
    return readJson(request, limitBytes);
  }
  const bytes = await readBytes(request, limitBytes);
  if (!bytes.ok) return bytes;
  return bytes.value.length === 0 ? { ok: true, value: {} } : refuse(NOT_JSON_TYPE);
}

function tooLarge(limitBytes: number): Read<never> {
  return refuse({ kind: 'too_large', detail: `The body is larger than ${String(limitBytes)} bytes.` });
}

function refuse(failure: Failure): Read<never> {
  return { ok: false, failure };
}
