import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { parseMessage } from '../../src/core/envelope.ts';
import { newId } from '../../src/core/ids.ts';
import { formatInstant } from '../../src/core/instant.ts';
import { byteLength, type Json } from '../../src/core/json.ts';
import { MAX_PAYLOAD_BYTES, MAX_SEND_BYTES } from '../../src/core/limits.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { readCall, toEnvelope, type Checked, type Fault, type Request } from '../../src/jobs/request.ts';
import { defineTask, type Task, type TaskDefinition } from '../../src/jobs/task.ts';
import { laneOf, QUEUE_NAMES, QUEUES, type QueueName } from '../../src/queues.ts';
import { debugTasks, tasks } from '../../src/tasks/index.ts';
import { mulberry32 } from '../mulberry32.ts';
import { anyJson, distorted, goodOptions, likeSchema } from './calls.ts';

const NOW = Date.UTC(2026, 7, 15, 12);
const ORIGIN = { id: newId(NOW, new Uint8Array(9)), source: 'api', now: NOW };

const mail = defineTask({
  name: 'send_email',
  aliases: ['app.tasks.send_email'],
  queue: 'email',
  params: ['to', 'subject'],
  input: z.object({ to: z.string(), subject: z.string().default('(none)'), lines: z.array(z.string()).optional() }),
  retry: { max: 4 },
  timeLimit: { softSeconds: 540, hardSeconds: 600 },
  resultTtlSeconds: 60,
  run: () => null,
});
const total = defineTask({
  name: 'total',
  queue: 'default',
  params: ['label', '...numbers'],
  input: z.unknown(),
  run: () => null,
});
const registry = createRegistry([mail, total, ...tasks, ...debugTasks]);

const read = (body: Json): Checked<Request> => readCall(registry, body);

function accepted(body: Json): Request {
  const checked = read(body);
  if (!checked.ok) expect.fail(JSON.stringify(checked.faults));
  return checked.value;
}

function refused(body: Json): { kind: 'invalid' | 'too_large'; faults: readonly Fault[] } {
  const checked = read(body);
  if (checked.ok) expect.fail('It was accepted.');
  expect(checked.faults).not.toEqual([]);
  return checked;
}

const pathsOf = (body: Json): readonly string[] => refused(body).faults.map(({ path }) => path);
const withOptions = (options: Json): Json => ({ task: 'send_email', input: { to: 'ada' }, options });
const envelopeWith = (options: Json): ReturnType<typeof toEnvelope> =>
  toEnvelope(accepted(withOptions(options)), ORIGIN);

describe('what a call gives its task', () => {
  it('is its input, as it is', () => {
    const input = { to: 'ada', lines: ['a', 'b'] };
    expect(accepted({ task: 'send_email', input }).input).toEqual(input);
  });

  it('is an empty object where nothing is given', () => {
    expect(accepted({ task: 'total' }).input).toEqual({});
  });

  it('is kept as it was given: defaults are filled in when it runs, by the deployment that runs it', () => {
    expect(accepted({ task: 'send_email', input: { to: 'ada', more: 1 } }).input).toEqual({ to: 'ada', more: 1 });
  });

  it('may be null, false, 0 or an empty text, if its task takes that', () => {
    for (const input of [null, false, 0, '']) expect(accepted({ task: 'total', input }).input).toBe(input);
  });

  it('may be positional, by the params of the task', () => {
    expect(accepted({ task: 'send_email', args: ['ada', 'hello'] }).input).toEqual({ to: 'ada', subject: 'hello' });
    expect(accepted({ task: 'send_email', args: ['ada'] }).input).toEqual({ to: 'ada' });
  });

  it('may be by name, and both', () => {
    const input = { to: 'ada', subject: 'hello' };
    expect(accepted({ task: 'send_email', kwargs: input }).input).toEqual(input);
    expect(accepted({ task: 'send_email', args: ['ada'], kwargs: { subject: 'hello' } }).input).toEqual(input);
  });

  it('gathers what is left of the arguments under a last param of three dots', () => {
    expect(accepted({ task: 'total', args: ['sum', 1, 2, 3] }).input).toEqual({ label: 'sum', numbers: [1, 2, 3] });
    expect(accepted({ task: 'total', args: ['sum'] }).input).toEqual({ label: 'sum', numbers: [] });
    expect(accepted({ task: 'debug_task', args: [1, 'a'], kwargs: { k: 1 } }).input).toEqual({ args: [1, 'a'], k: 1 });
  });

  it('never loses an argument: what is given by the name of the gathered rest is kept or refused', () => {
    const byName = read({ task: 'total', kwargs: { label: 'sum', numbers: [1, 2] } });
    if (byName.ok) expect(byName.value.input).toEqual({ label: 'sum', numbers: [1, 2] });
    expect(pathsOf({ task: 'total', args: ['sum', 1], kwargs: { numbers: [2] } })).toEqual(['kwargs.numbers']);
  });

  it('maps every list of arguments the task can take, whatever is in it', () => {
    fc.assert(
      fc.property(fc.array(anyJson, { maxLength: 6 }), (args) => {
        const [label, ...numbers] = args;
        const expected = label === undefined ? { numbers } : { label, numbers };
        expect(accepted({ task: 'total', args }).input).toEqual(expected);
      }),
    );
  });

  it.each<[string, Json, string[]]>([
    ['an argument that is given by name as well', { args: ['ada'], kwargs: { to: 'eve' } }, ['kwargs.to']],
    ['more arguments than it takes', { args: ['ada', 'hello', 'more'] }, ['args']],
    ['input and args', { input: { to: 'ada' }, args: [] }, ['input']],
    ['input and kwargs', { input: { to: 'ada' }, kwargs: {} }, ['input']],
    ['a null input and args', { input: null, args: ['ada'] }, ['input']],
    ['args that are no list', { args: 'ada' }, ['args']],
    ['kwargs that are no object', { kwargs: ['ada'] }, ['kwargs']],
    ['an input its schema refuses', { input: { to: 7 } }, ['input.to']],
    ['an input its schema refuses, twice', { input: { to: 7, lines: ['a', 1] } }, ['input.to', 'input.lines[1]']],
    ['an argument its schema refuses', { args: [7] }, ['input.to']],
    ['a missing member', { input: {} }, ['input.to']],
    ['nothing where something is needed', {}, ['input.to']],
    ['an input that is no object', { input: 'ada' }, ['input']],
  ])('is refused with its path: %s', (_, given, paths) => {
    expect(pathsOf({ task: 'send_email', ...(given as Record<string, Json>) })).toEqual(paths);
  });
});

describe('the task of a call', () => {
  it('is found by its name and by its alias', () => {
    expect(accepted({ task: 'app.tasks.send_email', args: ['ada'] }).task).toBe(mail);
    expect(envelopeWith({}).task).toBe('send_email');
  });

  it.each(['nope', '', 'Send_Email', '__proto__', 'toString', 'constructor'])('is refused where it is %j', (name) => {
    const { kind, faults } = refused({ task: name });
    expect(kind).toBe('invalid');
    expect(faults).toEqual([{ path: 'task', message: `there is no task ${JSON.stringify(name)}` }]);
  });

  it('is refused where it is missing or no text', () => {
    for (const body of [{}, { task: null }, { task: 7 }, { task: ['send_email'] }])
      expect(pathsOf(body)).toEqual(['task']);
  });

  it('is refused with a body that is no call at all', () => {
    for (const body of [null, 7, 'send_email', [], [{ task: 'send_email' }]]) expect(pathsOf(body)).toEqual(['']);
  });

  it('is refused with a member no call has, which is named', () => {
    const { faults } = refused({ task: 'send_email', input: { to: 'ada' }, inputs: {} });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toEqual({ path: 'inputs', message: 'is unknown' });
  });
});

describe('the options of a call', () => {
  it.each<[string, Json, string]>([
    ['a negative countdown', { countdown: -1 }, 'options.countdown'],
    ['a countdown that is no number', { countdown: '60' }, 'options.countdown'],
    ['a countdown of more than a century', { countdown: 1e300 }, 'options.countdown'],
    ['an eta without a zone', { eta: '2026-08-15T12:00:00' }, 'options.eta'],
    ['an eta that is no instant', { eta: 'tomorrow' }, 'options.eta'],
    ['a negative eta', { eta: -1 }, 'options.eta'],
    ['an expires without a zone', { expires: '2026-08-15T12:00:00' }, 'options.expires'],
    ['countdown and eta', { countdown: 5, eta: 5 }, 'options.eta'],
    ['an unknown queue', { queue: 'nope' }, 'options.queue'],
    ['a dead-letter queue', { queue: 'email-dlq' }, 'options.queue'],
    ['a priority over 10', { priority: 11 }, 'options.priority'],
    ['a negative priority', { priority: -1 }, 'options.priority'],
    ['half a priority', { priority: 5.5 }, 'options.priority'],
    ['negative retries', { max_retries: -1 }, 'options.max_retries'],
    ['more retries than there are', { max_retries: 101 }, 'options.max_retries'],
    ['no retry delays at all', { retry_delays: [] }, 'options.retry_delays'],
    ['a negative retry delay', { retry_delays: [5, -1] }, 'options.retry_delays[1]'],
    ['a time limit over 840 s', { time_limit: 841 }, 'options.time_limit'],
    ['a time limit of nothing', { time_limit: 0 }, 'options.time_limit'],
    ['a soft limit over 840 s', { soft_time_limit: 841 }, 'options.soft_time_limit'],
    ['a soft limit above the hard one', { soft_time_limit: 31, time_limit: 30 }, 'options.soft_time_limit'],
    ['an empty idempotency key', { idempotency_key: '' }, 'options.idempotency_key'],
    ['an idempotency key of 256', { idempotency_key: 'k'.repeat(256) }, 'options.idempotency_key'],
    ['an idempotency key of what is unique', { idempotency_key: 'k', unique: { key: 'u' } }, 'options.unique'],
    ['an empty unique key', { unique: { key: '' } }, 'options.unique.key'],
    ['a unique key of 256', { unique: { key: 'u'.repeat(256) } }, 'options.unique.key'],
    ['a unique key for no time', { unique: { for: 0 } }, 'options.unique.for'],
    ['debounce without its time', { unique: { on: 'debounce' } }, 'options.unique.for'],
    ['another way to be unique', { unique: { on: 'skip' } }, 'options.unique.on'],
    ['a member unique does not have', { unique: { keys: [] } }, 'options.unique.keys'],
    ['debounce in an hour', { countdown: 3_600, unique: { for: 5, on: 'debounce' } }, 'options.countdown'],
    ['debounce at a time', { eta: 3_600, unique: { for: 5, on: 'debounce' } }, 'options.eta'],
    ['results kept for no time', { result_ttl: 0 }, 'options.result_ttl'],
    ['21 tags', { tags: Array.from({ length: 21 }, String) }, 'options.tags'],
    ['an empty tag', { tags: ['a', ''] }, 'options.tags[1]'],
    ['a tag of 101', { tags: ['t'.repeat(101)] }, 'options.tags[0]'],
    ['options that are a list', [], 'options'],
    ['options that are null', null, 'options'],
  ])('refuse %s', (_, options, path) => {
    expect(pathsOf(withOptions(options))).toEqual([path]);
  });

  it('refuse one that does not exist, and name it', () => {
    const { faults } = refused(withOptions({ countdwon: 5 }));
    expect(faults).toHaveLength(1);
    expect(faults[0]?.path).toMatch(/^options/);
    expect(`${faults[0]?.path ?? ''} ${faults[0]?.message ?? ''}`).toContain('countdwon');
  });

  it('name every fault at once, so that a caller mends them in one go', () => {
    const paths = pathsOf(withOptions({ countdown: -1, queue: 'nope', tags: 7 }));
    expect(paths.toSorted()).toEqual(['options.countdown', 'options.queue', 'options.tags']);
  });

  it('say of an instant without a zone what it lacks', () => {
    const { faults } = refused(withOptions({ eta: '2026-08-15T12:00:00' }));
    expect(faults[0]?.message).toContain('zone');
  });

  it('refuse a result_ttl whose end is no instant any more: whoever reads the job would be shown an error', () => {
    expect(pathsOf(withOptions({ result_ttl: Number.MAX_SAFE_INTEGER }))).toEqual(['options.result_ttl']);
  });
});

describe('what becomes of the options', () => {
  it('is the task where the call says nothing', () => {
    expect(envelopeWith({})).toEqual({
      v: 1,
      id: ORIGIN.id,
      task: 'send_email',
      queue: 'email',
      input: { to: 'ada' },
      options: { maxRetries: 4, retryDelays: null, softSeconds: null, hardSeconds: null, resultTtlSeconds: 60 },
      priority: 6,
      tags: [],
      source: 'api',
      acceptedAt: NOW,
      dueAt: NOW,
      expiresAt: null,
      parentId: null,
      retryOf: null,
    });
  });

  it.each<[Json, number]>([
    [{ countdown: 0 }, NOW],
    [{ countdown: 90 }, NOW + 90_000],
    [{ countdown: 0.0001 }, NOW + 1],
    [{ eta: 90 }, NOW + 90_000],
    [{ eta: '2026-08-15T14:00:30+01:30' }, NOW + 30 * 60_000 + 30_000],
    [{ eta: '2026-08-15T12:00:00.001Z' }, NOW + 1],
    [{ eta: '2026-08-15T12:00:00.0000001Z' }, NOW + 1],
    [{ eta: '2020-01-01T00:00:00Z' }, NOW],
  ])('%j is due at %i: never early, and never before it was accepted', (options, dueAt) => {
    expect(envelopeWith(options).dueAt).toBe(dueAt);
  });

  it.each<[Json, number]>([
    [{ expires: 60 }, NOW + 60_000],
    [{ expires: '2026-08-15T12:01:00Z' }, NOW + 60_000],
    [{ expires: '2020-01-01T00:00:00Z' }, Date.UTC(2020, 0, 1)],
  ])('%j expires at %i', (options, expiresAt) => {
    expect(envelopeWith(options).expiresAt).toBe(expiresAt);
  });

  it.each<[Json, number, number[] | null]>([
    [{}, 4, null],
    [{ max_retries: 0 }, 0, null],
    [{ retry_delays: [1, 2] }, 2, [1, 2]],
    [{ retry_delays: [1, 2], max_retries: 7 }, 7, [1, 2]],
    [{ retry_delays: [1, 2], max_retries: 0 }, 0, [1, 2]],
  ])('%j means %i retries: the length of retry_delays is the maximum where none is given', (options, max, delays) => {
    expect(envelopeWith(options).options).toMatchObject({ maxRetries: max, retryDelays: delays });
  });

  it.each<[Json, number, number]>([
    [{ time_limit: 700 }, 540, 700],
    [{ time_limit: 30 }, 30, 30],
    [{ soft_time_limit: 100 }, 100, 600],
    [{ soft_time_limit: 700 }, 700, 700],
    [{ soft_time_limit: 20, time_limit: 30 }, 20, 30],
    [{ soft_time_limit: 30, time_limit: 30 }, 30, 30],
  ])('%j means a soft limit of %d s and a hard one of %d s', (options, softSeconds, hardSeconds) => {
    expect(envelopeWith(options).options).toMatchObject({ softSeconds, hardSeconds });
  });

  it.each<[Json, string, number]>([
    [{ priority: 9 }, 'email-urgent', 9],
    [{ priority: 8 }, 'email-urgent', 8],
    [{ priority: 7 }, 'email', 7],
    [{ priority: 4 }, 'email', 4],
    [{ priority: 3 }, 'bulk', 3],
    [{ priority: 0 }, 'bulk', 0],
    [{ queue: 'order.critical' }, 'critical', 10],
    [{ queue: 'low_priority' }, 'maintenance', 1],
    [{ queue: 'email', priority: 0 }, 'email', 0],
    [{ queue: 'default', priority: 10 }, 'default', 10],
  ])(
    '%j goes to the queue %s with priority %i: a queue that is named wins over the lane',
    (options, queue, priority) => {
      expect(envelopeWith(options)).toMatchObject({ queue, priority });
    },
  );
});

describe('INV-F25 priority: the queue and the priority of a job', () => {
  const PRIORITIES = [undefined, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  const taskIn = (queue: QueueName): Task => defineTask({ name: 'lane', queue, input: z.unknown(), run: () => null });
  const placed = (own: QueueName, options: Request['options']): { queue: string; priority: number } => {
    const { queue, priority } = toEnvelope({ task: taskIn(own), input: {}, options }, ORIGIN);
    return { queue, priority };
  };

  it.each(QUEUE_NAMES)(
    'of a task of %s: what is named wins, then the lane of its priority, then what the task says',
    (own) => {
      for (const queue of [undefined, ...QUEUE_NAMES]) {
        for (const priority of PRIORITIES) {
          const lane = priority === undefined ? own : laneOf(own, priority);
          expect(placed(own, { ...(queue && { queue }), ...(priority !== undefined && { priority }) })).toEqual({
            queue: queue ?? lane,
            priority: priority ?? QUEUES[queue ?? own].priority,
          });
        }
      }
    },
  );

  it('is spread as the lanes are: of even priorities 3 in 11 are urgent, 4 can wait, and 4 stay', () => {
    const counts = new Map<string, number>();
    const chance = mulberry32(25);
    for (let nth = 0; nth < 11_000; nth += 1) {
      const { queue } = placed('default', { priority: Math.floor(chance() * 11) });
      counts.set(queue, (counts.get(queue) ?? 0) + 1);
    }
    for (const [queue, expected] of [
      ['critical', 3_000],
      ['default', 4_000],
      ['bulk', 4_000],
    ] as const) {
      expect(Math.abs((counts.get(queue) ?? 0) - expected)).toBeLessThan(200);
    }
    expect(counts.size).toBe(3);
  });
});

describe('the size of an input', () => {
  const mailOf = (bytes: number): Json => ({ to: 'x'.repeat(bytes - byteLength('{"to":""}')) });

  it('is accepted up to 16 MiB and refused beyond, as too large', () => {
    expect(MAX_PAYLOAD_BYTES).toBe(16_777_216);
    expect(accepted({ task: 'send_email', input: mailOf(16_777_216) }).input).toHaveProperty('to');
    const { kind, faults } = refused({ task: 'send_email', input: mailOf(16_777_217) });
    expect(kind).toBe('too_large');
    expect(faults).toEqual([{ path: 'input', message: expect.stringContaining('16777217') as string }]);
  });

  it('is counted in bytes, not in characters', () => {
    expect(refused({ task: 'send_email', input: { to: '€'.repeat(5_592_500) } }).kind).toBe('too_large');
    expect(refused({ task: 'send_email', args: ['x'.repeat(16_777_216)] }).kind).toBe('too_large');
  });

  it('leaves room for its envelope: with everything else as large as it may be, the message fits a queue', () => {
    const options = {
      tags: Array.from({ length: 20 }, () => '€'.repeat(100)),
      retry_delays: Array.from({ length: 100 }, () => 86_399.123),
    };
    const request = accepted({ task: 'send_email', input: mailOf(96_000), options });
    const bytes = byteLength(
      JSON.stringify(toEnvelope(request, { ...ORIGIN, parentId: ORIGIN.id, retryOf: ORIGIN.id })),
    );
    expect(bytes).toBeLessThan(128_000);
    expect(bytes).toBeLessThan(MAX_SEND_BYTES);
  });
});

describe('a call of any kind', () => {
  const callLike = fc.record(
    {
      task: fc.oneof(fc.constantFrom('send_email', 'total', 'debug_task', 'process_webhook', 'nope'), anyJson),
      input: anyJson,
      args: fc.oneof(fc.array(anyJson, { maxLength: 4 }), anyJson),
      kwargs: fc.oneof(fc.dictionary(fc.constantFrom('to', 'subject', 'label', 'numbers'), anyJson), anyJson),
      options: fc.oneof(
        goodOptions,
        fc.dictionary(fc.constantFrom('countdown', 'eta', 'expires', 'queue', 'priority', 'tags', 'odd'), anyJson),
        anyJson,
      ),
    },
    { requiredKeys: ['task'], noNullPrototype: true },
  );

  it('is accepted or refused with a reason, and never throws', () => {
    fc.assert(
      fc.property(fc.oneof(anyJson, callLike), (body) => {
        const checked = read(body);
        if (checked.ok) return;
        expect(checked.faults).not.toEqual([]);
        for (const { message } of checked.faults) expect(message).not.toBe('');
      }),
      { numRuns: 3_000 },
    );
  });

  it('that is accepted makes a message its consumer can read, due no earlier than it was accepted', () => {
    fc.assert(
      fc.property(goodOptions, (options) => {
        const checked = read(withOptions(options));
        fc.pre(checked.ok);
        const envelope = toEnvelope(checked.value, ORIGIN);
        expect(parseMessage(JSON.parse(JSON.stringify(envelope)))).toEqual({ kind: 'job', envelope });
        expect(envelope.dueAt).toBeGreaterThanOrEqual(NOW);
      }),
      { numRuns: 2_000, examples: [[{ expires: '1969-12-31T23:59:59Z' }], [{ expires: '0000-01-01T00:00Z' }]] },
    );
  });

  it('that is accepted holds only instants that can be shown', () => {
    fc.assert(
      fc.property(goodOptions, (options) => {
        const checked = read(withOptions(options));
        fc.pre(checked.ok);
        const { dueAt, expiresAt, options: kept } = toEnvelope(checked.value, ORIGIN);
        for (const at of [dueAt, expiresAt ?? 0, dueAt + kept.resultTtlSeconds * 1_000]) {
          expect(() => formatInstant(at)).not.toThrow();
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('what makes two calls one job', () => {
  const uniqueTask = (unique: TaskDefinition<typeof city, null>['unique']): Task =>
    defineTask({ name: 'weather', queue: 'default', input: city, run: () => null, ...(unique && { unique }) });
  const city = z.object({ city: z.string(), days: z.number().default(1) });
  const uniqueOf = (unique: Parameters<typeof uniqueTask>[0], input: Json, options: Json = {}): Checked<Request> =>
    readCall(createRegistry([uniqueTask(unique)]), { task: 'weather', input, options });
  const tokenOf = (...given: Parameters<typeof uniqueOf>): string | undefined => {
    const checked = uniqueOf(...given);
    if (!checked.ok) expect.fail(JSON.stringify(checked.faults));
    return checked.value.unique?.token;
  };

  it('is nothing unless the call or its task says so', () => {
    expect(tokenOf(undefined, { city: 'Rome' })).toBeUndefined();
  });

  it('is the input where there is no key, whatever the order of its members', () => {
    const own: Json = { unique: {} };
    const token = tokenOf(undefined, { city: 'Rome', days: 2 }, own);
    expect(tokenOf(undefined, { days: 2, city: 'Rome' }, own)).toBe(token);
    expect(tokenOf({}, { days: 2, city: 'Rome' })).toBe(token);
    expect(tokenOf(undefined, { city: 'Rome', days: 3 }, own)).not.toBe(token);
  });

  it('is the key where there is one, whatever the input', () => {
    const own: Json = { unique: { key: 'Rome' } };
    expect(tokenOf(undefined, { city: 'Rome' }, own)).toBe(tokenOf(undefined, { city: 'Oslo' }, own));
    expect(tokenOf(undefined, { city: 'Rome' }, own)).not.toBe(tokenOf(undefined, { city: 'Rome' }, { unique: {} }));
  });

  it('is what the task makes of the input as its schema gives it, unless the call has its own', () => {
    const byDays: Parameters<typeof uniqueTask>[0] = { key: ({ days }) => `days ${String(days)}` };
    expect(tokenOf(byDays, { city: 'Rome' })).toBe(tokenOf(byDays, { city: 'Oslo', days: 1 }));
    expect(tokenOf(byDays, { city: 'Rome' }, { unique: { key: 'mine' } })).toBe(
      tokenOf(undefined, { city: 'Oslo' }, { unique: { key: 'mine' } }),
    );
    // Without a key of its own it is its input: what the task says does not apply to it.
    expect(tokenOf(byDays, { city: 'Rome' }, { unique: {} })).not.toBe(tokenOf(byDays, { city: 'Rome' }));
  });

  it('is refused where the task can make no key, and where the call has an idempotency key as well', () => {
    const fails: Parameters<typeof uniqueTask>[0] = {
      key: () => {
        throw new Error('no key');
      },
    };
    expect(uniqueOf(fails, { city: 'Rome' })).toMatchObject({ faults: [{ path: 'options.unique' }] });
    const withKey = uniqueOf({}, { city: 'Rome' }, { idempotency_key: 'k' });
    expect(withKey).toMatchObject({ faults: [{ path: 'options.unique' }] });
    expect(JSON.stringify(withKey)).toContain('the task weather');
    expect(uniqueOf({ on: 'debounce', for: 5 }, { city: 'Rome' }, { countdown: 1 })).toMatchObject({
      faults: [{ path: 'options.countdown' }],
    });
  });

  it('of a task that is defined wrong never deploys', () => {
    expect(() => uniqueTask({ on: 'debounce' })).toThrow('debounce');
    expect(() => uniqueTask({ for: 0 })).toThrow('for');
  });
});

describe('INV-F56 payload validation: whatever JSON a task is given', () => {
  it.each(registry.tasks)('$name takes it or refuses it under `input`, and nothing throws', (task) => {
    const valid = likeSchema(z.toJSONSchema(task.input, { io: 'input', unrepresentable: 'any' }));
    const input = fc.oneof({ weight: 2, arbitrary: valid }, { weight: 2, arbitrary: distorted(valid) }, anyJson);
    const seen = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(input, (given) => {
        const checked = read({ task: task.name, input: given });
        seen[checked.ok ? 'taken' : 'refused'] += 1;
        if (checked.ok) return;
        expect(checked.faults).not.toEqual([]);
        for (const { path } of checked.faults) expect(path).toMatch(/^input(?:[.[]|$)/);
      }),
      { numRuns: 500 },
    );
    // Otherwise this would be a fuzz of one branch only.
    expect(seen.taken).toBeGreaterThan(10);
    if (!(task.input instanceof z.ZodUnknown)) expect(seen.refused).toBeGreaterThan(10);
  });

  const takesNames = registry.tasks.filter(({ params }) => params.at(-1)?.startsWith('...') !== true);

  it.each(takesNames)('$name says the same of arguments by name as of the same input', (task) => {
    const valid = likeSchema(z.toJSONSchema(task.input, { io: 'input', unrepresentable: 'any' }));
    fc.assert(
      fc.property(fc.oneof(valid, distorted(valid)), (given) => {
        fc.pre(given !== null && typeof given === 'object' && !Array.isArray(given));
        const byName = read({ task: task.name, kwargs: given });
        const asInput = read({ task: task.name, input: given });
        expect(byName.ok).toBe(asInput.ok);
        if (byName.ok && asInput.ok) expect(byName.value.input).toEqual(asInput.value.input);
      }),
    );
  });
});
