// The way of jobs that take from rate limits and locks: looked at, admitted, claimed; or made to wait, unclaimed.

import { LAST_DELIVERY, MESSAGE_HORIZON_SECONDS, NEAR_GRANT_MS } from '../core/limits.ts';
import type { Won } from '../store/claims.ts';
import { holdJobs, type Hold } from '../store/waiting.ts';
import { admit, type Obstacle } from './admit.ts';
import { claimAll, claimToken, type Claimed } from './claim.ts';
import { query } from './database.ts';
import { logError } from './log.ts';
import { park, type Parking } from './park.ts';
import { askOf, giveBack, inTime, type Pass } from './passes.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, whileSilent, type Delivery, type Settle } from './settlement.ts';
import { settleUnwon, type Found } from './unwon.ts';

export interface ClaimedWithPasses extends Claimed {
  readonly passes: ReadonlyMap<string, Pass>;
}

const NOTHING: ClaimedWithPasses = { won: [], suspects: [], passes: new Map() };

/** Claims what may start now, with its passes, and settles the rest. `alone` as for {@link claimAll}. Never rejects. */
export async function claimLimited(
  rt: Runtime,
  deliveries: readonly Delivery[],
  settle: Settle,
  alone: boolean,
): Promise<ClaimedWithPasses> {
  if (deliveries.length === 0) return NOTHING;
  const { claimable, apart } = await look(rt, deliveries, alone, settle);
  const token = claimToken(rt);
  const { passes, obstacles } = await admit(rt, claimable, token);
  await letWait(rt, obstacles, settle);
  const admitted = claimable.map(({ delivery }) => delivery).filter(({ envelope }) => passes.has(envelope.id));
  const claimed = await claimAll(rt, admitted, settle, token, alone);
  const won = passesOf(claimed.won, claimable, passes);
  await giveBack(rt, new Map([...passes].filter(([id]) => !won.has(id))));
  return {
    won: claimed.won,
    suspects: [...claimed.suspects, ...apart.map(({ delivery }) => delivery)],
    passes: await takeOver(rt, admitted, won),
  };
}

/** The passes of those that were won. One that another delivery has begun since it was looked at must not start on its own. */
function passesOf(
  won: readonly Won[],
  looked: readonly Found[],
  passes: ReadonlyMap<string, Pass>,
): ReadonlyMap<string, Pass> {
  const seen = new Map(looked.map(({ row }) => [row.id, row.claim]));
  return new Map(
    won.flatMap(({ id, claim }) => {
      const pass = passes.get(id);
      if (pass === undefined) return [];
      const isNext = claim === (seen.get(id) ?? 0) + 1;
      // Its grants run out by themselves: the other delivery may have been given the same.
      return [[id, isNext ? pass : { ...pass, grants: [], overtaken: true as const }]];
    }),
  );
}

interface Looked {
  readonly claimable: readonly Found[];
  readonly apart: readonly Found[];
}

/** What could be claimed, as its rows say; once more for those whose rows had to be made or freed first. */
async function look(rt: Runtime, deliveries: readonly Delivery[], alone: boolean, settle: Settle): Promise<Looked> {
  const claimable: Found[] = [];
  const apart: Found[] = [];
  let left = deliveries;
  await orLater(left, settle, async () => {
    for (let round = 0; round < 2 && left.length > 0; round += 1) {
      const seen = await settleUnwon(rt, left, alone, settle);
      claimable.push(...seen.claimable);
      apart.push(...seen.apart);
      left = seen.again;
    }
  });
  const seen = new Set([...claimable, ...apart].map(({ delivery }) => delivery));
  for (const delivery of left) if (!seen.has(delivery)) settle(delivery.envelope.id, retryIn(1));
  return { claimable, apart };
}

async function letWait(rt: Runtime, obstacles: ReadonlyMap<Found, Obstacle>, settle: Settle): Promise<void> {
  const now = rt.clock.now();
  const parkings: Parking[] = [];
  const holds: Hold[] = [];
  for (const [found, obstacle] of obstacles) {
    if (obstacle.kind === 'until') holds.push(holdOf(rt, found, obstacle, now));
    else parkings.push({ ...found, parkedFor: obstacle.lock, reason: obstacle.reason });
  }
  await orLater(
    [...obstacles.keys()].map(({ delivery }) => delivery),
    settle,
    async () => {
      await park(rt, parkings, settle);
      if (holds.length === 0) return;
      const held = new Set((await query(rt, holdJobs(holds, now))).map(({ id }) => String(id)));
      for (const { id, dueAt, sentAt } of holds) {
        if (!held.has(id)) settle(id, retryIn(1));
        else settle(id, sentAt === null ? ACK : retryIn((dueAt - now) / 1_000));
      }
    },
  );
}

/** Where the database is silent, whatever of these has not been settled yet comes again: a message is answered once. */
async function orLater(deliveries: readonly Delivery[], settle: Settle, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    logError('claim.failed', error, { jobs: deliveries.length });
    for (const { envelope, deliveries: count } of deliveries) settle(envelope.id, whileSilent(count));
  }
}

// Its message knows only whole seconds. A little early is waited for by the batch it comes in.
function holdOf(
  rt: Runtime,
  { delivery, row }: Found,
  { at, reason }: Obstacle & { kind: 'until' },
  now: number,
): Hold {
  const seconds = Math.max(1, Math.ceil((at - now - NEAR_GRANT_MS) / 1_000));
  const { id, queue } = delivery.envelope;
  const carried =
    seconds <= MESSAGE_HORIZON_SECONDS && delivery.deliveries < LAST_DELIVERY && rt.isolate.delays.take(queue, now);
  return { id, claim: row.claim, dueAt: now + seconds * 1_000, sentAt: carried ? now : null, reason };
}

/** Passes whose leases are all this invocation's. A job that had one elsewhere takes it over, or must not start. */
async function takeOver(
  rt: Runtime,
  deliveries: readonly Delivery[],
  passes: ReadonlyMap<string, Pass>,
): Promise<ReadonlyMap<string, Pass>> {
  const envelopes = new Map(deliveries.map(({ envelope }) => [envelope.id, envelope]));
  const taken = [...passes].map(async ([id, pass]): Promise<readonly [string, Pass]> => {
    const envelope = envelopes.get(id);
    if (pass.elsewhere.length === 0 || envelope === undefined) return [id, pass];
    const locks = [...pass.locks];
    for (const lock of pass.elsewhere) {
      try {
        const ours = await inTime(rt, rt.locks.take(lock.name, lock.limit, pass.token, askOf(envelope)));
        if (ours) locks.push(lock);
      } catch (error) {
        logError('lock.not_taken', error, { job: id });
      }
    }
    const missing = pass.elsewhere.filter((lock) => !locks.includes(lock));
    return [id, { ...pass, locks, elsewhere: missing }];
  });
  return new Map(await Promise.all(taken));
}
