// What callers send: JSON of every kind, from nonsense to a call that is accepted.

import fc from 'fast-check';
import type { z } from 'zod';
import type { Json } from '../../src/core/json.ts';

/** Any JSON value that reading a body lets through: it refuses the key __proto__ before anything looks at it. */
export const anyJson: fc.Arbitrary<Json> = fc
  .jsonValue({ maxDepth: 4 })
  .filter((value) => !JSON.stringify(value).includes('__proto__'))
  .map((value) => value as Json);

type Schema = z.core.JSONSchema.BaseSchema;

/** Values a JSON Schema accepts, as far as it says: members, types, ranges, lengths and formats. */
export function likeSchema(schema: Schema): fc.Arbitrary<Json> {
  const { type, anyOf, oneOf } = schema;
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...(schema.enum as Json[]));
  const choices = anyOf ?? oneOf;
  if (choices !== undefined) return fc.oneof(...choices.map(likeSchema));
  // zod says `["string", "null"]` of a nullable text; the types of JSON Schema here know only the one.
  const types: readonly string[] = Array.isArray(type) ? type : [type ?? 'any'];
  return fc.oneof(...types.map((each) => likeType(each, schema)));
}

function likeType(type: string, schema: Schema): fc.Arbitrary<Json> {
  switch (type) {
    case 'object':
      return likeObject(schema);
    case 'array':
      return fc.array(likeMember(schema.items as Schema | undefined), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.max(schema.minItems ?? 0, Math.min(schema.maxItems ?? 3, 3)),
      });
    case 'string':
      return likeText(schema);
    case 'integer':
      return fc.integer({ min: Math.max(schema.minimum ?? -1e6, -1e6), max: Math.min(schema.maximum ?? 1e6, 1e6) });
    case 'number':
      return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    default:
      return anyJson;
  }
}

function likeObject({ properties, required, additionalProperties }: Schema): fc.Arbitrary<Json> {
  if (properties === undefined) {
    return fc.dictionary(fc.string({ maxLength: 8 }), likeMember(additionalProperties), { noNullPrototype: true });
  }
  const model = Object.fromEntries(Object.entries(properties).map(([name, of]) => [name, likeMember(of)]));
  return fc.record(model, { requiredKeys: required ?? [], noNullPrototype: true });
}

function likeText({ format, minLength = 0, maxLength = 40 }: Schema): fc.Arbitrary<Json> {
  const plain = fc.string({ minLength, maxLength: Math.max(minLength, Math.min(maxLength, 40)) });
  return FORMATS.get(format ?? '') ?? plain;
}

function likeMember(schema: Schema | boolean | undefined): fc.Arbitrary<Json> {
  return typeof schema === 'object' ? likeSchema(schema) : anyJson;
}

/** An input in which one member is missing, replaced by anything, or one too many. */
export function distorted(input: fc.Arbitrary<Json>): fc.Arbitrary<Json> {
  return fc
    .tuple(input, fc.nat({ max: 20 }), fc.option(anyJson, { nil: undefined }), fc.string({ maxLength: 8 }))
    .map(([value, at, by, extra]) => {
      if (value === null || typeof value !== 'object' || Array.isArray(value)) return by ?? null;
      const members = Object.entries(value);
      const name = members[at]?.[0] ?? extra;
      const others = members.filter(([key]) => key !== name);
      return Object.fromEntries(by === undefined ? others : [...others, [name, by]]);
    });
}

const seconds = fc.oneof(fc.nat({ max: 100_000 }), fc.double({ min: 0, max: 4e9, noNaN: true }));
const instant = fc
  .date({ min: new Date('0000-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true })
  .map((date) => date.toISOString());
const when = fc.oneof(seconds, instant);
const timeLimit = fc.oneof(fc.integer({ min: 1, max: 840 }), fc.double({ min: 0.001, max: 840, noNaN: true }));

const FORMATS: ReadonlyMap<string, fc.Arbitrary<string>> = new Map([
  ['email', fc.tuple(fc.nat(), fc.nat()).map(([name, host]) => `u${String(name)}@h${String(host)}.example`)],
  ['uuid', fc.uuid()],
  ['uri', fc.webUrl()],
  ['date-time', instant],
]);

const anyOptions = fc.record(
  {
    countdown: seconds,
    eta: when,
    expires: when,
    priority: fc.integer({ min: 0, max: 10 }),
    queue: fc.constantFrom('email', 'email_queue', 'order.critical', 'default'),
    max_retries: fc.nat({ max: 100 }),
    retry_delays: fc.array(seconds, { minLength: 1, maxLength: 5 }),
    time_limit: timeLimit,
    soft_time_limit: timeLimit,
    idempotency_key: fc.string({ minLength: 1, maxLength: 255 }),
    result_ttl: fc.oneof(
      fc.integer({ min: 1, max: 1e7 }),
      fc.maxSafeInteger().map((value) => Math.abs(value) + 1),
    ),
    tags: fc.array(fc.string({ minLength: 1, maxLength: 100 }), { maxLength: 20 }),
    callback_url: fc.webUrl(),
    unique: fc.record(
      {
        key: fc.constantFrom('k', 'k'.repeat(255)),
        for: fc.integer({ min: 1, max: 1e6 }),
        on: fc.constantFrom('return', 'replace'),
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
  },
  { requiredKeys: [], noNullPrototype: true },
);

/** The options of a call, each by itself as it should be; at most one of those that make it another's repetition. */
export const goodOptions = anyOptions.map(({ unique, ...others }) =>
  unique === undefined || others.idempotency_key !== undefined ? others : { ...others, unique },
);
