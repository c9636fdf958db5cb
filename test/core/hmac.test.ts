import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  base64Key,
  digestFromBase64,
  digestFromHex,
  textKey,
  verifyHmac,
  messageOf,
  type Key,
} from '../../src/core/hmac.ts';

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(new TextEncoder().encode(text));

function keyOf(secret: string): Key {
  const key = textKey(secret);
  if (key === undefined) throw new Error('An empty secret is none.');
  return key;
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function urlAlphabet(text: string): string {
  return text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

// Signed by Node's own HMAC, not by the code under test.
function sign(secret: string, body: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHmac('sha256', secret).update(body).digest());
}

function flipBit(bytes: Uint8Array<ArrayBuffer>, bit: number): Uint8Array<ArrayBuffer> {
  const flipped = bytes.slice();
  const at = Math.floor(bit / 8) % bytes.length;
  flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit % 8));
  return flipped;
}

const secret = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 80 });
// A view into a larger buffer must be read as the view it is.
const body = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => {
  const larger = new Uint8Array(bytes.length + 7);
  larger.set(bytes, 4);
  return larger.subarray(4, 4 + bytes.length);
});

describe('a signature', () => {
  // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
  const GITHUB = {
    secret: "It's a Secret to Everybody",
    body: bytesOf('Hello, World!'),
    digest: '757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
  };

  it('that GitHub publishes as its example is accepted', async () => {
    const signature = digestFromHex(GITHUB.digest) ?? new Uint8Array(0);
    expect(await verifyHmac([keyOf(GITHUB.secret)], GITHUB.body, signature)).toBe(true);
  });

  it('is refused under another secret, over another body, and empty', async () => {
    const signature = digestFromHex(GITHUB.digest) ?? new Uint8Array(0);
    expect(await verifyHmac([keyOf("It's a Secret to Nobody")], GITHUB.body, signature)).toBe(false);
    expect(await verifyHmac([keyOf(GITHUB.secret)], bytesOf('Hello, World'), signature)).toBe(false);
    expect(await verifyHmac([keyOf(GITHUB.secret)], GITHUB.body, new Uint8Array(0))).toBe(false);
  });

  it('made by the sender is accepted, over any bytes whatever', async () => {
    await fc.assert(
      fc.asyncProperty(secret, body, async (key, bytes) => {
        expect(await verifyHmac([keyOf(key)], bytes, sign(key, bytes))).toBe(true);
      }),
    );
  });

  it('is refused when any one bit of the body is flipped', async () => {
    await fc.assert(
      fc.asyncProperty(secret, body, fc.nat(), async (key, bytes, bit) => {
        expect(await verifyHmac([keyOf(key)], flipBit(bytes, bit), sign(key, bytes))).toBe(false);
      }),
    );
  });

  it('is refused when any one of its own 256 bits is flipped', async () => {
    const signature = sign(GITHUB.secret, GITHUB.body);
    for (let bit = 0; bit < 256; bit += 1) {
      expect(await verifyHmac([keyOf(GITHUB.secret)], GITHUB.body, flipBit(signature, bit))).toBe(false);
    }
  });

  it('is refused cut short or made longer', async () => {
    const signature = sign(GITHUB.secret, GITHUB.body);
    for (let length = 0; length < 32; length += 1) {
      expect(await verifyHmac([keyOf(GITHUB.secret)], GITHUB.body, signature.slice(0, length))).toBe(false);
    }
    expect(await verifyHmac([keyOf(GITHUB.secret)], GITHUB.body, new Uint8Array([...signature, 0]))).toBe(false);
  });
});

describe('a digest in hex', () => {
  it('reads back as the bytes it was written from', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
        expect(digestFromHex(hex)).toEqual(new Uint8Array(bytes));
      }),
    );
  });

  it('is refused in any other form: nothing is guessed', () => {
    const hex = 'ab'.repeat(32);
    for (const text of [
      '',
      hex.slice(1),
      `${hex}0`,
      ` ${hex}`,
      `${hex}\n`,
      `sha256=${hex}`,
      `0x${hex.slice(2)}`,
      `${hex.slice(1)}g`,
      hex.toUpperCase(),
    ]) {
      expect(digestFromHex(text)).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(!/^[0-9a-f]{64}$/.test(text));
        expect(digestFromHex(text)).toBeUndefined();
      }),
    );
  });
});

describe('a digest in base64', () => {
  it('reads back as the bytes it was written from, and in no other form', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const text = base64(bytes);
        expect(digestFromBase64(text)).toEqual(new Uint8Array(bytes));
        for (const odd of [text.slice(1), `${text}=`, `v1,${text}`, `${text} `, text.replace('=', ''), '']) {
          expect(digestFromBase64(odd)).toBeUndefined();
        }
      }),
    );
  });
});

describe('a key', () => {
  it('of an empty secret is none: anybody could sign with it', () => {
    for (const none of [undefined, '']) expect(textKey(none)).toBeUndefined();
    for (const none of [undefined, '', ' ', 'whsec_', 'whsec_ ', 'not base64!', 'YQ==whsec_YQ=='])
      expect(base64Key(none)).toBeUndefined();
  });

  it('in base64 is its bytes, with or without the prefix, padding, or the alphabet of URLs', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
        const key = new Uint8Array(bytes);
        const text = base64(bytes);
        for (const spelt of [text, `whsec_${text}`, ` ${text}\n`, urlAlphabet(text)]) {
          expect(base64Key(spelt)).toEqual(key);
        }
      }),
    );
  });

  it('of several is enough if one fits, whichever', async () => {
    const signature = sign('second', bytesOf('body'));
    const keys = ['first', 'second', 'third'].map(keyOf);
    expect(await verifyHmac(keys, bytesOf('body'), signature)).toBe(true);
    expect(await verifyHmac(keys.slice(0, 1), bytesOf('body'), signature)).toBe(false);
    expect(await verifyHmac([], bytesOf('body'), signature)).toBe(false);
    expect(await verifyHmac(keys, bytesOf('body'), undefined)).toBe(false);
  });
});

test('a prefix and a body are one run of bytes, whatever is in them', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), body, (prefix, bytes) => {
      expect(messageOf(prefix, bytes)).toEqual(new Uint8Array([...bytesOf(prefix), ...bytes]));
    }),
  );
});
