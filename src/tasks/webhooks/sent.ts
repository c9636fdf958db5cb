// What GitHub says it has sent: attempts become events, and of events it is told which may be missed. Pure.

import { GITHUB_REDELIVERY_WINDOW_MS, MAX_REDELIVERIES_EACH, RECOVER_AFTER_MS } from '../../core/limits-outside.ts';
import type { DeliveryAttempt } from '../../providers/github.ts';
import { idOf } from '../../providers/identity.ts';

/** An event with every attempt to deliver it. Instants are epoch ms. */
export interface Sent {
  /** As the webhook's door keeps it. */
  readonly guid: string;
  readonly event: string;
  readonly firstAt: number;
  readonly newest: DeliveryAttempt;
  readonly attempts: readonly DeliveryAttempt[];
  readonly redeliveries: number;
}

/** Oldest first. Without pings, which never become a job, and without events whose first attempt is not listed. */
export function sentOf(attempts: readonly DeliveryAttempt[]): readonly Sent[] {
  const unique = [...new Map(attempts.map((attempt) => [attempt.id, attempt])).values()];
  const events = Map.groupBy(
    unique.filter(({ event }) => event !== 'ping'),
    ({ guid }) => idOf(guid) ?? '',
  );
  return [...events]
    .flatMap(([guid, all]) => {
      const first = all.find(({ redelivery }) => !redelivery);
      const newest = all.reduce((a, b) => (b.deliveredAt > a.deliveredAt ? b : a));
      if (first === undefined || guid === '') return [];
      const redeliveries = all.filter(({ redelivery }) => redelivery).length;
      return [{ guid, event: first.event, firstAt: first.deliveredAt, newest, attempts: all, redeliveries }];
    })
    .sort((a, b) => a.firstAt - b.firstAt);
}

/** Whether an event that is no job is missed: no attempt can be on its way any more, and it can be asked for. */
export function isOverdue({ firstAt, newest }: Sent, now: number): boolean {
  return newest.deliveredAt <= now - RECOVER_AFTER_MS && firstAt > now - GITHUB_REDELIVERY_WINDOW_MS;
}

/** Asked for so often already that asking again is no use. */
export function isGivenUp({ redeliveries }: Sent): boolean {
  return redeliveries >= MAX_REDELIVERIES_EACH;
}
