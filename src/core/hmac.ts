// HMAC-SHA-256 over exact bytes, compared by the platform in constant time. Everything that is signed goes through here.

type Bytes = Uint8Array<ArrayBuffer>;

/** What a secret is to HMAC. Never empty: the platform refuses an empty key, and anybody could sign with one. */
export type Key = Bytes;

const HMAC = { name: 'HMAC', hash: 'SHA-256' } as const;
const DIGEST_BYTES = 32;
const encoder = new TextEncoder();

/** Whether one of the keys signed exactly these bytes. Every key is tried, whichever fits. */
export async function verifyHmac(keys: readonly Key[], message: Bytes, signature: Bytes | undefined): Promise<boolean> {
  if (signature?.byteLength !== DIGEST_BYTES) return false;
  const verdicts = await Promise.all(
    keys.map(async (bytes) => {
      const key = await crypto.subtle.importKey('raw', bytes, HMAC, false, ['verify']);
      return crypto.subtle.verify('HMAC', key, signature, message);
    }),
  );
  return verdicts.includes(true);
}

/** The HMAC of `message`. */
export async function signHmac(key: Key, message: Bytes): Promise<Bytes> {
  const signing = await crypto.subtle.importKey('raw', key, HMAC, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', signing, message));
}

/** The key of a secret that is text; undefined where it is not set. */
export function textKey(secret: string | undefined): Key | undefined {
  return secret === undefined || secret === '' ? undefined : Uint8Array.from(encoder.encode(secret));
}

/** The key of a secret that is base64, with or without `whsec_` before it; undefined where it is not set or no base64. */
export function base64Key(secret: string | undefined): Key | undefined {
  const text = secret
    ?.trim()
    .replace(/^whsec_/, '')
    .replaceAll('-', '+')
    .replaceAll('_', '/');
  if (text === undefined || text === '') return undefined;
  try {
    return bytesOfBase64(text);
  } catch {
    return undefined;
  }
}

const HEX_DIGEST = /^[0-9a-f]{64}$/;
const BASE64_DIGEST = /^[A-Za-z0-9+/]{43}=$/;

/** The 32 bytes of a digest in lower-case hex; undefined for anything else. */
export function digestFromHex(text: string): Bytes | undefined {
  if (!HEX_DIGEST.test(text)) return undefined;
  return Uint8Array.from({ length: DIGEST_BYTES }, (_, at) => Number.parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** The 32 bytes of a digest in base64; undefined for anything else. */
export function digestFromBase64(text: string): Bytes | undefined {
  return BASE64_DIGEST.test(text) ? bytesOfBase64(text) : undefined;
}

/** A text and a body as one run of bytes: what is signed where more than the body is, or less. */
export function messageOf(text: string, body: Uint8Array = new Uint8Array(0)): Bytes {
  const head = encoder.encode(text);
  const whole = new Uint8Array(head.byteLength + body.byteLength);
  whole.set(head);
  whole.set(body, head.byteLength);
  return whole;
}

function bytesOfBase64(text: string): Bytes {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
