import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fingerprint, normaliseMessage } from '../../src/core/fingerprint.ts';

const of = (message: string): string => fingerprint('send_email', 'exception', message);

const hex = (length: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdef')), minLength: length, maxLength: length });
const word = fc.string({
  unit: fc.constantFrom(...Array.from('abcdefghijklmnopqrstuvwxyz')),
  minLength: 1,
  maxLength: 12,
});

/** What may vary between two failures that are the same failure. */
const VARYING: Readonly<Record<string, fc.Arbitrary<string>>> = {
  'a uuid': fc.tuple(fc.uuid(), fc.boolean()).map(([id, upper]) => (upper ? id.toUpperCase() : id)),
  'a number': fc.nat().map(String),
  'a value in double quotes': fc.string({ maxLength: 60 }).map((text) => `"${text.replaceAll('"', '')}"`),
  'a value in single quotes': fc.string({ maxLength: 60 }).map((text) => `'${text.replaceAll(/['"`]/g, '')}'`),
  'a value in backticks': fc.string({ maxLength: 60 }).map((text) => `\`${text.replaceAll(/['"`]/g, '')}\``),
  'an address': fc.tuple(word, word, fc.constantFrom('com', 'org', 'co.uk')).map(([a, b, end]) => `${a}@${b}.${end}`),
  'a url': fc
    .tuple(fc.constantFrom('http', 'https'), word, fc.array(fc.oneof(word, fc.nat().map(String)), { maxLength: 4 }))
    .map(([scheme, host, path]) => [`${scheme}://${host}.example`, ...path].join('/')),
  'a hex digest': fc
    .tuple(fc.constantFrom(8, 12, 32, 40, 64), fc.nat({ max: 9 }))
    .chain(([length, digit]) => hex(length - 1).map((rest) => String(digit) + rest)),
};

describe('INV-F18 failure patterns: messages that differ in ids group together', () => {
  it.each(Object.keys(VARYING))('%s does not count, wherever it stands in the message', (kind) => {
    const value = VARYING[kind] ?? fc.constant('');
    fc.assert(
      fc.property(fc.array(word), fc.array(word), value, value, (before, after, one, other) => {
        expect(of([...before, one, ...after].join(' '))).toBe(of([...before, other, ...after].join(' ')));
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    [
      'Job 0199a1b2-0000-7000-8000-000000000001 could not be found',
      'Job 0199ffff-1234-7abc-9def-0123456789ab could not be found',
    ],
    ['Mailgun answered 429 after 1201 ms', 'Mailgun answered 429 after 87 ms'],
    ['Unknown recipient "ada@example.com"', 'Unknown recipient "Grace Hopper"'],
    ['550 no such mailbox: ada@example.com', '550 no such mailbox: grace.hopper+test@navy.example.org'],
    ['GET https://api.example.com/v1/users/17?x=1 failed', 'GET https://api.example.com/v1/users/18 failed'],
    ['no blob for 9f86d081884c7d65', 'no blob for 60303ae22b998861'],
    ['commit 0xDEADBEEF01 is gone', 'commit 0xCAFEBABE02 is gone'],
    ['column  a\n\tis missing', 'column a is missing'],
  ])('%j and %j are one', (one, other) => {
    expect(of(one)).toBe(of(other));
  });

  it('a quoted value does not count, however long it is', () => {
    fc.assert(
      fc.property(fc.nat({ max: 3_000 }), fc.nat({ max: 3_000 }), (one, other) => {
        const message = (length: number): string => `The answer "${'x'.repeat(length)}" is not what was promised`;
        expect(of(message(one))).toBe(of(message(other)));
      }),
      { examples: [[10, 980]] },
    );
  });

  it('different failures do not group', () => {
    const messages = [
      'Mailgun answered 429',
      'Mailgun answered 500: try again later',
      'Stripe answered 429',
      'connection refused',
      'connection reset by peer',
      'The soft time limit has passed.',
      "Cannot read properties of undefined (reading 'id')",
      "Cannot set properties of undefined (setting 'id')",
      'TypeError: fetch failed',
      'RangeError: fetch failed',
      'no such mailbox: ada@example.com',
      'mailbox full: ada@example.com',
      'GET https://api.example.com/v1/users/17 failed',
      'POST https://api.example.com/v1/users/17 failed',
      'input.to: Invalid email address',
      'input.cc: Invalid email address',
      'deadbeat is no face',
      '',
    ];
    expect(new Set(messages.map(of)).size).toBe(messages.length);
  });

  it('different words make different failures', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), fc.array(word, { maxLength: 8 }), (one, other) => {
        expect(of(one.join(' ')) === of(other.join(' '))).toBe(one.join(' ') === other.join(' '));
      }),
      { numRuns: 500 },
    );
  });

  it('an apostrophe is no quotation mark: what stands between two of them still counts', () => {
    expect(of("Can't reach the database, so the job won't start")).not.toBe(
      of("Can't send to the mail server because it doesn't start"),
    );
    expect(of("The disk couldn't be read and wasn't mounted")).not.toBe(
      of("The disk couldn't be found, the host isn't mounted"),
    );
  });

  it('the same words fail differently in another task or with another code', () => {
    const base = fingerprint('send_email', 'exception', 'no');
    expect(fingerprint('send_sms', 'exception', 'no')).not.toBe(base);
    expect(fingerprint('send_email', 'time_limit', 'no')).not.toBe(base);
  });

  it('is 16 hex characters of any text at all, and the same each time', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string({ unit: 'binary', maxLength: 2_000 }), (task, code, message) => {
        expect(fingerprint(task, code, message)).toMatch(/^[0-9a-f]{16}$/);
        expect(fingerprint(task, code, message)).toBe(fingerprint(task, code, message));
      }),
    );
  });

  it.each([
    ['quotation marks', '"'.repeat(50_000)],
    ['mixed quotation marks', `"'\``.repeat(17_000)],
    ['hex without a digit', 'a'.repeat(50_000)],
    ['hex in short pieces', 'abcdefa '.repeat(6_250)],
    ['at signs', '@'.repeat(50_000)],
    ['almost addresses', `${'a'.repeat(64)}@`.repeat(770)],
    ['one long local part', `${'a'.repeat(49_999)}@`],
    ['almost uuids', '01234567-0123-0123-0123-'.repeat(2_000)],
    ['schemes', 'https://'.repeat(6_250)],
    ['blanks', ' '.repeat(50_000)],
    ['digits', '1'.repeat(50_000)],
    ['zeros and x', '0x'.repeat(25_000)],
  ])('takes linear time on hostile text: 50,000 characters of %s', (_, text) => {
    const start = performance.now();
    for (let time = 0; time < 20; time += 1) normaliseMessage(text);
    expect((performance.now() - start) / 20).toBeLessThan(50);
  });
});
