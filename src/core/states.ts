// The state table: the one constant from which the pure `transition` and every SQL guard are derived.

export const STATES = ['PENDING', 'SCHEDULED', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'REVOKED'] as const;
export type State = (typeof STATES)[number];

/** The word shown to people beside each state. */
export const STATUS = {
  PENDING: 'queued',
  SCHEDULED: 'scheduled',
  STARTED: 'running',
  RETRY: 'retrying',
  SUCCESS: 'completed',
  FAILURE: 'failed',
  REVOKED: 'cancelled',
} as const satisfies Record<State, string>;

const WAITING = ['PENDING', 'SCHEDULED', 'RETRY'] as const;

/** Everything that can happen to a job after it was accepted: from which states, to which one. */
export const TRANSITIONS = {
  /** Due, and something else keeps it from starting: a rate limit, a lock, a pause. One that is to be retried stays so. */
  wait: { from: ['PENDING', 'SCHEDULED'], to: 'PENDING' },
  /** An attempt takes the job. */
  claim: { from: WAITING, to: 'STARTED' },
  succeed: { from: ['STARTED'], to: 'SUCCESS' },
  fail: { from: ['STARTED'], to: 'FAILURE' },
  retry: { from: ['STARTED'], to: 'RETRY' },
  /** Put back without using up an attempt. */
  defer: { from: ['STARTED'], to: 'PENDING' },
  /** The attempt vanished: its lease ran out without an outcome. */
  lose: { from: ['STARTED'], to: 'PENDING' },
  /** A revocation that found the job running, honoured when its attempt ends. */
  stop: { from: ['STARTED'], to: 'REVOKED' },
  revoke: { from: WAITING, to: 'REVOKED' },
  /** Past `expires` and never started. */
  expire: { from: ['PENDING', 'SCHEDULED'], to: 'REVOKED' },
  /** What a later call asks for takes its place: PENDING, or SCHEDULED until it is due, as acceptance would make it. */
  revise: { from: ['PENDING', 'SCHEDULED'], to: 'PENDING' },
} as const satisfies Record<string, { from: readonly State[]; to: State }>;

export type Transition = keyof typeof TRANSITIONS;

/** The states of jobs that have not ended. */
export const OPEN_STATES = [...WAITING, 'STARTED'] as const;

const FINAL: readonly State[] = ['SUCCESS', 'FAILURE', 'REVOKED'];

export function isFinal(state: State): boolean {
  return FINAL.includes(state);
}

/** The state a job is in after `event`, or undefined where the event is refused in that state. */
export function transition(state: State, event: Transition): State | undefined {
  const { from, to }: { from: readonly State[]; to: State } = TRANSITIONS[event];
  return from.includes(state) ? to : undefined;
}

/** SQL that holds exactly for the states `event` may start from: `jobs.state IN (…)`. */
export function guard(event: Transition): string {
  return `jobs.state IN (${TRANSITIONS[event].from.map(quote).join(', ')})`;
}

/** SQL literal of the state `event` leads to. */
export function target(event: Transition): string {
  return quote(TRANSITIONS[event].to);
}

/** SQL list of the final states. */
export const FINAL_SQL = `(${FINAL.map(quote).join(', ')})`;

/** What a reader is shown: SCHEDULED reads as PENDING once it is due; no statement moves it. */
export function shownState(state: State, dueAt: number, now: number): State {
  return state === 'SCHEDULED' && dueAt <= now ? 'PENDING' : state;
}

function quote(state: State): string {
  return `'${state}'`;
}
