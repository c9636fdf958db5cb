// HMAC-SHA-256 over exact bytes, compared by the platform in constant time.

const encoder = new TextEncoder();

/** Whether `signature` (raw bytes) is the HMAC of `body` under the UTF-8 bytes of a non-empty `secret`. */
export async function verifyHmac(
  secret: string,
  body: Uint8Array<ArrayBuffer>,
  signature: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  const key = await crypto.subtle.importKey('raw', encoder.encode(secret), { name: 'HMAC', hash: 'SHA-256' }, false, [
    'verify',
  ]);
  return crypto.subtle.verify('HMAC', key, signature, body);
}

const HEX_32_BYTES = /^[0-9a-f]{64}$/i;

/** The 32 bytes of a hex digest; undefined for anything else. */
export function digestFromHex(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!HEX_32_BYTES.test(text)) return undefined;
  return Uint8Array.from({ length: 32 }, (_, at) => Number.parseInt(text.slice(2 * at, 2 * at + 2), 16));
}
