// What people do to whole queues: look, pause, resume, purge. Each deed and its audit row are one transaction.

import { newId } from '../core/ids.ts';
import { instantOrNull } from '../core/instant.ts';
import { MAX_COUNTED, PURGE_BUDGET_MS, PURGE_PAGE } from '../core/limits.ts';
import { QUEUE_NAMES, type QueueName } from '../queues.ts';
import { recordDeed, recordPurge, type Deed } from '../store/audit.ts';
import {
  markPurged,
  pauseQueue,
  readQueue,
  resumeQueue,
  selectQueues,
  type QueueRow,
} from '../store/queue-controls.ts';
import { countOpen, purgeJobs, readOpen, readRevocable } from '../store/revoke.ts';
import { backlogOf } from './why-waiting.ts';
import { query, transact } from './database.ts';
import type { Runtime } from './runtime.ts';

export interface QueueStand extends QueueRow {
  /** Messages it holds; null where it does not say. */
  readonly backlog: number | null;
}

/** How queues stand, in the order they are asked for. */
export async function lookAtQueues(
  rt: Runtime,
  queues: readonly QueueName[] = QUEUE_NAMES,
): Promise<readonly QueueStand[]> {
  const [rows, backlogs] = await Promise.all([
    query(rt, selectQueues(queues, rt.clock.now(), MAX_COUNTED)),
    Promise.all(queues.map(async (queue) => [queue, await backlogOf(rt, queue)] as const)),
  ]);
  const held = new Map<string, number | null>(backlogs);
  return rows.map(readQueue).map((row) => ({ ...row, backlog: held.get(row.queue) ?? null }));
}

/** `until`: epoch ms, later than now; null until it is resumed. A paused queue takes the new end. */
export async function pause(rt: Runtime, queue: QueueName, until: number | null, actor: string): Promise<void> {
  const now = rt.clock.now();
  const detail = { until: instantOrNull(until) };
  await transact(rt, [
    pauseQueue(queue, until, now),
    recordDeed({ ...deedOf(rt, now, actor), action: 'queue.paused', target: queue, detail }),
  ]);
}

/** Whoever is parked is woken by the next tick, or by the caller. */
export async function resume(rt: Runtime, queue: QueueName, actor: string): Promise<void> {
  await transact(rt, [
    resumeQueue(queue),
    recordDeed({ ...deedOf(rt, rt.clock.now(), actor), action: 'queue.resumed', target: queue, detail: {} }),
  ]);
}

export interface Purged {
  /** Jobs that this purge cancelled. */
  readonly purged: number;
  /** Jobs that run on: they may finish, and have no further attempt. */
  readonly running: number;
  /** Whether the time was over before all of them were. What remains may still run until a purge reaches it. */
  readonly remaining: boolean;
}

/** Cancels what waits in a queue, for ten seconds at most; whatever was accepted by now and has no row yet, for good. */
export async function purge(rt: Runtime, queue: QueueName, actor: string): Promise<Purged> {
  const purgedAt = rt.clock.now();
  const deed: Deed = { ...deedOf(rt, purgedAt, actor), action: 'queue.purged', target: queue, detail: {} };
  let beginning = [markPurged(queue, purgedAt), recordPurge(deed)];
  let purged = 0;
  do {
    const answers = await transact(rt, [...beginning, purgeJobs(queue, purgedAt, rt.clock.now(), PURGE_PAGE)]);
    const rows = (answers.at(-1)?.rows ?? []).map(readRevocable);
    beginning = [];
    purged += rows.filter(({ state }) => state === 'REVOKED').length;
    if (rows.length < PURGE_PAGE) break;
  } while (rt.clock.now() - purgedAt < PURGE_BUDGET_MS);
  const [left = { waiting: 0, running: 0 }] = (await query(rt, countOpen(queue, purgedAt))).map(readOpen);
  return { purged, running: left.running, remaining: left.waiting > 0 };
}

/** What every audit row begins with. */
export function deedOf(rt: Runtime, at: number, actor: string): Pick<Deed, 'id' | 'at' | 'actor'> {
  return { id: newId(at, rt.random.bytes(9)), at, actor };
}
