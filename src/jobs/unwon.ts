// Jobs of a batch that may not run now: why, and what follows from it for their messages.

import type { Envelope } from '../core/envelope.ts';
import { MESSAGE_HORIZON_SECONDS, TICK_HORIZON_SECONDS } from '../core/limits.ts';
import { DatabaseError } from '../core/ports.ts';
import { isFinal } from '../core/states.ts';
import { insertJobs } from '../store/accept.ts';
import { readUnwon, selectUnwon, type Unwon } from '../store/claims.ts';
import { recordUnparseable } from '../store/dead-letters.ts';
import { PAUSE } from '../store/queue-controls.ts';
import { endPurged } from '../store/revoke.ts';
import { expireJobs } from '../store/waiting.ts';
import { query, transact } from './database.ts';
import { delaySecondsUntil } from './hand-out.ts';
import { loseLapsed } from './lapse.ts';
import { logInfo } from './log.ts';
import { park, pauseReason, type Parking } from './park.ts';
import { mayMakeRow, owe, putBack } from './put-back.ts';
import type { Runtime } from './runtime.ts';
import { ACK, type Delivery, type Settle } from './settlement.ts';
import { settleOverlaps } from './overlap.ts';
import { deadLetterId, errorOf } from './verdict.ts';

export interface Found {
  readonly delivery: Delivery;
  readonly row: Unwon;
}

/** What is left of a batch when all is settled that is not to run now. */
export interface Unsettled {
  /** Worth a claim now, as far as their rows say. */
  readonly claimable: readonly Found[];
  /** Worth another look: their rows have just been made, or their last attempts given up. */
  readonly again: readonly Delivery[];
  /** Worth a claim by themselves. */
  readonly apart: readonly Found[];
}

/** Settles what is not to run now; returns the rest. */
export async function settleUnwon(
  rt: Runtime,
  left: readonly Delivery[],
  alone: boolean,
  settle: Settle,
): Promise<Unsettled> {
  const now = rt.clock.now();
  const ids = left.map(({ envelope }) => envelope.id);
  const rows = await query(rt, selectUnwon(ids, now));
  const byId = new Map(rows.map(readUnwon).map((row) => [row.id, row]));
  const fates = left.map((delivery) => ({ delivery, row: byId.get(delivery.envelope.id) }));
  const missing = fates.filter(({ row }) => row === undefined).map(({ delivery }) => delivery);
  const found = fates.flatMap(({ delivery, row }) =>
    row === undefined ? [] : [{ delivery, row, fate: fateOf(row, now, alone) }],
  );
  const of = (fate: Fate): readonly Found[] => found.filter((each) => each.fate === fate);

  for (const { delivery } of of('over')) settle(delivery.envelope.id, ACK);
  const later = new Map([
    ...of('leased').map(({ delivery, row }) => {
      const seconds = delaySecondsUntil(row.lease_until ?? now, now) + 1 + Math.floor(rt.random.fraction() * 5);
      return [delivery, seconds] as const;
    }),
    ...of('early').map(({ delivery, row }) => [delivery, delaySecondsUntil(row.due_at, now)] as const),
    ...of('nearly resumed').map(
      ({ delivery, row }) => [delivery, delaySecondsUntil(row.paused_until ?? now, now)] as const,
    ),
  ]);
  await putBack(rt, [...later.keys()], (delivery) => later.get(delivery) ?? 1, settle);
  await owe(
    rt,
    of('far').map(({ delivery }) => delivery),
    settle,
  );
  await expire(
    rt,
    of('expired').map(({ delivery }) => delivery),
    settle,
  );
  const lapsed = of('lapsed').map(({ delivery, row }) => ({
    delivery,
    id: row.id,
    task: delivery.envelope.task,
    claim: row.claim,
  }));
  await loseLapsed(rt, lapsed, now);
  await park(rt, of('paused').map(parkOfPause), settle);
  const overtaking = await settleOverlaps(rt, of('behind'), settle);
  const again = [...lapsed.map(({ delivery }) => delivery), ...overtaking];
  return {
    claimable: of('claimable'),
    again: [...again, ...(await makeRows(rt, missing, settle))],
    apart: of('suspect'),
  };
}

function parkOfPause({ delivery, row }: Found): Parking {
  return { delivery, row, parkedFor: PAUSE, reason: pauseReason(delivery.envelope.queue, row.paused_until) };
}

type Fate =
  | 'over'
  | 'leased'
  | 'lapsed'
  | 'expired'
  | 'early'
  | 'far'
  | 'paused'
  | 'nearly resumed'
  | 'behind'
  | 'suspect'
  | 'claimable';

function fateOf(row: Unwon, now: number, alone: boolean): Fate {
  if (isFinal(row.state)) return 'over';
  if (row.state === 'STARTED') return (row.lease_until ?? 0) < now ? 'lapsed' : 'leased';
  if (row.expires_at !== null && row.expires_at <= now && row.started_at === null) return 'expired';
  if (row.due_at > now) return row.due_at - now <= TICK_HORIZON_SECONDS * 1_000 ? 'early' : 'far';
  if (row.paused !== 0) return (row.paused_until ?? Infinity) - now <= NEAR_MS ? 'nearly resumed' : 'paused';
  if (row.ahead !== null && row.ahead.running + row.ahead.waiting > 0) return 'behind';
  return row.lost > 0 && !alone ? 'suspect' : 'claimable';
}

// Near enough for its own message to wait.
const NEAR_MS = MESSAGE_HORIZON_SECONDS * 1_000;

async function expire(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<void> {
  if (deliveries.length === 0) return;
  const ids = deliveries.map(({ envelope }) => envelope.id);
  await transact(rt, [expireJobs(ids, rt.clock.now())]);
  for (const id of ids) settle(id, ACK);
}

/** A message whose job has no row: the database was silent when it was accepted. */
async function makeRows(rt: Runtime, missing: readonly Delivery[], settle: Settle): Promise<readonly Delivery[]> {
  const now = rt.clock.now();
  const young = missing.filter(({ envelope }) => mayMakeRow(envelope, now));
  for (const { envelope } of missing.filter((delivery) => !young.includes(delivery))) {
    logInfo('message.too_old', { job: envelope.id, task: envelope.task, accepted_at: envelope.acceptedAt });
    settle(envelope.id, ACK);
  }
  const made = await Promise.all(young.map((delivery) => makeRow(rt, delivery, now, settle)));
  return made.flat();
}

async function makeRow(rt: Runtime, delivery: Delivery, now: number, settle: Settle): Promise<readonly Delivery[]> {
  const { envelope } = delivery;
  const later = envelope.dueAt - now > MESSAGE_HORIZON_SECONDS * 1_000;
  try {
    // What was accepted before a purge of its queue is over as soon as it is known.
    await transact(rt, [insertJobs([{ envelope, sentAt: later ? null : now }], now), endPurged([envelope.id], now)]);
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.kind === 'outage') throw error;
    await bury(rt, envelope, error);
    settle(envelope.id, ACK);
    return [];
  }
  if (!later) return [delivery];
  settle(envelope.id, ACK);
  return [];
}

async function bury(rt: Runtime, envelope: Envelope, reason: unknown): Promise<void> {
  const letter = {
    id: deadLetterId(envelope.id),
    queue: envelope.queue,
    body: JSON.stringify(envelope),
    error: errorOf(envelope.task, 'refused', reason),
    at: rt.clock.now(),
  };
  await transact(rt, [recordUnparseable(letter)]);
}
