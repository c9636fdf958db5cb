// A promise that did not hold: which one, for which job, and when.

export type Invariant =
  | 'accepted'
  | 'idempotency'
  | 'conservation'
  | 'final'
  | 'transition'
  | 'lease'
  | 'fencing'
  | 'attempts'
  | 'due'
  | 'expires'
  | 'revoke'
  | 'dead letter'
  | 'requeue'
  | 'hooks'
  | 'ran'
  | 'killer'
  | 'secret'
  | 'batch'
  | 'tick'
  | 'limit'
  | 'alert'
  | 'schedule'
  | 'overlap'
  | 'converge'
  | 'internal';

export interface Violation {
  readonly invariant: Invariant;
  readonly job: string | undefined;
  readonly text: string;
  /** Virtual time since the seed began, in ms. */
  readonly at: number;
}

export type Violate = (invariant: Invariant, job: string | undefined, text: string) => void;
