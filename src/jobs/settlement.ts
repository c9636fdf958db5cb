// Deliveries of jobs, and what becomes of the message of each: acked or retried, once.

import type { Envelope } from '../core/envelope.ts';

/** One delivery of a job. */
export interface Delivery {
  readonly envelope: Envelope;
  /** How often its message was delivered, this time included. */
  readonly deliveries: number;
}

export type Settlement = { readonly kind: 'ack' } | { readonly kind: 'retry'; readonly delaySeconds: number };

/** Called once for each job of a batch, as soon as its fate is committed. */
export type Settle = (id: string, settlement: Settlement) => void;

export const ACK: Settlement = { kind: 'ack' };

export function retryIn(delaySeconds: number): Settlement {
  return { kind: 'retry', delaySeconds };
}

/** 5 s, doubled with every delivery, at most 300 s: how long a message waits while the database is silent. */
export function whileSilent(deliveries: number): Settlement {
  return retryIn(Math.min(300, 5 * 2 ** Math.min(10, deliveries - 1)));
}
