// One request of a provider: its headers, the exact bytes that were signed, and what they say, read at most once.

import { parseJson, type Json, type ParsedJson } from '../core/json.ts';
import { MAX_FORM_FIELDS } from '../core/limits-outside.ts';

/** A file of a multipart form, without its content: that stays in the stored body. */
export interface Attachment {
  readonly filename: string;
  readonly content_type: string;
  readonly bytes: number;
}

/** A form in its order; names may repeat. */
export type Fields = readonly (readonly [string, string | Attachment])[];

export class WebhookRequest {
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
  #json: ParsedJson | undefined;
  #fields: Promise<Fields | undefined> | undefined;

  constructor(headers: Headers, body: Uint8Array<ArrayBuffer>) {
    this.headers = headers;
    this.body = body;
  }

  header(name: string): string {
    return this.headers.get(name) ?? '';
  }

  /** Lower case, without parameters; empty where there is none. */
  get mediaType(): string {
    return this.header('content-type').split(';')[0]?.trim().toLowerCase() ?? '';
  }

  /** Whatever is no form: not every sender of JSON says so. */
  get isJson(): boolean {
    return this.mediaType !== 'application/x-www-form-urlencoded' && this.mediaType !== 'multipart/form-data';
  }

  json(): ParsedJson {
    this.#json ??= parseJson(this.text());
    return this.#json;
  }

  /** The fields of a form, files as what they are; undefined where the body is no such form. */
  fields(): Promise<Fields | undefined> {
    this.#fields ??= this.#readFields();
    return this.#fields;
  }

  /** Lenient on purpose: the bytes are signed, and an odd one in somebody's commit message must not lose the event. */
  text(): string {
    return new TextDecoder().decode(this.body);
  }

  // Before anybody knows who sent it: a form of a million fields would fill the memory of all that run here.
  async #readFields(): Promise<Fields | undefined> {
    const type = this.header('content-type');
    if (this.mediaType === 'application/x-www-form-urlencoded') {
      return countOf(this.body, '&') < MAX_FORM_FIELDS ? [...new URLSearchParams(this.text())] : undefined;
    }
    const [, boundary] = /;\s*boundary="?([^\s";,]{1,100})/i.exec(type) ?? [];
    if (this.mediaType !== 'multipart/form-data' || boundary === undefined) return undefined;
    if (countOf(this.body, `--${boundary}`) > MAX_FORM_FIELDS) return undefined;
    try {
      const headers = { 'content-type': type };
      const form = await new Response(this.body, { headers }).formData();
      return [...form].map(([name, value]) => [name, typeof value === 'string' ? value : attachmentOf(value)] as const);
    } catch {
      return undefined;
    }
  }
}

/** How often a text of ASCII stands in bytes; counts no further than matters. */
function countOf(bytes: Uint8Array, text: string): number {
  const run = [...new TextEncoder().encode(text)];
  const [first = 0] = run;
  let count = 0;
  for (let at = bytes.indexOf(first); at !== -1 && count <= MAX_FORM_FIELDS; at = bytes.indexOf(first, at + 1)) {
    if (run.every((code, ahead) => bytes[at + ahead] === code)) count += 1;
  }
  return count;
}

function attachmentOf({ name, type, size }: File): Attachment {
  return { filename: name, content_type: type, bytes: size };
}

/** A form as one object: a name that repeats becomes a list. */
export function objectOf(fields: Fields): Record<string, Json> {
  const values = new Map<string, Json[]>();
  for (const [name, value] of fields) {
    // Whoever writes the mail names the fields.
    if (name === '__proto__') continue;
    const all = values.get(name);
    if (all === undefined) values.set(name, [value as Json]);
    else all.push(value as Json);
  }
  return Object.fromEntries([...values].map(([name, all]) => [name, all.length === 1 ? (all[0] ?? null) : all]));
}

/** The last value of a field: earlier ones may come from whoever wrote the mail. */
export function lastField(fields: Fields, name: string): string {
  const value = fields.findLast(([each]) => each === name)?.[1];
  return typeof value === 'string' ? value : '';
}
