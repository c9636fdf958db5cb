import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ENVELOPE_VERSION, parseMessage } from '../../src/core/envelope.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { toEnvelope } from '../../src/jobs/request.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/envelopes');
const fixtures = z.array(z.looseObject({ v: z.int() }));
const shipped = readdirSync(FOLDER).map((file) => ({
  version: Number(/^v(\d+)\.json$/.exec(file)?.[1]),
  messages: fixtures.parse(JSON.parse(readFileSync(join(FOLDER, file), 'utf8'))),
}));
/** A message that carries its input; version 2 is one whose input is kept aside. */
const [example] = shipped.find(({ version }) => version === 1)?.messages ?? [];

describe('the versions of a message', () => {
  it('have a fixture each, without a gap, up to the one that is written today', () => {
    const versions = shipped.map(({ version }) => version).sort((a, b) => a - b);
    expect(versions).toEqual(Array.from({ length: ENVELOPE_VERSION }, (_, at) => at + 1));
  });

  it.each(shipped)('$version still parses, and nothing of it is lost', ({ version, messages }) => {
    expect(messages).not.toEqual([]);
    for (const message of messages) {
      expect(message.v).toBe(version);
      const parsed = parseMessage(message);
      expect(parsed).toEqual({ kind: 'job', envelope: message });
    }
  });

  it('are told apart by their members: what acceptance makes today has exactly those of its fixture', () => {
    const task = defineTask({ name: 'any', queue: 'default', input: z.unknown(), run: () => null });
    const id = '019a9b2c-3d4e-7abc-8def-0123456789ab';
    const made = toEnvelope({ task, input: {}, options: {} }, { id, source: 'api', now: 1 });
    expect(Object.keys(made).sort()).toEqual(Object.keys(example ?? {}).sort());
    expect(Object.keys(made.options).sort()).toEqual(Object.keys(Object(example?.['options']) as object).sort());
  });
});

describe('a message that is newer than this deployment', () => {
  it('is recognised by its version and its id, whatever else it holds', () => {
    const future = fc.integer({ min: ENVELOPE_VERSION + 1, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(future, fc.uuid(), fc.dictionary(fc.string(), fc.jsonValue()), (v, id, rest) => {
        expect(parseMessage({ ...rest, v, id })).toEqual({ kind: 'newer', id, version: v });
      }),
    );
  });

  it('without an id it is nobody: there is no row to put back', () => {
    expect(parseMessage({ v: ENVELOPE_VERSION + 1 }).kind).toBe('unparseable');
    expect(parseMessage({ v: ENVELOPE_VERSION + 1, id: 'job 1' }).kind).toBe('unparseable');
  });

  it('is never taken for a job of today, although every member of one is there', () => {
    expect(parseMessage({ ...example, v: ENVELOPE_VERSION + 1 }).kind).toBe('newer');
  });
});

describe('garbage', () => {
  it('is unparseable, with a problem in words and never an exception', () => {
    const anything = fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withNullPrototype: true,
      withSparseArray: true,
      withObjectString: true,
    });
    fc.assert(
      fc.property(fc.oneof(anything, fc.jsonValue()), (body) => {
        const parsed = parseMessage(body);
        expect(parsed.kind).toBe('unparseable');
        expect(parsed).toHaveProperty('problem', expect.stringMatching(/./));
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    undefined,
    null,
    '',
    'hello',
    0,
    true,
    [],
    {},
    { v: 1 },
    { v: 0, id: example?.['id'] },
    { v: '2', id: example?.['id'] },
    { v: 2, id: example?.['id'] },
  ])('%j is unparseable', (body) => {
    expect(parseMessage(body).kind).toBe('unparseable');
  });

  it('is also a message with any one member missing or of another type, and the problem names it', () => {
    const members = Object.keys(example ?? {}).filter((name) => name !== 'input');
    expect(members).toContain('acceptedAt');
    for (const name of members) {
      const without = Object.fromEntries(Object.entries(example ?? {}).filter(([key]) => key !== name));
      for (const body of [without, { ...example, [name]: { odd: true } }]) {
        const parsed = parseMessage(body);
        expect(parsed).toHaveProperty('kind', 'unparseable');
        expect(parsed).toHaveProperty('problem', expect.stringContaining(name));
      }
    }
  });
});
