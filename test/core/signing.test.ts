import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { signHmac, base64Key, verifyHmac } from '../../src/core/hmac.ts';

const base64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));
const bytes = fc.uint8Array({ minLength: 1, maxLength: 100 }).map((array) => Uint8Array.from(array));

it("a signature is what Node's own HMAC makes of the same bytes", async () => {
  await fc.assert(
    fc.asyncProperty(bytes, fc.uint8Array({ maxLength: 300 }), async (key, message) => {
      const signature = await signHmac(key, Uint8Array.from(message));
      expect([...signature]).toEqual([...createHmac('sha256', key).update(message).digest()]);
    }),
  );
});

it('what is signed verifies', async () => {
  const message = Uint8Array.from([1, 2, 3]);
  const signature = await signHmac(Uint8Array.from(new TextEncoder().encode('secret')), message);
  expect(await verifyHmac([Uint8Array.from(new TextEncoder().encode('secret'))], message, signature)).toBe(true);
});

it('a key is the bytes that its secret is the base64 of, with and without whsec_', () => {
  fc.assert(
    fc.property(bytes, (key) => {
      const text = base64(key);
      expect(base64Key(`whsec_${text}`)).toEqual(key);
      expect(base64Key(text)).toEqual(key);
    }),
  );
});

it.each(['', 'whsec_', 'whsec_whsec_YQ==', 'not base64!', 'YQ=', 'Y', '===='])('a secret of %j is none', (secret) => {
  expect(base64Key(secret)).toBeUndefined();
});

// https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/javascript/src/index.test.ts
it('the example of Standard Webhooks is signed as its library signs it', async () => {
  const key = base64Key('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw') ?? new Uint8Array(1);
  const message = new TextEncoder().encode('msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}');
  const signature = await signHmac(key, Uint8Array.from(message));
  expect(base64(signature)).toBe('g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});
