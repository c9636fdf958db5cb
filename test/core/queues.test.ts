import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unstable_readConfig as readConfig } from 'wrangler';
import { z } from 'zod';
import { bindingName, laneOf, QUEUE_NAMES, QUEUES, resolveQueue, roleOf } from '../../src/queues.ts';
import type { QueueName } from '../../src/queues.ts';

const ROOT = join(import.meta.dirname, '../..');

// Read by wrangler itself, so that what it would deploy is what is looked at. Its own types need packages we lack.
const consumer = z.strictObject({
  queue: z.string(),
  max_batch_size: z.int(),
  max_batch_timeout: z.int(),
  max_retries: z.int(),
  dead_letter_queue: z.string().optional(),
  max_concurrency: z.int().optional(),
});
const config = z
  .object({
    main: z.string(),
    compatibility_date: z.iso.date(),
    observability: z.object({ enabled: z.boolean() }),
    limits: z.object({ cpu_ms: z.int() }),
    triggers: z.object({ crons: z.array(z.string()) }),
    queues: z.object({
      consumers: z.array(consumer),
      producers: z.array(z.strictObject({ queue: z.string(), binding: z.string() })),
    }),
    durable_objects: z.object({ bindings: z.array(z.object({ name: z.string(), class_name: z.string() })) }),
    exports: z.record(z.string(), z.unknown()),
  })
  .parse(readConfig({ config: join(ROOT, 'wrangler.toml') }));
const consumers = new Map(config.queues.consumers.map((each) => [each.queue, each]));
const producers = new Map(config.queues.producers.map((each) => [each.queue, each.binding]));
const deadLettersOf = (name: QueueName): string => `${name}-dlq`;

// The table of queues, written out again: queue, priority, batch, wait in seconds, max_concurrency.
const TABLE: readonly (readonly [QueueName, number, number, number, number | undefined])[] = [
  ['critical', 10, 5, 0, 4],
  ['agents', 10, 4, 0, 4],
  ['email-urgent', 9, 5, 0, 4],
  ['webhooks', 8, 25, 0, 3],
  ['ai', 7, 2, 0, 2],
  ['realtime', 7, 2, 0, 2],
  ['email', 6, 5, 0, 8],
  ['commerce', 6, 4, 0, 8],
  ['default', 5, 100, 0, undefined],
  ['campaigns', 5, 5, 0, 2],
  ['memory', 5, 1, 0, 1],
  ['bulk', 3, 5, 1, 2],
  ['pipeline', 3, 1, 0, 1],
  ['maintenance', 1, 1, 0, 1],
];

describe('the table of queues', () => {
  it('has the fourteen queues, most urgent first', () => {
    expect(QUEUE_NAMES).toEqual(TABLE.map(([name]) => name));
    expect(Object.keys(QUEUES)).toEqual([...QUEUE_NAMES]);
  });

  it.each(TABLE)('%s: priority %i, batches of %i after %i s, %s side by side', (name, priority, size, wait, side) => {
    const { batchSize, batchWaitSeconds, maxConcurrency } = QUEUES[name];
    expect({ priority: QUEUES[name].priority, batchSize, batchWaitSeconds, maxConcurrency }).toEqual({
      priority,
      batchSize: size,
      batchWaitSeconds: wait,
      maxConcurrency: side,
    });
  });

  it('gives no name to two queues', () => {
    const names = QUEUE_NAMES.flatMap((name) => [name, ...QUEUES[name].aliases]);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('wrangler.toml', () => {
  it.each(QUEUE_NAMES)('consumes %s as the table says, and keeps what it cannot deliver', (name) => {
    const { batchSize, batchWaitSeconds, maxConcurrency } = QUEUES[name];
    expect(consumers.get(name)).toEqual({
      queue: name,
      max_batch_size: batchSize,
      max_batch_timeout: batchWaitSeconds,
      max_retries: 100,
      dead_letter_queue: deadLettersOf(name),
      ...(maxConcurrency === undefined ? {} : { max_concurrency: maxConcurrency }),
    });
  });

  it.each(QUEUE_NAMES)(
    'consumes the dead letters of %s, with batch, wait and retries set: local defaults differ',
    (name) => {
      const consumer = consumers.get(deadLettersOf(name));
      expect(consumer).toEqual({
        queue: deadLettersOf(name),
        max_batch_size: expect.any(Number) as number,
        max_batch_timeout: expect.any(Number) as number,
        max_retries: 100,
      });
    },
  );

  it.each(QUEUE_NAMES)('can send to %s under the name the code asks for, and to its dead letters', (name) => {
    const constant = name.toUpperCase().replaceAll('-', '_');
    expect(bindingName(name)).toBe(`QUEUE_${constant}`);
    expect(producers.get(name)).toBe(`QUEUE_${constant}`);
    expect(producers.get(deadLettersOf(name))).toBe(`DLQ_${constant}`);
  });

  it('has these 28 queues, each consumed once and sent to once, and no other', () => {
    const all = QUEUE_NAMES.flatMap((name) => [name, deadLettersOf(name)]).sort();
    expect(all).toHaveLength(28);
    expect(config.queues.consumers.map(({ queue }) => queue).sort()).toEqual(all);
    expect(config.queues.producers.map(({ queue }) => queue).sort()).toEqual(all);
    const bindings = config.queues.producers.map(({ binding }) => binding);
    expect(new Set(bindings).size).toBe(28);
  });

  it('names its queues as the platform allows: up to 63 letters, digits and dashes', () => {
    for (const name of consumers.keys()) expect(name).toMatch(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/);
  });

  it('stays within the limits of the platform', () => {
    for (const { max_batch_size, max_batch_timeout, max_concurrency } of consumers.values()) {
      expect(max_batch_size).toBeGreaterThanOrEqual(1);
      expect(max_batch_size).toBeLessThanOrEqual(100);
      expect(max_batch_timeout).toBeLessThanOrEqual(60);
      expect(max_concurrency ?? 1).toBeLessThanOrEqual(250);
    }
  });

  it('has exactly one cron trigger, every minute', () => {
    expect(config.triggers.crons).toEqual(['* * * * *']);
  });

  it('turns observability on and gives an invocation five minutes of CPU', () => {
    expect(config.observability.enabled).toBe(true);
    expect(config.limits.cpu_ms).toBe(300_000);
  });

  it('pins a compatibility date in which promises resolve across requests, and which the pinned workerd knows', () => {
    expect(config.compatibility_date >= '2024-10-14').toBe(true);
    expect(config.compatibility_date <= '2026-08-15').toBe(true);
  });

  it('exports every Durable Object it binds, with SQLite storage, and the Worker has its class', () => {
    const classes = config.durable_objects.bindings.map(({ class_name }) => class_name);
    const worker = readFileSync(config.main, 'utf8');
    expect(classes).toContain('ReplayGuard');
    for (const name of classes) {
      expect(config.exports[name]).toEqual({ type: 'durable-object', storage: 'sqlite' });
      expect(worker).toMatch(new RegExp(`^export (?:\\{[^}]*\\b${name}\\b[^}]*\\} from |class ${name} )`, 'm'));
    }
    expect(Object.keys(config.exports).sort()).toEqual([...classes].sort());
  });
});

// Other names each queue answers to.
const ANSWERS_ALSO_TO: readonly (readonly [string, QueueName])[] = [
  ['high_priority', 'critical'],
  ['priority', 'critical'],
  ['payment.critical', 'critical'],
  ['order.critical', 'critical'],
  ['monitoring.critical', 'critical'],
  ['agent-tasks', 'agents'],
  ['email.urgent', 'email-urgent'],
  ['webhook_queue', 'webhooks'],
  ['ai_tasks', 'ai'],
  ['analytics.realtime', 'realtime'],
  ['email_queue', 'email'],
  ['email.normal', 'email'],
  ['order.normal', 'commerce'],
  ['payment.normal', 'commerce'],
  ['agent-service', 'default'],
  ['sync.normal', 'default'],
  ['monitoring.normal', 'default'],
  ['memory_queue', 'memory'],
  ['email.bulk', 'bulk'],
  ['payment.batch', 'bulk'],
  ['analytics.batch', 'bulk'],
  ['data_pipeline', 'pipeline'],
  ['compute_queue', 'pipeline'],
  ['cleanup-tasks', 'maintenance'],
  ['sync.maintenance', 'maintenance'],
  ['sync.backup', 'maintenance'],
  ['low_priority', 'maintenance'],
];

// The 30 queue names of the systems people come from (inventory 2.2): the ones above, and three that are ours too.
const SOURCE_NAMES: readonly (readonly [string, QueueName])[] = [
  ...ANSWERS_ALSO_TO,
  ['webhooks', 'webhooks'],
  ['campaigns', 'campaigns'],
  ['default', 'default'],
];

// What inventory 2.2 merged them into.
const MERGED_NAMES: readonly (readonly [string, QueueName])[] = [
  ['priority', 'critical'],
  ['payment-critical', 'critical'],
  ['order-critical', 'critical'],
  ['monitoring-critical', 'critical'],
  ['agent-tasks', 'agents'],
  ['email-urgent', 'email-urgent'],
  ['webhooks', 'webhooks'],
  ['ai-tasks', 'ai'],
  ['analytics-realtime', 'realtime'],
  ['email-normal', 'email'],
  ['email-events', 'email'],
  ['order-normal', 'commerce'],
  ['payment-normal', 'commerce'],
  ['campaigns', 'campaigns'],
  ['sync-normal', 'default'],
  ['monitoring-normal', 'default'],
  ['memory', 'memory'],
  ['default', 'default'],
  ['payment-batch', 'bulk'],
  ['email-bulk', 'bulk'],
  ['data-pipeline', 'pipeline'],
  ['analytics-batch', 'bulk'],
  ['maintenance', 'maintenance'],
  ['sync-backup', 'maintenance'],
  ['low-priority', 'maintenance'],
];

describe('the name of a queue', () => {
  it('is known in all the forms of the systems people come from', () => {
    expect(new Set(SOURCE_NAMES.map(([name]) => name)).size).toBe(30);
    expect(MERGED_NAMES).toHaveLength(25);
  });

  it.each([...SOURCE_NAMES, ...MERGED_NAMES, ...QUEUE_NAMES.map((name) => [name, name] as const)])(
    '%s means %s, with any of - _ . between its words',
    (name, queue) => {
      const words = name.split(/[-_.]/);
      for (const separator of ['-', '_', '.']) expect(resolveQueue(words.join(separator))).toBe(queue);
      expect(resolveQueue(name)).toBe(queue);
    },
  );

  it.each(['', 'nope', 'Email', 'email ', 'email-dlq', 'emailqueue', 'toString', '__proto__', 'constructor'])(
    '%j means none',
    (name) => {
      expect(resolveQueue(name)).toBeUndefined();
    },
  );

  it('is looked up without ever throwing, and what it means is in the table', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        const queue = resolveQueue(name);
        expect(queue === undefined || QUEUE_NAMES.includes(queue)).toBe(true);
      }),
    );
  });

  it('says what its consumer is given: jobs, or dead letters', () => {
    for (const name of QUEUE_NAMES) {
      expect(roleOf(name)).toEqual({ kind: 'jobs', queue: name });
      expect(roleOf(deadLettersOf(name))).toEqual({ kind: 'dead-letters', queue: name });
    }
    expect(roleOf('nope')).toBeUndefined();
    expect(roleOf('nope-dlq')).toBeUndefined();
    expect(roleOf('-dlq')).toBeUndefined();
  });
});

describe('the lane of a priority', () => {
  const LANES: Partial<Record<QueueName, readonly [QueueName, QueueName]>> = {
    default: ['critical', 'bulk'],
    email: ['email-urgent', 'bulk'],
    commerce: ['critical', 'bulk'],
  };

  it.each(QUEUE_NAMES)(
    'of %s: 8 and more goes to the high one, 3 and less to the low one, where it has lanes',
    (name) => {
      const [high, low] = LANES[name] ?? [name, name];
      const lanes = Array.from({ length: 11 }, (_, priority) => laneOf(name, priority));
      expect(lanes).toEqual([low, low, low, low, name, name, name, name, high, high, high]);
    },
  );

  it('INV-F25 priority: of eleven priorities three lead to the high lane, four to the low one, and four stay', () => {
    for (const [name, [high, low]] of Object.entries(LANES)) {
      const lanes = Array.from({ length: 11 }, (_, priority) => laneOf(name as QueueName, priority));
      const times = [high, name, low].map((lane) => lanes.filter((each) => each === lane).length);
      expect({ name, times }).toEqual({ name, times: [3, 4, 4] });
    }
  });

  it('is where the job stays: lanes do not lead on to other lanes', () => {
    for (const name of QUEUE_NAMES) {
      for (let priority = 0; priority <= 10; priority += 1) {
        const lane = laneOf(name, priority);
        expect(laneOf(lane, priority)).toBe(lane);
      }
    }
  });
});
