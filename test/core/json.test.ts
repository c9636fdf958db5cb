import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteLength, canonicalJson, deeperThan, formatPath, parseJson, type Json } from '../../src/core/json.ts';

/** `depth` brackets around a 1: arrays and objects in turn where `mixed`. */
function nested(depth: number, mixed = false): string {
  let text = '1';
  for (let level = 0; level < depth; level += 1) text = mixed && level % 2 === 1 ? `{"a":${text}}` : `[${text}]`;
  return text;
}

function outcome(text: string): string {
  const parsed = parseJson(text);
  return parsed.ok ? 'accepted' : `${parsed.path}: ${parsed.message}`;
}

describe('the depth of JSON', () => {
  it.each([false, true])('is accepted at 64 levels and refused at 65 (objects among them: %s)', (mixed) => {
    expect(parseJson(nested(64, mixed)).ok).toBe(true);
    expect(outcome(nested(65, mixed))).toBe(': nested deeper than 64 levels');
  });

  it('is measured before anything is parsed: 100,000 levels are refused at once and nothing throws', () => {
    const text = nested(100_000);
    const start = performance.now();
    for (let time = 0; time < 100; time += 1) expect(outcome(text)).toBe(': nested deeper than 64 levels');
    expect(performance.now() - start).toBeLessThan(1_000);
    // Closed or not, and whatever comes before it.
    expect(outcome('['.repeat(100_000))).toBe(': nested deeper than 64 levels');
    expect(outcome('{"a":'.repeat(100_000))).toBe(': nested deeper than 64 levels');
    expect(parseJson(`${']'.repeat(100_000)}${'['.repeat(100_000)}`).ok).toBe(false);
  });

  it('does not count brackets inside strings and keys, whatever is escaped in them', () => {
    const brackets = '[{'.repeat(100);
    for (const value of [brackets, `"${brackets}`, `\\${brackets}`, `\\"${brackets}`, `${brackets}\\`]) {
      expect(parseJson(JSON.stringify(value))).toEqual({ ok: true, value });
      expect(parseJson(JSON.stringify({ [value]: value }))).toEqual({ ok: true, value: { [value]: value } });
    }
  });

  it('counts a string that ends with an escaped backslash as ended', () => {
    expect(outcome(`["\\\\",${nested(64)}]`)).toBe(': nested deeper than 64 levels');
    expect(parseJson(`["\\\\",${nested(63)}]`).ok).toBe(true);
  });

  it('is the depth of the value itself, for any JSON', () => {
    const depthOf = (value: unknown): number =>
      typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 8 }), fc.nat({ max: 9 }), (value, limit) => {
        expect(deeperThan(JSON.stringify(value), limit)).toBe(depthOf(value) > limit);
        expect(deeperThan(JSON.stringify(value, undefined, 2), limit)).toBe(depthOf(value) > limit);
      }),
      { numRuns: 500 },
    );
  });

  it('of siblings is not added up', () => {
    expect(parseJson(`[${Array.from({ length: 1_000 }, () => nested(63)).join(',')}]`).ok).toBe(true);
  });
});

describe('the key __proto__', () => {
  const place = fc.oneof(fc.constantFrom('a', 'b', 'input', 'kwargs'), fc.nat({ max: 3 }));

  /** JSON with `inner` at `places`, neighbours before it, and the path a problem would name it by. */
  function at(places: readonly (string | number)[], inner: string): string {
    return places.reduceRight<string>(
      (text, each) =>
        typeof each === 'number'
          ? `[${[...Array.from({ length: each }, () => '{"ok":[]}'), text].join(',')}]`
          : `{"before":{"x":[1]},"${each}":${text}}`,
      inner,
    );
  }

  /** `__proto__` with some of its letters written as escapes. */
  const spelled = fc.array(fc.constantFrom('as is', 'lower', 'upper'), { minLength: 9, maxLength: 9 }).map((how) =>
    Array.from('__proto__', (letter, index) => {
      const hex = letter.charCodeAt(0).toString(16).padStart(4, '0');
      if (how[index] === 'as is') return letter;
      return `\\u${how[index] === 'upper' ? hex.toUpperCase() : hex}`;
    }).join(''),
  );

  it('is refused at every level with its path, however it is written', () => {
    fc.assert(
      fc.property(fc.array(place, { maxLength: 12 }), spelled, fc.jsonValue(), (places, key, value) => {
        const text = at(places, `{"${key}":${JSON.stringify(value)}}`);
        expect(parseJson(text)).toEqual({
          ok: false,
          path: formatPath([...places, '__proto__']),
          message: 'the key __proto__ is refused',
        });
      }),
      { numRuns: 1_000, examples: [[[], '__pro\\u0074o__', null]] },
    );
  });

  it('is refused at the deepest level that is accepted', () => {
    expect(outcome(`${'['.repeat(63)}{"__proto__":1}${']'.repeat(63)}`)).toContain('[0].__proto__: the key');
  });

  it('is refused among others, doubled, and below itself', () => {
    expect(outcome('{"a":1,"__proto__":{},"b":2}')).toBe('__proto__: the key __proto__ is refused');
    expect(outcome('{"__proto__":1,"__proto__":2}')).toBe('__proto__: the key __proto__ is refused');
    expect(outcome('{"a":{"__proto__":{"__proto__":1}}}')).toBe('a.__proto__: the key __proto__ is refused');
  });

  it('is only a key: as a value, as part of a longer key, and in any other spelling it is data', () => {
    for (const text of [
      '"__proto__"',
      '["__proto__","prot\\u006f"]',
      '{"a":"__proto__","__proto":1,"proto__":2,"__PROTO__":3,"___proto__":4}',
      '{"prototype":1,"constructor":{"prototype":2}}',
      '{"__pro\\\\u0074o__":1}',
    ]) {
      expect(parseJson(text)).toEqual({ ok: true, value: JSON.parse(text) as unknown });
    }
  });

  it('never reaches a prototype', () => {
    parseJson('{"__proto__":{"polluted":true}}');
    expect('polluted' in {}).toBe(false);
  });
});

describe('parsing', () => {
  it('gives back any JSON value as JSON.parse would', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        fc.pre(!JSON.stringify(value).includes('__proto__'));
        expect(parseJson(JSON.stringify(value))).toEqual({
          ok: true,
          value: JSON.parse(JSON.stringify(value)) as unknown,
        });
      }),
    );
  });

  it('of anything never throws, and refuses exactly what JSON.parse refuses', () => {
    const broken = fc
      .tuple(fc.json(), fc.nat(), fc.string({ unit: 'binary', maxLength: 3 }))
      .map(
        ([text, at, noise]) => text.slice(0, at % (text.length + 1)) + noise + text.slice((at % (text.length + 1)) + 1),
      );
    fc.assert(
      fc.property(fc.oneof(broken, fc.string(), fc.string({ unit: 'binary' })), (text) => {
        fc.pre(!text.includes('proto') && !text.includes('\\u'));
        let readable = true;
        try {
          JSON.parse(text);
        } catch {
          readable = false;
        }
        expect(parseJson(text).ok).toBe(readable);
      }),
      { numRuns: 3_000 },
    );
  });

  it.each(['', ' ', 'undefined', 'NaN', "{'a':1}", '{"a":1,}', '[1,]', '{"a"}', '"', '\uFEFF{}', '1 2', '{"a":1}}'])(
    'refuses %j and says that it is not JSON',
    (text) => {
      expect(outcome(text)).toMatch(/^: not JSON: ./);
    },
  );
});

describe('canonical JSON', () => {
  /** The same value with the keys of every object in another order. */
  function shuffled(value: Json, turn: number): Json {
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return (value as readonly Json[]).map((item) => shuffled(item, turn));
    const members = Object.entries(value).map(([key, member]) => [key, shuffled(member, turn)] as const);
    const cut = members.length === 0 ? 0 : turn % members.length;
    return Object.fromEntries([...members.slice(cut), ...members.slice(0, cut)].reverse());
  }

  it('is the same text whatever the order of keys at any level', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), fc.nat({ max: 7 }), (value, turn) => {
        expect(canonicalJson(shuffled(value as Json, turn))).toBe(canonicalJson(value as Json));
      }),
      { numRuns: 500 },
    );
  });

  it('is JSON of the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        expect(JSON.parse(canonicalJson(value as Json))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('differs for values that differ', () => {
    // Small values, so that two of them are often equal and often nearly so.
    const small = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        fc.constantFrom<Json[]>(0, 1, '0', '1', '', null, true, [], {}),
        tie('list'),
        tie('object'),
      ),
      list: fc.array(tie('value'), { maxLength: 2 }),
      object: fc.dictionary(fc.constantFrom('a', 'b', ''), tie('value'), { maxKeys: 2, noNullPrototype: true }),
    })).value;
    fc.assert(
      fc.property(small, small, (a, b) => {
        expect(canonicalJson(a as Json) === canonicalJson(b as Json)).toBe(isDeepStrictEqual(a, b));
      }),
      { numRuns: 5_000 },
    );
  });

  it('keeps the order of arrays, which is part of the value', () => {
    expect(canonicalJson([2, 1, { b: 1, a: [3, 2] }])).toBe('[2,1,{"a":[3,2],"b":1}]');
  });
});

describe('a path', () => {
  it.each([
    [[], ''],
    [['a'], 'a'],
    [['a', 'b', 2, 'c'], 'a.b[2].c'],
    [[0], '[0]'],
    [[0, 1, 'a'], '[0][1].a'],
    [['jobs', 3, 'options', 'eta'], 'jobs[3].options.eta'],
  ])('%j is written %j', (parts, path) => {
    expect(formatPath(parts)).toBe(path);
  });
});

describe('the length of a text in bytes', () => {
  it('is that of its UTF-8', () => {
    expect(['', 'a', 'é', '€', '😀'].map(byteLength)).toEqual([0, 1, 2, 3, 4]);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const bytesOf = (code: number): number => (code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4);
        const bytes = Array.from(text, (character) => bytesOf(character.codePointAt(0) ?? 0));
        expect(byteLength(text)).toBe(bytes.reduce((sum, each) => sum + each, 0));
      }),
    );
  });
});
