// Jobs whose message is let go while they wait for something that will wake them: a queue to be resumed, a lock.

import type { Envelope } from '../core/envelope.ts';
import { formatInstant } from '../core/instant.ts';
import { LINE_ROUNDS, TICK_HORIZON_SECONDS } from '../core/limits.ts';
import type { Row } from '../core/ports.ts';
import type { Unwon } from '../store/claims.ts';
import { readEnvelope } from '../store/rows.ts';
import { parkJobs, selectWakeable, wakeJobs } from '../store/waiting.ts';
import { query } from './database.ts';
import { sendMarked } from './hand-out.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, type Delivery, type Settle } from './settlement.ts';

export interface Parking {
  readonly delivery: Delivery;
  /** As it was read before it was known that the job has to wait. */
  readonly row: Pick<Unwon, 'claim' | 'sent_at'>;
  readonly parkedFor: string;
  readonly reason: string;
}

/** Parks jobs and acks their messages. One that was woken, claimed or ended since it was read asks again soon. */
export async function park(rt: Runtime, parkings: readonly Parking[], settle: Settle): Promise<void> {
  if (parkings.length === 0) return;
  const parks = parkings.map(({ delivery, row, parkedFor, reason }) => ({
    id: delivery.envelope.id,
    claim: row.claim,
    sentAt: row.sent_at,
    parkedFor,
    reason,
  }));
  const parked = new Set((await query(rt, parkJobs(parks, rt.clock.now()))).map(({ id }) => String(id)));
  for (const { id } of parks) settle(id, parked.has(id) ? ACK : retryIn(1));
}

/** Who waits for a lock. */
export interface Line {
  /** Those who are next, as far as they are looked at together. */
  next(): Promise<readonly string[]>;
  /** Jobs that will not come for their turn. Returns whose turn it is instead. */
  leave(jobs: readonly string[]): Promise<readonly string[]>;
}

/** Wakes whose turn it is, and in the place of each who will not come the next one. Whoever is missed has his turn run out. */
export async function wakeTurns(rt: Runtime, turns: readonly string[], line: Line): Promise<void> {
  let jobs = turns;
  for (let round = 0; jobs.length > 0 && round < LINE_ROUNDS; round += 1) {
    const coming = await wake(rt, jobs);
    const gone = jobs.filter((job) => !coming.has(job));
    if (gone.length === 0) return;
    // Where one has ended many may have, by a purge: a call for each would be too many.
    const behind = await line.next();
    const rows = await query(rt, selectWakeable(behind, horizonOf(rt.clock.now())));
    const wakeable = new Set(rows.map(({ id }) => String(id)));
    jobs = await line.leave([...gone, ...behind.filter((job) => !wakeable.has(job))]);
  }
}

function horizonOf(now: number): number {
  return now + TICK_HORIZON_SECONDS * 1_000;
}

/** Wakes jobs: their messages are sent, whether or not they are parked. Returns the ids of those that come for their turn. */
export async function wake(rt: Runtime, ids: readonly string[]): Promise<ReadonlySet<string>> {
  if (ids.length === 0) return new Set();
  const now = rt.clock.now();
  const woken: Envelope[] = [];
  // Nearly always all at one moment.
  for (const [markedAt, rows] of Map.groupBy(await query(rt, wakeJobs(ids, now, horizonOf(now))), sentAtOf)) {
    const envelopes = rows.map(readEnvelope);
    await sendMarked(rt, envelopes, markedAt);
    woken.push(...envelopes);
  }
  // Of a task nobody here knows it would take no turn: its message goes round until somebody does.
  return new Set(woken.filter(({ task }) => rt.registry.find(task) !== undefined).map(({ id }) => id));
}

function sentAtOf(row: Row): number {
  return Number(row['sent_at']);
}

/** Why a job of a paused queue waits. `until`: epoch ms. */
export function pauseReason(queue: string, until: number | null): string {
  return `the queue ${queue} is paused${until === null ? '' : ` until ${formatInstant(until)}`}`;
}
