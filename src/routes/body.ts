// Reading what a request carries: counted as it arrives, whatever its headers say, and parsed with nothing trusted.

import { z } from 'zod';
import { within } from '../core/deadline.ts';
import { parseJson, type Json } from '../core/json.ts';
import { DRAIN_DEADLINE_MS, DRAIN_IDLE_MS } from '../core/limits.ts';
import type { Clock } from '../core/ports.ts';
import { faultsOf } from '../jobs/request.ts';
import type { Failure } from './problems.ts';

export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure };

type Reader = ReadableStreamDefaultReader<Uint8Array> | undefined;

const NOT_JSON_TYPE: Failure = { kind: 'unsupported_type', detail: 'Send the body as application/json.' };

/** The body's bytes, or the reason why not. Keeps no more than the limit. */
export async function readBytes(
  request: Request,
  limitBytes: number,
  clock: Clock,
): Promise<Read<Uint8Array<ArrayBuffer>>> {
  const reader: Reader = request.body?.getReader();
  if (request.headers.has('content-encoding')) {
    await drain(reader, clock);
    return refuse({ kind: 'unsupported_type', detail: 'Content-Encoding is not supported; send the body as it is.' });
  }
  const chunks: Uint8Array[] = [];
  let size = Number(request.headers.get('content-length') ?? 0) > limitBytes ? Infinity : 0;
  // A length in a header is a claim; what counts is what comes.
  while (reader !== undefined && size <= limitBytes) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    chunks.push(value);
  }
  if (size > limitBytes) {
    await drain(reader, clock);
    return refuse({ kind: 'too_large', detail: `The body is larger than ${String(limitBytes)} bytes.` });
  }
  return { ok: true, value: joined(chunks, size) };
}

// Whoever is still writing when the connection is closed never gets to read why. So the rest is taken and dropped, as
// long as it keeps coming, but not for long: a body that is announced and withheld is answered at once.
async function drain(reader: Reader, clock: Clock): Promise<void> {
  const giveUpAt = clock.now() + DRAIN_DEADLINE_MS;
  while (reader !== undefined && clock.now() < giveUpAt) {
    const next = await within(clock, DRAIN_IDLE_MS, reader.read());
    if (!next.inTime || next.value.done) return;
  }
}

function joined(chunks: readonly Uint8Array[], size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

/** A JSON body. 415 for another type, 413 past the limit, 400 for what is not JSON, too deep, or has `__proto__`. */
export async function readJson(request: Request, limitBytes: number, clock: Clock): Promise<Read<Json>> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    await drain(request.body?.getReader(), clock);
    return refuse(NOT_JSON_TYPE);
  }
  const bytes = await readBytes(request, limitBytes, clock);
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

/** A JSON body that may be left out: `{}` then. */
export async function readOptionalJson(request: Request, limitBytes: number, clock: Clock): Promise<Read<Json>> {
  if (request.headers.has('content-type') && request.headers.get('content-length') !== '0' && request.body !== null) {
    return readJson(request, limitBytes, clock);
  }
  const bytes = await readBytes(request, limitBytes, clock);
  if (!bytes.ok) return bytes;
  return bytes.value.length === 0 ? { ok: true, value: {} } : refuse(NOT_JSON_TYPE);
}

function refuse(failure: Failure): Read<never> {
  return { ok: false, failure };
}

/** The members of a body by their schema; what is unknown is refused. */
export function readMembers<Shape extends z.ZodRawShape>(
  body: Read<Json>,
  shape: Shape,
): Read<z.infer<z.ZodObject<Shape>>> {
  if (!body.ok) return body;
  const parsed = z.strictObject(shape).safeParse(body.value);
  if (parsed.success) return { ok: true, value: parsed.data };
  return { ok: false, failure: { kind: 'invalid', errors: faultsOf(parsed.error) } };
}
