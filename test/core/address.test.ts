import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { destinationOf, isPublicAddress, parseHosts, urlFault } from '../../src/core/address.ts';

const NONE: ReadonlySet<string> = new Set();

// IANA IPv4 Special-Purpose Address Registry, multicast, 240/4, and Azure's channel. Written without the library.
const IPV4_SPECIAL = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['168.63.129.16', 32],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const;

// IANA IPv6 Special-Purpose Address Registry inside 2000::/3, with the documentation and 6bone blocks.
const IPV6_SPECIAL = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['2620:4f:8000::', 48],
  ['3ffe::', 16],
  ['3fff::', 20],
] as const;

function ipv4Number(text: string): bigint {
  return text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

function ipv4Text(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join('.');
}

function ipv6Number(text: string): bigint {
  const [head = '', tail = ''] = text.split('::');
  const parts = (side: string): string[] => (side === '' ? [] : side.split(':'));
  const middle = Array<string>(8 - parts(head).length - parts(tail).length).fill('0');
  return [...parts(head), ...middle, ...parts(tail)].reduce((sum, part) => sum * 65_536n + BigInt(`0x${part}`), 0n);
}

function ipv6Text(value: bigint): string {
  return Array.from({ length: 8 }, (_, at) => ((value >> BigInt(112 - 16 * at)) & 0xffffn).toString(16)).join(':');
}

const within = (value: bigint, [base, bits]: readonly [bigint, number], width: number): boolean =>
  value >> BigInt(width - bits) === base >> BigInt(width - bits);

const ipv4Ranges = IPV4_SPECIAL.map(([base, bits]) => [ipv4Number(base), bits] as const);
const ipv6Ranges = IPV6_SPECIAL.map(([base, bits]) => [ipv6Number(base), bits] as const);
const ipv4Public = (value: bigint): boolean => !ipv4Ranges.some((range) => within(value, range, 32));
const ipv6Public = (value: bigint): boolean =>
  within(value, [ipv6Number('2000::'), 3], 128) && !ipv6Ranges.some((range) => within(value, range, 128));

/** Addresses everywhere, and as many inside and at the edges of each special range. */
function addresses(ranges: readonly (readonly [bigint, number])[], width: number): fc.Arbitrary<bigint> {
  const most = (1n << BigInt(width)) - 1n;
  const near = fc.constantFrom(...ranges).chain(([base, bits]) => {
    const last = base + (1n << BigInt(width - bits)) - 1n;
    const edges = [base - 1n, base, last, last + 1n].filter((value) => value >= 0n && value <= most);
    return fc.oneof(fc.bigInt({ min: base, max: last }), fc.constantFrom(...edges));
  });
  return fc.oneof(fc.bigInt({ min: 0n, max: most }), near);
}
const ipv4 = addresses(ipv4Ranges, 32);
const ipv6 = fc.oneof(
  addresses([...ipv6Ranges, [ipv6Number('fc00::'), 7], [ipv6Number('fec0::'), 10], [0n, 96]], 128),
  fc.bigInt({ min: ipv6Number('2000::'), max: ipv6Number('3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff') }),
);

describe('an address', () => {
  it('of IPv4 is public exactly where no special-purpose registry has it', () => {
    fc.assert(
      fc.property(ipv4, (value) => {
        expect(isPublicAddress(ipv4Text(value))).toBe(ipv4Public(value));
      }),
      { numRuns: 2_000 },
    );
  });

  it('of IPv6 is public exactly where it is global unicast and no special-purpose registry has it', () => {
    fc.assert(
      fc.property(ipv6, (value) => {
        fc.pre(value >> 32n !== 0xffffn);
        expect(isPublicAddress(ipv6Text(value))).toBe(ipv6Public(value));
      }),
      { numRuns: 2_000 },
    );
  });

  it('of IPv4 mapped into IPv6 is what it is by itself; embedded in any other way it is never public', () => {
    fc.assert(
      fc.property(ipv4, (value) => {
        const hex = `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`;
        const mapped = [`::ffff:${hex}`, `::ffff:${ipv4Text(value)}`, `0:0:0:0:0:ffff:${hex}`];
        for (const text of mapped) expect(isPublicAddress(text)).toBe(ipv4Public(value));
        const prefixes = ['::', '::ffff:0:', '64:ff9b::', '64:ff9b:1::', '2001:0:1:2:3:4:'];
        const embedded = [...prefixes.map((prefix) => `${prefix}${hex}`), `2002:${hex}::1`, `::${ipv4Text(value)}`];
        for (const text of embedded) expect(isPublicAddress(text), text).toBe(false);
      }),
    );
  });

  it.each([
    '1.1.1.1',
    '8.8.8.8',
    '93.184.216.34',
    '2606:4700:4700::1111',
    '2a00:1450:4001:830::200e',
    '::ffff:1.1.1.1',
  ])('%s is public', (text) => {
    expect(isPublicAddress(text)).toBe(true);
  });

  it.each([
    '127.0.0.1',
    '169.254.169.254',
    '100.100.100.200',
    '192.0.0.192',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:10.0.0.1',
    'fe80::1',
    'fd00:ec2::254',
    'fec0::1',
    'ff02::1',
    '100::1',
    '100:0:0:1::1',
    '5f00::1',
    '3fff::1',
    '4000::1',
  ])('%s is not', (text) => {
    expect(isPublicAddress(text)).toBe(false);
  });

  it.each([
    '',
    'localhost',
    '1.1.1',
    '0x1.1.1.1',
    '01.1.1.1',
    '1.1.1.1 ',
    '1.1.1.1/8',
    'fe80::1%eth0',
    '2606::1%1',
    '[::1]',
    ':::',
    '::g',
  ])('that is none (%j) is not public', (text) => {
    expect(isPublicAddress(text)).toBe(false);
  });

  it('is never anything that throws', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-fx:.%]{0,40}$/)), (text) => {
        expect(typeof isPublicAddress(text)).toBe('boolean');
      }),
      { numRuns: 2_000 },
    );
  });
});

/** Every way a URL may spell an IPv4 address: parts in decimal, octal or hex, the last ones run together. */
function spellings(value: bigint): readonly string[] {
  const parts = [value >> 24n, (value >> 16n) & 255n, (value >> 8n) & 255n, value & 255n] as const;
  const forms = [
    [parts[0], parts[1], parts[2], parts[3]],
    [parts[0], parts[1], value & 0xffffn],
    [parts[0], value & 0xffffffn],
    [value],
  ];
  const spell = [(n: bigint) => String(n), (n: bigint) => `0x${n.toString(16)}`, (n: bigint) => `0${n.toString(8)}`];
  const plain = forms.flatMap((form) => spell.map((write) => form.map(write).join('.')));
  return [...plain, ...plain.map((text) => `${text}.`)];
}

describe('a URL', () => {
  it('is refused for its IPv4 address however that is spelled', () => {
    fc.assert(
      fc.property(ipv4, (value) => {
        const kind = ipv4Public(value) ? 'allowed' : 'refused';
        for (const host of spellings(value)) {
          expect(destinationOf(`http://${host}/x`, NONE), host).toMatchObject({ kind });
        }
      }),
    );
  });

  it.each([
    'http://127.0.0.1/',
    'http://0x7f.1/',
    'http://2130706433/',
    'http://0177.0.0.1/',
    'http://127.1/',
    'http://127。0。0。1/',
    'http://①②⑦.0.0.1/',
    'http://%31%32%37.0.0.1/',
    'http://10.1.2.3:8080/',
    'http://169.254.169.254/latest/meta-data/',
    'http://[::1]/',
    'http://[::]/',
    'http://[::ffff:10.0.0.1]/',
    'http://[::ffff:a00:1]/',
    'http://[::10.0.0.1]/',
    'http://[64:ff9b::10.0.0.1]/',
    'http://[2002:a00:1::]/',
    'http://[fd00:ec2::254]/',
    'http://localhost/',
    'http://LOCALHOST./',
    'http://a.localhost/',
    'http://printer.local/',
    'http://printer.local./',
    'http://metadata.google.internal/',
    'http://router.lan/',
    'http://nas.home.arpa/',
    'http://intranet/',
    'http://a..example.com/',
    'http://example.com../',
    'ftp://example.com/',
    'file:///etc/passwd',
    'data:text/plain,x',
    'javascript:alert(1)',
    'http://user@example.com/',
    'http://user:secret@example.com/',
    'http://:secret@example.com/',
    '//example.com/',
    'example.com',
    '',
    `https://example.com/${'x'.repeat(2_048)}`,
  ])('%j is refused', (text) => {
    expect(destinationOf(text, NONE)).toMatchObject({ kind: 'refused' });
  });

  it.each([
    ['https://example.com/hook?a=1', 'example.com'],
    ['http://EXAMPLE.com.:8080/', 'example.com'],
    ['https://bücher.example.org/', 'xn--bcher-kva.example.org'],
    ['https://localhost.example.com/', 'localhost.example.com'],
    ['https://notlocal.dev/', 'notlocal.dev'],
  ])('%s is asked for its name %s first', (text, name) => {
    expect(destinationOf(text, NONE)).toMatchObject({ kind: 'resolve', name });
  });

  it('with a public address is allowed', () => {
    expect(destinationOf('https://1.1.1.1/', NONE)).toMatchObject({ kind: 'allowed' });
    expect(destinationOf('https://[2606:4700:4700::1111]/', NONE)).toMatchObject({ kind: 'allowed' });
  });

  it('never makes it throw, and no reason repeats it', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.webUrl(),
          fc.string().map((text) => `http://${text}`),
        ),
        (text) => {
          const destination = destinationOf(text, NONE);
          if (destination.kind === 'refused' && text.length > 20) expect(destination.reason).not.toContain(text);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  test('of 2,048 characters is taken as an option, one more is not', () => {
    const url = (length: number): string => `https://example.com/${'x'.repeat(length - 20)}`;
    expect(urlFault(url(2_048))).toBeUndefined();
    expect(urlFault(url(2_049))).toBe('has 2049 characters; at most 2048');
  });
});

describe('the hosts that may be anywhere', () => {
  const exempt = parseHosts(' 127.0.0.1:8080, hooks.localhost ,[::1], ,10.0.0.7:80');

  it.each([
    'http://127.0.0.1:8080/x',
    'http://0x7f.1:8080/',
    'http://hooks.localhost:99/',
    'https://[::1]:1/',
    'http://10.0.0.7/',
  ])('have %s', (text) => {
    expect(destinationOf(text, exempt)).toMatchObject({ kind: 'allowed' });
  });

  it.each([
    'http://127.0.0.1/',
    'http://127.0.0.1:8081/',
    'http://10.0.0.7:81/',
    'https://10.0.0.7/',
    'http://localhost/',
  ])('do not have %s', (text) => {
    expect(destinationOf(text, exempt)).toMatchObject({ kind: 'refused' });
  });

  it('are held to the rules of scheme, length and credentials all the same', () => {
    for (const text of ['ftp://127.0.0.1:8080/', 'http://a:b@127.0.0.1:8080/', `http://[::1]/${'x'.repeat(2_048)}`]) {
      expect(destinationOf(text, exempt)).toMatchObject({ kind: 'refused' });
    }
  });

  it('are none where nothing is set', () => {
    expect(parseHosts('')).toEqual(new Set());
  });
});
