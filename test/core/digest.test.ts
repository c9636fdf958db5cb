import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sameSecret, sha256Hex, shardOfText } from '../../src/core/digest.ts';

describe('a digest', () => {
  // FIPS 180-4 examples, as published by NIST.
  it.each([
    ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    [
      'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
      '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
    ],
  ])('of %j is the published SHA-256', (text, hex) => {
    expect(sha256Hex(text)).toBe(hex);
  });

  it('is over exact bytes: bytes that are no text count as they are', () => {
    expect(sha256Hex(Uint8Array.of(0xff))).toBe('a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89');
  });

  it('of a text is that of its UTF-8 bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(sha256Hex(text)).toBe(sha256Hex(new TextEncoder().encode(text)));
      }),
    );
  });
});

describe('comparing secrets', () => {
  it('says the same as `===`, and takes secrets of different lengths', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        expect(sameSecret(a, b)).toBe(a === b);
        expect(sameSecret(a, a)).toBe(true);
        expect(sameSecret(a, `${a}x`)).toBe(false);
      }),
    );
  });

  it('sees one changed character anywhere', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.nat(), (secret, at) => {
        const place = at % secret.length;
        const other = secret.charAt(place) === 'a' ? 'b' : 'a';
        expect(sameSecret(secret, secret.slice(0, place) + other + secret.slice(place + 1))).toBe(false);
      }),
    );
  });
});

describe('the shard of a text', () => {
  it('is always the same, and always one of the shards there are', () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 1, max: 256 }), (text, shards) => {
        const shard = shardOfText(text, shards);
        expect(shardOfText(text, shards)).toBe(shard);
        expect(Number.isInteger(shard) && shard >= 0 && shard < shards).toBe(true);
      }),
    );
  });

  it('spreads texts that look alike evenly over 16 shards', () => {
    const counts = new Map<number, number>();
    for (let each = 0; each < 16_000; each += 1) {
      const shard = shardOfText(`delivery-${String(each)}`, 16);
      counts.set(shard, (counts.get(shard) ?? 0) + 1);
    }
    expect(counts.size).toBe(16);
    for (const count of counts.values()) expect(Math.abs(count - 1_000)).toBeLessThan(200);
  });
});
