// Tasks that run once an hour where their settings are there. One that was missed is made good by the next; two ticks of
// one hour make one job.

import { z } from 'zod';
import { derivedId } from '../core/ids.ts';
import { RECOVERY_EVERY_MS } from '../core/limits-outside.ts';
import type { Env } from '../env.ts';
import { query, transact } from '../jobs/database.ts';
import { commit, requestOf } from '../jobs/enqueue.ts';
import { toEnvelope } from '../jobs/request.ts';
import type { Runtime } from '../jobs/runtime.ts';
import type { Task } from '../jobs/task.ts';
import { readMark, writeMark } from '../store/sweeps.ts';
import { reconcileMailgunEvents } from '../tasks/webhooks/reconcile-mailgun.ts';
import { recoverGithubDeliveries } from '../tasks/webhooks/recover-github.ts';

interface Hourly {
  readonly task: Task;
  /** Settings without which it is not run. One that is there and wrong is for its job to say. */
  readonly needs: readonly (keyof Env)[];
}

const HOURLY: readonly Hourly[] = [
  { task: recoverGithubDeliveries, needs: ['GITHUB_TOKEN', 'GITHUB_HOOKS'] },
  { task: reconcileMailgunEvents, needs: ['MAILGUN_API_KEY', 'MAILGUN_DOMAINS'] },
];

const MARK = 'hourly';
const mark = z.object({ hour: z.number(), done: z.array(z.string()) });

export async function enqueueHourly(rt: Runtime): Promise<void> {
  const wanted = HOURLY.filter(({ needs }) => needs.every((name) => isSet(rt.env[name])));
  if (wanted.length === 0) return;
  const now = rt.clock.now();
  const hour = now - (now % RECOVERY_EVERY_MS);
  const done = await doneIn(rt, hour);
  const due = wanted.filter(({ task }) => !done.includes(task.name));
  if (due.length === 0) return;
  const made = await Promise.all(due.map(({ task }) => enqueueOf(rt, task, hour)));
  const names = due.flatMap(({ task }, at) => (made[at] === true ? [task.name] : []));
  if (names.length > 0) await transact(rt, [writeMark(MARK, JSON.stringify({ hour, done: [...done, ...names] }))]);
  if (names.length < due.length)
    throw new Error('A task of this hour could not be enqueued; the next tick tries again.');
}

function isSet(value: unknown): boolean {
  return typeof value === 'string' && value.trim() !== '';
}

async function doneIn(rt: Runtime, hour: number): Promise<readonly string[]> {
  const [row] = await query(rt, readMark(MARK));
  const value = row?.['value'];
  if (typeof value !== 'string') return [];
  const stored = mark.parse(JSON.parse(value));
  return stored.hour === hour ? stored.done : [];
}

/** The job of a task and an hour is the same, whoever makes it and how often. */
async function enqueueOf(rt: Runtime, task: Task, hour: number): Promise<boolean> {
  const origin = { id: derivedId(hour, `hourly ${task.name}`), now: rt.clock.now(), source: 'hourly' };
  const enqueued = await commit(rt, { envelope: toEnvelope(requestOf(task, {}), origin), mode: 'again' });
  return enqueued.kind === 'accepted';
}
