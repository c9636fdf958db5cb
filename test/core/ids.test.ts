import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { firstIdAt, followUpId, isId, millisecondsOf, newId, shardOf } from '../../src/core/ids.ts';

const LAST_MILLISECOND = 2 ** 48 - 1;
const milliseconds = fc.integer({ min: 0, max: LAST_MILLISECOND });
const randomBytes = fc.uint8Array({ minLength: 9, maxLength: 16 });
const shard = fc.integer({ min: 0, max: 255 });
const anId = fc.tuple(milliseconds, randomBytes, shard).map(([now, random, at]) => newId(now, random, at));

/** Bytes as good as random, and the same in every run. */
function scrambled(seed: string): Uint8Array {
  return createHash('sha256').update(seed).digest();
}

function bitsOf(id: string): string {
  return BigInt(`0x${id.replaceAll('-', '')}`)
    .toString(2)
    .padStart(128, '0');
}

describe('a job id', () => {
  it('is a UUID of version 7 and the RFC 9562 variant that keeps its milliseconds and its shard', () => {
    fc.assert(
      fc.property(milliseconds, randomBytes, shard, (now, random, at) => {
        const id = newId(now, random, at);
        expect(isId(id)).toBe(true);
        expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
        expect(bitsOf(id).slice(48, 52)).toBe('0111');
        expect(bitsOf(id).slice(64, 66)).toBe('10');
        expect(millisecondsOf(id)).toBe(now);
        expect(shardOf(id)).toBe(at);
      }),
    );
  });

  it('is laid out as RFC 9562 says: time, version, random, variant, random, and our shard last', () => {
    const id = newId(0x017f22e279b0, Uint8Array.of(0xcc, 0x3d, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f), 0x2a);
    expect(id).toBe('017f22e2-79b0-7cc3-9c4d-c0c0c073982a');
  });

  it('belongs to shard 0 where none is named', () => {
    expect(shardOf(newId(1, scrambled('a')))).toBe(0);
  });

  it('sorts as text in the order of time, whatever its random part', () => {
    fc.assert(
      fc.property(milliseconds, milliseconds, randomBytes, randomBytes, (a, b, left, right) => {
        fc.pre(a !== b);
        expect(newId(a, left) < newId(b, right)).toBe(a < b);
      }),
    );
  });

  it('puts chance into 66 bits: each is set about half the time, all others never move', () => {
    const count = 4_000;
    const ones = Array.from({ length: 128 }, () => 0);
    for (let each = 0; each < count; each += 1) {
      for (const [at, bit] of Array.from(
        bitsOf(newId(1_700_000_000_000, scrambled(`bits ${String(each)}`))),
      ).entries()) {
        ones[at] = (ones[at] ?? 0) + Number(bit);
      }
    }
    const moving = ones.filter((each) => each !== 0 && each !== count);
    expect(moving).toHaveLength(66);
    // Six standard deviations of a fair coin.
    for (const each of moving) expect(Math.abs(each - count / 2)).toBeLessThan(6 * Math.sqrt(count / 4));
  });

  it('does not repeat: 100,000 of one millisecond are all different', () => {
    const ids = Array.from({ length: 100_000 }, (_, at) => newId(1_700_000_000_000, scrambled(String(at))));
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('is refused where there is not enough chance to make it from', () => {
    expect(() => newId(1, new Uint8Array(8))).toThrow(RangeError);
  });
});

describe('the id of a follow-up', () => {
  const role = fc.string({ maxLength: 20 });
  const index = fc.nat({ max: 10_000 });

  it('is the same however often it is asked for, and keeps the milliseconds and the shard of its parent', () => {
    fc.assert(
      fc.property(anId, role, index, (parent, what, at) => {
        const id = followUpId(parent, what, at);
        expect(followUpId(parent, what, at)).toBe(id);
        expect(isId(id)).toBe(true);
        expect(millisecondsOf(id)).toBe(millisecondsOf(parent));
        expect(shardOf(id)).toBe(shardOf(parent));
      }),
    );
  });

  it('differs by parent, by role and by index', () => {
    fc.assert(
      fc.property(anId, anId, role, role, index, index, (parent, other, what, otherWhat, at, otherAt) => {
        const id = followUpId(parent, what, at);
        if (other !== parent) expect(followUpId(other, what, at)).not.toBe(id);
        if (otherWhat !== what) expect(followUpId(parent, otherWhat, at)).not.toBe(id);
        if (otherAt !== at) expect(followUpId(parent, what, otherAt)).not.toBe(id);
        expect(id).not.toBe(parent);
      }),
    );
  });

  it('does not collide: 100 parents of one millisecond with 4 roles and 250 indices give 100,000 ids', () => {
    const ids = new Set<string>();
    for (let parent = 0; parent < 100; parent += 1) {
      const parentId = newId(1_700_000_000_000, scrambled(`parent ${String(parent)}`));
      for (const what of ['link', 'link-error', 'chord', 'dead-letter']) {
        for (let at = 0; at < 250; at += 1) ids.add(followUpId(parentId, what, at));
      }
    }
    expect(ids.size).toBe(100_000);
  });

  it('never changes between versions: a redelivered finish of an older deployment must make the same follow-up', () => {
    const parent = '019a9b2c-3d4e-7abc-8def-0123456789ab';
    const digest = createHash('sha256').update(`${parent}\ndead-letter\n0`).digest();
    expect(followUpId(parent, 'dead-letter', 0)).toBe(newId(0x019a9b2c3d4e, digest, 0xab));
    expect(followUpId(parent, 'dead-letter', 0)).toMatchInlineSnapshot(`"019a9b2c-3d4e-78c4-80b8-72ab944514ab"`);
  });
});

describe('recognising an id', () => {
  it.each([
    '',
    'job-1',
    '019a9b2c3d4e7abc8def0123456789ab',
    '019a9b2c-3d4e-4abc-8def-0123456789ab',
    '019a9b2c-3d4e-7abc-7def-0123456789ab',
    '019A9B2C-3D4E-7ABC-8DEF-0123456789AB',
    '019a9b2c-3d4e-7abc-8def-0123456789ab\n',
    ' 019a9b2c-3d4e-7abc-8def-0123456789ab',
    "019a9b2c-3d4e-7abc-8def-0123456789a'",
  ])('refuses %j', (text) => {
    expect(isId(text)).toBe(false);
  });
});

it('the first id of a millisecond is after all that came before, and before all of its own', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: LAST_MILLISECOND }), randomBytes, (now, random) => {
      expect(isId(firstIdAt(now))).toBe(true);
      expect(firstIdAt(now) <= newId(now, random)).toBe(true);
      expect(newId(now - 1, random, 255) < firstIdAt(now)).toBe(true);
    }),
  );
});
