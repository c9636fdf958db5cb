// The table of queues: the one place that knows them beside wrangler.toml.

import type { Env } from './env.ts';
import type { Backlog, Outgoing, Queues } from './core/ports.ts';

interface QueueSpec {
  /** 0–10, higher is sooner: what a job gets that names none. */
  readonly priority: number;
  readonly batchSize: number;
  readonly batchWaitSeconds: number;
  /** Consumer invocations side by side; undefined leaves it to the platform. Locally there is always one. */
  readonly maxConcurrency?: number;
  /** Other names that mean this queue. `_` and `.` match `-` everywhere. */
  readonly aliases: readonly string[];
  /** At most so many starts in any window, of all its tasks together: `100/m`. */
  readonly rateLimit?: string;
  /** Of jobs whose input has the same value here one runs at a time. A rule, not a capacity: it holds everywhere. */
  readonly lockBy?: string;
  /** Where a job goes whose call asks for a priority this high (8 and more) or this low (3 and less). */
  readonly lanes?: { readonly high: QueueName; readonly low: QueueName };
}

export const QUEUE_NAMES = [
  'critical',
  'agents',
  'email-urgent',
  'webhooks',
  'ai',
  'realtime',
  'email',
  'commerce',
  'default',
  'campaigns',
  'memory',
  'bulk',
  'pipeline',
  'maintenance',
] as const;
export type QueueName = (typeof QUEUE_NAMES)[number];

export const QUEUES: Readonly<Record<QueueName, QueueSpec>> = {
  critical: {
    priority: 10,
    batchSize: 5,
    batchWaitSeconds: 0,
    maxConcurrency: 4,
    aliases: ['high-priority', 'priority', 'payment-critical', 'order-critical', 'monitoring-critical'],
  },
  agents: {
    priority: 10,
    batchSize: 4,
    batchWaitSeconds: 0,
    maxConcurrency: 4,
    aliases: ['agent-tasks'],
    rateLimit: '100/m',
  },
  'email-urgent': { priority: 9, batchSize: 5, batchWaitSeconds: 0, maxConcurrency: 4, aliases: [] },
  webhooks: { priority: 8, batchSize: 25, batchWaitSeconds: 0, maxConcurrency: 3, aliases: ['webhook-queue'] },
  ai: { priority: 7, batchSize: 2, batchWaitSeconds: 0, maxConcurrency: 2, aliases: ['ai-tasks'] },
  realtime: { priority: 7, batchSize: 2, batchWaitSeconds: 0, maxConcurrency: 2, aliases: ['analytics-realtime'] },
  email: {
    priority: 6,
    batchSize: 5,
    batchWaitSeconds: 0,
    maxConcurrency: 8,
    aliases: ['email-queue', 'email-normal', 'email-events'],
    lanes: { high: 'email-urgent', low: 'bulk' },
  },
  commerce: {
    priority: 6,
    batchSize: 4,
    batchWaitSeconds: 0,
    maxConcurrency: 8,
    aliases: ['order-normal', 'payment-normal'],
    lanes: { high: 'critical', low: 'bulk' },
  },
  default: {
    priority: 5,
    batchSize: 100,
    batchWaitSeconds: 0,
    aliases: ['agent-service', 'sync-normal', 'monitoring-normal'],
    lanes: { high: 'critical', low: 'bulk' },
  },
  campaigns: { priority: 5, batchSize: 5, batchWaitSeconds: 0, maxConcurrency: 2, aliases: [] },
  memory: {
    priority: 5,
    batchSize: 1,
    batchWaitSeconds: 0,
    maxConcurrency: 1,
    aliases: ['memory-queue'],
    lockBy: 'agent_id',
  },
  bulk: {
    priority: 3,
    batchSize: 5,
    batchWaitSeconds: 1,
    maxConcurrency: 2,
    aliases: ['email-bulk', 'payment-batch', 'analytics-batch'],
  },
  pipeline: {
    priority: 3,
    batchSize: 1,
    batchWaitSeconds: 0,
    maxConcurrency: 1,
    aliases: ['data-pipeline', 'compute-queue'],
  },
  maintenance: {
    priority: 1,
    batchSize: 1,
    batchWaitSeconds: 0,
    maxConcurrency: 1,
    aliases: ['cleanup-tasks', 'sync-maintenance', 'sync-backup', 'low-priority'],
  },
};

const BY_NAME: ReadonlyMap<string, QueueName> = new Map(
  QUEUE_NAMES.flatMap((name) => [name, ...QUEUES[name].aliases].map((known) => [known, name] as const)),
);

/** The queue a name or alias means (`email_queue`, `payment.critical`); undefined for an unknown one. */
export function resolveQueue(name: string): QueueName | undefined {
  return BY_NAME.get(name.replaceAll(/[_.]/g, '-'));
}

/** The queue a job of `queue` goes to when its call asks for `priority` and names no queue itself. */
export function laneOf(queue: QueueName, priority: number): QueueName {
  const { lanes } = QUEUES[queue];
  if (lanes === undefined) return queue;
  if (priority >= 8) return lanes.high;
  return priority <= 3 ? lanes.low : queue;
}

const DLQ_SUFFIX = '-dlq';

export interface QueueRole {
  readonly kind: 'jobs' | 'dead-letters';
  readonly queue: QueueName;
}

/** What a consumer is given when it is called for the platform's queue `name`. */
export function roleOf(name: string): QueueRole | undefined {
  const dead = name.endsWith(DLQ_SUFFIX);
  const queue = resolveQueue(dead ? name.slice(0, -DLQ_SUFFIX.length) : name);
  return queue === undefined ? undefined : { kind: dead ? 'dead-letters' : 'jobs', queue };
}

/** `email-urgent` → `QUEUE_EMAIL_URGENT`. */
export function bindingName(queue: QueueName): `QUEUE_${string}` {
  return `QUEUE_${queue.toUpperCase().replaceAll('-', '_')}`;
}

/** The queue port on the bindings of wrangler.toml. */
export function platformQueues(env: Env): Queues {
  const producer = (name: string): Queue => {
    const queue = resolveQueue(name);
    const binding = queue === undefined ? undefined : env[bindingName(queue)];
    if (binding === undefined) throw new Error(`No producer is bound for the queue ${name}.`);
    return binding;
  };
  return {
    async send(queue: string, messages: readonly Outgoing[]): Promise<void> {
      await producer(queue).sendBatch(
        messages.map(({ envelope, delaySeconds }) => ({ body: envelope, contentType: 'json' as const, delaySeconds })),
      );
    },
    async backlog(queue: string): Promise<Backlog> {
      const { backlogCount, oldestMessageTimestamp } = await producer(queue).metrics();
      return { count: backlogCount, oldestSentAt: oldestMessageTimestamp?.getTime() };
    },
  };
}
