// The ports through which the engine reaches the world: database, queue, clock, randomness, and beside the database the
// two places for what is too large for it. In workerd they stand on bindings; in the simulator on SQLite, a hostile
// broker, virtual time and one seed.

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

/** An input kept in {@link Inputs}, or anything else that stands beside it there. */
export interface Kept {
  readonly key: string;
  /** Epoch ms. */
  readonly keptAt: number;
}

/** Inputs too large for a row and a message. Whatever was put is there at once, for everybody, until it is removed. */
export interface Inputs {
  /** Safe to repeat. Rejects when it is not known to be kept. */
  put(key: string, text: string, keptAt: number): Promise<void>;
  /** undefined where nothing is kept under `key`. */
  get(key: string): Promise<string | undefined>;
  /** At most 1,000 keys; those that are not there are no error. */
  remove(keys: readonly string[]): Promise<void>;
  /** A page of everything there is after a key, in the order of the keys. `next`: what the following page comes after. */
  list(after: string | undefined): Promise<{ readonly kept: readonly Kept[]; readonly next: string | undefined }>;
}

/** Results too large for a row. Each is written once, under a key of its own, before anybody is told of it. */
export interface Results {
  /** `ttlSeconds` ≥ 60: then it leaves by itself. Rejects when it is not known to be kept. */
  put(key: string, text: string, ttlSeconds: number): Promise<void>;
  get(key: string): Promise<string | undefined>;
  remove(key: string): Promise<void>;
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
