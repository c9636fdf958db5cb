import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { jobOptions } from '../../src/core/envelope.ts';
import { isId, newId } from '../../src/core/ids.ts';
import type { Json } from '../../src/core/json.ts';
import { callbackOf } from '../../src/jobs/callbacks.ts';
import { InvalidCall, requestOf } from '../../src/jobs/enqueue.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { readCall, toEnvelope } from '../../src/jobs/request.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { QUEUES } from '../../src/queues.ts';
import { deliverCallback } from '../../src/tasks/callbacks/deliver.ts';

const NOW = Date.UTC(2026, 7, 15, 12);
const origin = { id: newId(NOW, new Uint8Array(9)), source: 'api', now: NOW };
const echo = defineTask({ name: 'echo', queue: 'default', input: z.unknown(), run: (input) => input });
const registry = createRegistry([echo]);
const read = (options: Json): ReturnType<typeof readCall> => readCall(registry, { task: 'echo', options });

describe('callback_url', () => {
  it('is in the envelope, with the id of the job that will call it', () => {
    const request = read({ callback_url: 'https://example.com/hook' });
    if (!request.ok) expect.fail(JSON.stringify(request.faults));
    const { options } = toEnvelope(request.value, origin);
    expect(options.callback).toEqual({ id: callbackOf(origin.id, '').id, url: 'https://example.com/hook' });
    expect(isId(options.callback?.id ?? '')).toBe(true);
    expect(options.callback?.id).not.toBe(origin.id);
    expect(jobOptions.parse(JSON.parse(JSON.stringify(options)))).toEqual(options);
  });

  it('that is not given leaves the envelope as it was, to the byte', () => {
    const request = read({});
    if (!request.ok) expect.fail(JSON.stringify(request.faults));
    expect(JSON.stringify(toEnvelope(request.value, origin).options)).toBe(
      '{"maxRetries":3,"retryDelays":null,"softSeconds":null,"hardSeconds":null,"resultTtlSeconds":3600}',
    );
  });

  it.each([
    'ftp://example.com/',
    'example.com/hook',
    '/hook',
    '',
    'https://user:secret@example.com/',
    `https://example.com/${'x'.repeat(2_048)}`,
    7,
    null,
  ])('of %j is refused, and its place is named', (url) => {
    const request = read({ callback_url: url });
    if (request.ok) expect.fail('It was accepted.');
    expect(request.faults.map(({ path }) => path)).toEqual(['options.callback_url']);
  });

  it('is callbackUrl in code, under the same rules', () => {
    const { options } = requestOf(echo, null, { callbackUrl: 'https://example.com/hook' });
    expect(options.callback_url).toBe('https://example.com/hook');
    expect(() => requestOf(echo, null, { callbackUrl: 'mailto:ada@example.com' })).toThrow(InvalidCall);
  });
});

describe('the row that the trigger makes', () => {
  const sql = readFileSync(join(import.meta.dirname, '../../migrations/0004_callbacks.sql'), 'utf8');

  it('names the task, its queue and the priority of that queue', () => {
    const { name, queue } = deliverCallback;
    expect(sql).toContain(`1, '${name}', '${queue}', 'PENDING', ${String(QUEUES[queue].priority)},`);
  });

  it('has the options of a call that gives none', () => {
    const written = /'(\{"maxRetries.*\})'/.exec(sql)?.[1] ?? '';
    const input = { job_id: origin.id, url: 'https://example.com/' };
    const { options } = toEnvelope({ task: deliverCallback, input, options: {} }, origin);
    expect(written).toBe(JSON.stringify(options));
  });
});
