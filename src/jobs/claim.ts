// Taking jobs: one statement for a whole batch, and for those it did not win, the reason why and what follows from it.

import type { Envelope } from '../core/envelope.ts';
import { followUpId } from '../core/ids.ts';
import {
  ENVELOPE_LIFE_MS,
  LAST_DELIVERY,
  MESSAGE_HORIZON_SECONDS,
  TICK_HORIZON_SECONDS,
  UNKNOWN_TASK_LIFE_MS,
  UNKNOWN_TASK_RETRY_SECONDS,
} from '../core/limits.ts';
import { DatabaseError } from '../core/ports.ts';
import { isFinal } from '../core/states.ts';
import { insertJobs } from '../store/accept.ts';
import { claimJobs, expireJobs, explainWaiting, oweJobs, readUnwon, readWon, selectUnwon } from '../store/claims.ts';
import type { Unwon, Won } from '../store/claims.ts';
import { recordUnparseable } from '../store/dead-letters.ts';
import { persist, query, transact } from './database.ts';
import { delaySecondsUntil } from './hand-out.ts';
import { loseLapsed } from './lapse.ts';
import { logError, logInfo } from './log.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, whileSilent, type Delivery, type Settle } from './settlement.ts';
import { DEAD_LETTER_ROLE, errorOf } from './verdict.ts';

/** How long a claim is repeated through an outage before its messages go back. */
const PATIENCE_MS = 5_000;
/** A claim, one after rows were made or attempts given up, and one for what came due meanwhile. */
const ROUNDS = 3;

/** Claims what may run now and settles the rest. Never rejects. */
export async function claimAll(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<readonly Won[]> {
  // Fresh randomness, never taken from a message: a claim repeated with it is the same claim.
  const token = Array.from(rt.random.bytes(16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const won: Won[] = [];
  let left = deliveries;
  try {
    left = await putBackUnknown(rt, left, settle);
    for (let round = 0; round < ROUNDS && left.length > 0; round += 1) {
      const taken = await claimOnce(rt, left, token);
      won.push(...taken);
      const ids = new Set(taken.map(({ id }) => id));
      left = left.filter(({ envelope }) => !ids.has(envelope.id));
      if (left.length > 0) left = await settleUnwon(rt, left, settle);
    }
    for (const { envelope } of left) settle(envelope.id, retryIn(1));
  } catch (error) {
    logError('claim.failed', error, { jobs: left.length });
    for (const { envelope, deliveries: count } of left) settle(envelope.id, whileSilent(count));
  }
  return won;
}

async function claimOnce(rt: Runtime, deliveries: readonly Delivery[], token: string): Promise<readonly Won[]> {
  const now = rt.clock.now();
  const statement = claimJobs(
    deliveries.map(({ envelope }) => envelope.id),
    token,
    now,
  );
  const [answer] = await persist(rt, [statement], now + PATIENCE_MS);
  return (answer?.rows ?? []).map(readWon);
}

/** Settles what is not to run now; returns what is worth another claim. */
async function settleUnwon(rt: Runtime, left: readonly Delivery[], settle: Settle): Promise<readonly Delivery[]> {
  const now = rt.clock.now();
  const rows = await query(rt, selectUnwon(left.map(({ envelope }) => envelope.id)));
  const byId = new Map(rows.map(readUnwon).map((row) => [row.id, row]));
  const fates = left.map((delivery) => ({ delivery, row: byId.get(delivery.envelope.id) }));
  const missing = fates.filter(({ row }) => row === undefined).map(({ delivery }) => delivery);
  const found = fates.flatMap(({ delivery, row }) =>
    row === undefined ? [] : [{ delivery, row, fate: fateOf(row, now) }],
  );
  const of = (fate: Fate): typeof found => found.filter((each) => each.fate === fate);

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
  return [...again, ...(await makeRows(rt, missing, settle))];
}

type Fate = 'over' | 'leased' | 'lapsed' | 'expired' | 'early' | 'far' | 'claimable';

function fateOf(row: Unwon, now: number): Fate {
  if (isFinal(row.state)) return 'over';
  if (row.state === 'STARTED') return (row.lease_until ?? 0) < now ? 'lapsed' : 'leased';
  if (row.expires_at !== null && row.expires_at <= now && row.started_at === null) return 'expired';
  if (row.due_at <= now) return 'claimable';
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

/** Rows are made from young envelopes only: an older job may have been finished and forgotten. */
function mayMakeRow(envelope: Envelope, now: number): boolean {
  return now - envelope.acceptedAt <= ENVELOPE_LIFE_MS;
}

async function bury(rt: Runtime, envelope: Envelope, reason: unknown): Promise<void> {
  const letter = {
    id: followUpId(envelope.id, DEAD_LETTER_ROLE, 0),
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

/** Messages again later; those near the platform's limit of deliveries are let go for fresh ones. */
async function putBack(
  rt: Runtime,
  deliveries: readonly Delivery[],
  secondsFor: (delivery: Delivery) => number,
  settle: Settle,
): Promise<void> {
  const worn = deliveries.filter(({ deliveries: count }) => count >= LAST_DELIVERY);
  for (const delivery of deliveries) {
    if (!worn.includes(delivery)) settle(delivery.envelope.id, retryIn(secondsFor(delivery)));
  }
  await owe(rt, worn, settle);
}

/** Lets messages go: their rows are owed new ones. Makes a row that is missing, so that nothing is lost. */
export async function owe(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<void> {
  if (deliveries.length === 0) return;
  const now = rt.clock.now();
  const envelopes = deliveries.map(({ envelope }) => envelope);
  const rows = envelopes
    .filter((envelope) => mayMakeRow(envelope, now))
    .map((envelope) => ({ envelope, sentAt: null }));
  await transact(rt, [insertJobs(rows, now), oweJobs(envelopes.map(({ id }) => id))]);
  for (const { id } of envelopes) settle(id, ACK);
}
