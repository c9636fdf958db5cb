// How much of inputs kept aside one batch loads into memory at once.

import { MAX_LOADED_INPUT_BYTES } from '../core/limits.ts';
import type { Attempt } from './attempt.ts';
import type { Delivery } from './settlement.ts';

/** What a batch may load into memory at once of inputs kept aside, in its order; the rest waits for another. */
export function weigh(deliveries: readonly Delivery[]): { light: readonly Delivery[]; heavy: readonly Delivery[] } {
  let bytes = 0;
  const light = deliveries.filter(({ envelope }) => {
    if (envelope.v === 1) return true;
    if (bytes > 0 && bytes + envelope.inputBytes > MAX_LOADED_INPUT_BYTES) return false;
    bytes += envelope.inputBytes;
    return true;
  });
  return { light, heavy: deliveries.filter((delivery) => !light.includes(delivery)) };
}

/**
 * Of what was won, by priority, the attempts whose inputs a batch has no room for: a row may name a larger one than the
 * message that was weighed.
 */
export function crowdedOut(attempts: readonly Attempt[]): readonly Attempt[] {
  let bytes = 0;
  return attempts.filter(({ won: { input_bytes: own } }) => {
    if (own === null) return false;
    if (bytes > 0 && bytes + own > MAX_LOADED_INPUT_BYTES) return true;
    bytes += own;
    return false;
  });
}
