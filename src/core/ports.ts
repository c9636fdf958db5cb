// The four ports through which the engine reaches the world: database, queue, clock, randomness.
// In workerd they stand on bindings; in a simulator on SQLite, a hostile broker, virtual time and one seed.

import type { Envelope } from './envelope.ts';

/** One SQL statement. `name` is what it is for ("accept", "claim"…); statements are counted under it. */
export interface Statement {
  readonly name: string;
  readonly sql: string;
  readonly params: readonly (string | number | null)[];
}

export type Row = Readonly<Record<string, unknown>>;

/** What a statement did. `changes` counts rows inserted, updated or deleted. */
export interface Answer {
  readonly rows: readonly Row[];
  readonly changes: number;
}

export interface Database {
  /** Runs one statement. Rejects with a {@link DatabaseError}. */
  run(statement: Statement): Promise<Answer>;
  /** Runs all or none, in order, as one transaction. Rejects with a {@link DatabaseError}. */
  batch(statements: readonly Statement[]): Promise<readonly Answer[]>;
}

/**
 * `refused`: the statement itself is wrong for this data and will be wrong again.
 * `outage`: everything else; it may or may not have taken effect, so only a repeatable statement may be tried again.
 */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  readonly kind: 'refused' | 'outage';

  constructor(kind: 'refused' | 'outage', message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

export interface Outgoing {
  readonly envelope: Envelope;
  /** 0–86,400 s. */
  readonly delaySeconds: number;
}

export interface Backlog {
  readonly count: number;
  /** When the oldest message was sent; undefined where nothing waits. */
  readonly oldestSentAt: number | undefined;
}

export interface Queues {
  /** Sends one batch: at most 100 messages and 240 KB together. Rejects when it is not known to have been taken. */
  send(queue: string, messages: readonly Outgoing[]): Promise<void>;
  backlog(queue: string): Promise<Backlog>;
}

export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Resolves after `milliseconds`, or at once when the signal fires. Never rejects. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

export interface Randomness {
  bytes(count: number): Uint8Array;
  /** Uniform in [0, 1). */
  fraction(): number;
}
