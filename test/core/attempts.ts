// Attempts as the engine prepares them, without a runtime around them.

import { z } from 'zod';
import type { Envelope, JobOptions } from '../../src/core/envelope.ts';
import type { Clock } from '../../src/core/ports.ts';
import type { RetryPolicy } from '../../src/core/retry.ts';
import { prepareAttempt, type Attempt } from '../../src/jobs/attempt.ts';
import type { Runtime, Streams } from '../../src/jobs/runtime.ts';
import { defineTask, type Job } from '../../src/jobs/task.ts';
import { manualClock } from './manual-clock.ts';

export const NOW = Date.UTC(2026, 7, 15, 12);
export const JOB_ID = '019a9b2c-3d4e-7abc-8def-012345678900';

export interface Given {
  readonly attempt?: number;
  readonly policy?: RetryPolicy;
  readonly options?: Partial<JobOptions>;
  readonly clock?: Clock;
  readonly run?: (input: unknown, job: Job) => unknown;
}

/** The runtime of an attempt that touches nothing but the clock, and is heard by nobody. */
export function runtimeWith(clock: Clock): Runtime {
  // Everything else would need bindings; whoever reaches for it finds undefined and fails.
  const streams: Partial<Streams> = { append: () => Promise.resolve('kept') };
  return { clock, streams: streams as Streams } as Partial<Runtime> as Runtime;
}

export function attemptOf({ attempt = 1, policy, options, clock = manualClock(NOW), run }: Given = {}): Attempt {
  const task = defineTask({
    name: 'climb',
    queue: 'default',
    input: z.unknown(),
    retry: policy === undefined ? {} : { delays: policy },
    run: run ?? (() => null),
  });
  const envelope: Envelope = {
    v: 1,
    id: JOB_ID,
    task: task.name,
    queue: task.queue,
    input: {},
    options: {
      maxRetries: 100,
      retryDelays: null,
      softSeconds: null,
      hardSeconds: null,
      resultTtlSeconds: 3_600,
      ...options,
    },
    priority: 5,
    tags: [],
    source: 'api',
    acceptedAt: NOW,
    dueAt: NOW,
    expiresAt: null,
    parentId: null,
    retryOf: null,
  };
  return prepareAttempt(runtimeWith(clock), task, envelope, {
    id: JOB_ID,
    attempt,
    claim: attempt,
    input_key: null,
    input_bytes: null,
    revision: null,
  });
}
