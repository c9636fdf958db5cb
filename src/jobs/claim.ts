// Taking jobs: one statement for a whole batch. What becomes of those it does not win is said in unwon.ts.

import { hexOf } from '../core/ids.ts';
import { UNKNOWN_TASK_LIFE_MS, UNKNOWN_TASK_RETRY_SECONDS } from '../core/limits.ts';
import { isFinal } from '../core/states.ts';
import { claimJobs, readUnwon, readWon, selectUnwon, type Won } from '../store/claims.ts';
import { explainWaiting } from '../store/waiting.ts';
import { persist, transact } from './database.ts';
import { logError } from './log.ts';
import { putBack } from './put-back.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, whileSilent, type Delivery, type Settle } from './settlement.ts';
import { settleUnwon } from './unwon.ts';

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

/**
 * Claims what may run now and settles what may not. `alone`: nothing else runs beside it, so one whose attempt has
 * vanished before may be claimed. Never rejects.
 */
export async function claimAll(
  rt: Runtime,
  deliveries: readonly Delivery[],
  settle: Settle,
  token = claimToken(rt),
  alone = deliveries.length === 1,
): Promise<Claimed> {
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
      const { claimable, again, apart } = await settleUnwon(rt, left, alone, settle);
      for (const { delivery, row } of apart) suspects.set(delivery, row.lost);
      left = [...again, ...claimable.map(({ delivery }) => delivery)];
    }
    for (const { envelope } of left) settle(envelope.id, retryIn(1));
  } catch (error) {
    logError('claim.failed', error, { jobs: left.length });
    for (const { envelope, deliveries: count } of left) settle(envelope.id, whileSilent(count));
  }
  return { won, suspects: [...suspects].sort(([, a], [, b]) => a - b).map(([delivery]) => delivery) };
}

/** Fresh randomness, never taken from a message: a claim repeated with it is the same claim. */
export function claimToken(rt: Runtime): string {
  return hexOf(rt.random.bytes(16));
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
    selectUnwon(ids, now),
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
