// The list of all tasks. Deleting a folder here and its line leaves everything else compiling.

import { debugTasksOn, type Env } from '../env.ts';
import { createRegistry, type Registry } from '../jobs/registry.ts';
import type { Task } from '../jobs/task.ts';
import { deliverCallback } from './callbacks/deliver.ts';
import { debugEffect } from './debug/effect.ts';
import { debugFail } from './debug/fail.ts';
import { debugLimited } from './debug/limited.ts';
import { debugSleep } from './debug/sleep.ts';
import { debugTask } from './debug/task.ts';
import { processWebhook } from './webhooks/process-webhook.ts';
import { reconcileMailgunEvents } from './webhooks/reconcile-mailgun.ts';
import { recoverGithubDeliveries } from './webhooks/recover-github.ts';

export const tasks: readonly Task[] = [
  debugTask,
  deliverCallback,
  processWebhook,
  recoverGithubDeliveries,
  reconcileMailgunEvents,
];

/** Registered only where DEBUG_TASKS is on: they let behaviour be tried and measured from outside. */
export const debugTasks: readonly Task[] = [debugSleep, debugFail, debugEffect, debugLimited];

const registry = createRegistry(tasks);
const registryWithDebug = createRegistry([...tasks, ...debugTasks]);

export function registryFor(env: Env): Registry {
  return debugTasksOn(env) ? registryWithDebug : registry;
}
