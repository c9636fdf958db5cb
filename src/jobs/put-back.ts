// Messages that are not to run now: back to their queue for a while, or let go because their rows are owed new ones.

import type { Envelope } from '../core/envelope.ts';
import { ENVELOPE_LIFE_MS, LAST_DELIVERY } from '../core/limits.ts';
import { insertJobs } from '../store/accept.ts';
import { endPurged } from '../store/revoke.ts';
import { oweJobs } from '../store/waiting.ts';
import { transact } from './database.ts';
import { portions } from './group.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, type Delivery, type Settle } from './settlement.ts';

/** Messages again later; those near the platform's limit of deliveries are let go for fresh ones. */
export async function putBack(
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
  const items = deliveries.map(({ envelope }) => ({ envelope, mode: 'again' as const }));
  for (const portion of portions(items)) {
    const now = rt.clock.now();
    const envelopes = portion.map(({ envelope }) => envelope);
    const young = envelopes.filter((envelope) => mayMakeRow(envelope, now));
    const rows = young.map((envelope) => ({ envelope, sentAt: null }));
    const ids = envelopes.map(({ id }) => id);
    await transact(rt, [insertJobs(rows, now), endPurged(ids, now), oweJobs(ids)]);
    for (const { id } of envelopes) settle(id, ACK);
  }
}

/** Rows are made from young envelopes only: an older job may have been finished and forgotten. */
export function mayMakeRow(envelope: Envelope, now: number): boolean {
  return now - envelope.acceptedAt <= ENVELOPE_LIFE_MS;
}
