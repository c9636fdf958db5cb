// What a task wants told of its jobs' ends: once, after the outcome is committed, changing nothing.

import { within } from '../core/deadline.ts';
import { HOOK_DEADLINE_MS } from '../core/limits.ts';
import type { Attempt, Outcome } from './attempt.ts';
import type { Written } from './finisher.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';
import type { Job, Task } from './task.ts';

/** Calls the hook of an outcome, if its task has one. Never rejects. */
export async function callHook(
  rt: Runtime,
  { task, hookJob: job }: Attempt,
  outcome: Outcome,
  written: Written,
): Promise<void> {
  const hook = hookOf(task, job, outcome, written);
  if (hook === undefined) return;
  try {
    // One that hangs must not hold its batch.
    await within(rt.clock, HOOK_DEADLINE_MS, Promise.resolve(hook()));
  } catch (error) {
    logError('hook.failed', error, { job: job.id, task: task.name, state: written });
  }
}

function hookOf(task: Task, job: Job, outcome: Outcome, written: Written): (() => Promise<void> | void) | undefined {
  if (outcome.kind === 'success' && written === 'SUCCESS') return task.onSuccess?.bind(task, outcome.value, job);
  if (outcome.kind !== 'failure') return undefined;
  if (written === 'RETRY') return task.onRetry?.bind(task, outcome.error, job);
  return written === 'FAILURE' ? task.onFailure?.bind(task, outcome.error, job) : undefined;
}
