// Taking jobs: one statement for a whole batch, and for those it did not win, the reason why and what follows from it.

import type { Envelope } from '../core/envelope.ts';
import {
  MESSAGE_HORIZON_SECONDS,
  TICK_HORIZON_SECONDS,
  UNKNOWN_TASK_LIFE_MS,
  UNKNOWN_TASK_RETRY_SECONDS,
} from '../core/limits.ts';
import { DatabaseError } from '../core/ports.ts';
import { isFinal } from '../core/states.ts';
import { insertJobs } from '../store/accept.ts';
import { claimJobs, expireJobs, explainWaiting, readUnwon, readWon, selectUnwon } from '../store/claims.ts';
import type { Unwon, Won } from '../store/claims.ts';
import { recordUnparseable } from '../store/dead-letters.ts';
import { persist, query, transact } from './database.ts';
import { delaySecondsUntil } from './hand-out.ts';
import { loseLapsed } from './lapse.ts';
import { logError, logInfo } from './log.ts';
import { mayMakeRow, owe, putBack } from './put-back.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, whileSilent, type Delivery, type Settle } from './settlement.ts';
import { deadLetterId, errorOf } from './verdict.ts';

/** How long a claim is repeated through an outage before its messages go back. */
const PATIENCE_MS = 5_000;
/** A claim, one after rows were made or attempts given up, and one for what came due meanwhile. */
const ROUNDS = 3;

export interface Claimed {
  readonly won: readonly Won[];
  /**
   * Jobs whose attempt has vanished before, and may do so again: left unclaimed, so that an isolate that dies of one
   * takes no other with it. Claimed by themselves, they are won. Those that have vanished least often come first.
   */
  readonly suspects: readonly Delivery[];
}

/** Claims what may run now and settles what may not. Never rejects. */
export async function claimAll(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<Claimed> {
  // Fresh randomness, never taken from a message: a claim repeated with it is the same claim.
  const token = Array.from(rt.random.bytes(16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const alone = deliveries.length === 1;
  const won: Won[] = [];
  const suspects = new Map<Delivery, number>();
  let left = deliveries;
  try {
    left = await putBackUnknown(rt, left, settle);
    for (let round = 0; round < ROUNDS && left.length > 0; round += 1) {
      const taken = await claimOnce(rt, left, token, alone);
      won.push(...taken);
      const ids = new Set(taken.map(({ id }) => id));
      left = left.filter(({ envelope }) => !ids.has(envelope.id));
      if (left.length === 0) break;
      const { again, apart } = await settleUnwon(rt, left, alone, settle);
      for (const { delivery, row } of apart) suspects.set(delivery, row.lost);
      left = again;
    }
    for (const { envelope } of left) settle(envelope.id, retryIn(1));
  } catch (error) {
    logError('claim.failed', error, { jobs: left.length });
    for (const { envelope, deliveries: count } of left) settle(envelope.id, whileSilent(count));
  }
  return { won, suspects: [...suspects].sort(([, a], [, b]) => a - b).map(([delivery]) => delivery) };
}

async function claimOnce(
  rt: Runtime,
  deliveries: readonly Delivery[],
  token: string,
  alone: boolean,
): Promise<readonly Won[]> {
  const now = rt.clock.now();
  const statement = claimJobs(
    deliveries.map(({ envelope }) => envelope.id),
    token,
    now,
    alone,
  );
  const [answer] = await persist(rt, [statement], now + PATIENCE_MS);
  return (answer?.rows ?? []).map(readWon);
}

interface Found {
  readonly delivery: Delivery;
  readonly row: Unwon;
}

/** Settles what is not to run now; returns what is worth another claim, and what is worth one by itself. */
async function settleUnwon(
  rt: Runtime,
  left: readonly Delivery[],
  alone: boolean,
  settle: Settle,
): Promise<{ readonly again: readonly Delivery[]; readonly apart: readonly Found[] }> {
  const now = rt.clock.now();
  const rows = await query(rt, selectUnwon(left.map(({ envelope }) => envelope.id)));
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
  const again = [...lapsed, ...of('claimable')].map(({ delivery }) => delivery);
  return { again: [...again, ...(await makeRows(rt, missing, settle))], apart: of('suspect') };
}

type Fate = 'over' | 'leased' | 'lapsed' | 'expired' | 'early' | 'far' | 'suspect' | 'claimable';

function fateOf(row: Unwon, now: number, alone: boolean): Fate {
  if (isFinal(row.state)) return 'over';
  if (row.state === 'STARTED') return (row.lease_until ?? 0) < now ? 'lapsed' : 'leased';
  if (row.expires_at !== null && row.expires_at <= now && row.started_at === null) return 'expired';
  if (row.due_at <= now) return row.lost > 0 && !alone ? 'suspect' : 'claimable';
  return row.due_at - now <= TICK_HORIZON_SECONDS * 1_000 ? 'early' : 'far';
}

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
    await transact(rt, [insertJobs([{ envelope, sentAt: later ? null : now }], now)]);
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

/** Settles jobs of tasks that nobody here knows; returns what is to be claimed: the others, and what waited a day. */
async function putBackUnknown(
  rt: Runtime,
  deliveries: readonly Delivery[],
  settle: Settle,
): Promise<readonly Delivery[]> {
  const unknown = deliveries.filter(({ envelope }) => rt.registry.find(envelope.task) === undefined);
  if (unknown.length === 0) return deliveries;
  const now = rt.clock.now();
  const ids = unknown.map(({ envelope }) => envelope.id);
  const [waiting, all] = await transact(rt, [
    explainWaiting(ids, 'no deployment here knows its task yet', now),
    selectUnwon(ids),
  ]);
  const since = new Map((waiting?.rows ?? []).map(({ id, due_at }) => [id, Number(due_at)]));
  const over = new Set(
    (all?.rows ?? [])
      .map(readUnwon)
      .filter((row) => isFinal(row.state))
      .map(({ id }) => id),
  );
  const given = unknown.filter(({ envelope }) => {
    const couldRunAt = since.get(envelope.id) ?? Math.max(envelope.acceptedAt, envelope.dueAt);
    return !over.has(envelope.id) && now - couldRunAt >= UNKNOWN_TASK_LIFE_MS;
  });
  for (const id of over) settle(id, ACK);
  const back = unknown.filter((delivery) => !given.includes(delivery) && !over.has(delivery.envelope.id));
  await putBack(rt, back, () => UNKNOWN_TASK_RETRY_SECONDS, settle);
  return deliveries.filter((delivery) => given.includes(delivery) || !unknown.includes(delivery));
}
