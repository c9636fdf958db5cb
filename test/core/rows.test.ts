import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { parseMessage } from '../../src/core/envelope.ts';
import { readEnvelope, readJobRow, ROW_VERSION } from '../../src/store/rows.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/rows');
const MIGRATIONS = join(import.meta.dirname, '../../migrations');
const column = z.union([z.string(), z.number(), z.null()]);
const shipped = readdirSync(FOLDER).map((file) => ({
  version: Number(/^v(\d+)\.json$/.exec(file)?.[1]),
  rows: z.array(z.record(z.string(), column)).parse(JSON.parse(readFileSync(join(FOLDER, file), 'utf8'))),
}));

describe('the versions of a row', () => {
  it('have a fixture each, without a gap, up to the one that is written today', () => {
    const versions = shipped.map(({ version }) => version).sort((a, b) => a - b);
    expect(versions).toEqual(Array.from({ length: ROW_VERSION }, (_, at) => at + 1));
  });

  it.each(shipped)('$version still parses', ({ version, rows }) => {
    expect(rows).not.toEqual([]);
    for (const row of rows) {
      expect(row['v']).toBe(version);
      const job = readJobRow(row);
      expect(job).toMatchObject({ id: row['id'], state: row['state'], attempt: row['attempt'], due_at: row['due_at'] });
      expect(JSON.stringify(job.input)).toBe(row['input']);
      expect(JSON.stringify(job.attempts)).toBe(row['attempts']);
    }
  });

  it.each(shipped)('$version still makes a message that a consumer can read', ({ rows }) => {
    for (const row of rows) {
      const message = readEnvelope(row);
      expect(parseMessage(JSON.parse(JSON.stringify(message)))).toEqual({ kind: 'job', envelope: message });
    }
  });

  it.each(shipped)('$version still fits the table as the migrations make it', ({ rows }) => {
    const db = new DatabaseSync(':memory:');
    for (const file of readdirSync(MIGRATIONS).sort()) db.exec(readFileSync(join(MIGRATIONS, file), 'utf8'));
    for (const row of rows) {
      const names = Object.keys(row);
      const insert = `INSERT INTO jobs (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`;
      db.prepare(insert).run(...Object.values(row));
    }
    expect(db.prepare('SELECT * FROM jobs ORDER BY id').all().map(readJobRow)).toEqual(rows.map(readJobRow));
    db.close();
  });
});

describe('a broken row', () => {
  const [row = {}] = shipped[0]?.rows ?? [];

  it.each([
    ['state', 'DONE'],
    ['options', '{}'],
    ['options', 'not JSON'],
    ['input', '{'],
    ['tags', '[1]'],
    ['attempts', '[{"attempt":1}]'],
    ['v', 99],
    ['due_at', null],
  ])('with %s = %j is refused aloud', (name, value) => {
    expect(() => readJobRow({ ...row, [name]: value })).toThrow();
  });
});
