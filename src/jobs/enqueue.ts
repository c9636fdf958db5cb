// The only way in: checked, guarded against replays, committed with all others of the moment.

import type { z } from 'zod';
import { sha256Hex } from '../core/digest.ts';
import type { Envelope } from '../core/envelope.ts';
import { newId } from '../core/ids.ts';
import { canonicalJson, type Json } from '../core/json.ts';
import { ENVELOPE_LIFE_MS, IDEMPOTENCY_TTL_MS } from '../core/limits.ts';
import { shownState, type State } from '../core/states.ts';
import type { Acceptance } from './flush.ts';
import { logError } from './log.ts';
import { callOptions, checkRequest, faultsOf, toEnvelope, type Fault, type Request } from './request.ts';
import type { Runtime } from './runtime.ts';
import type { Task } from './task.ts';

export interface Accepted {
  readonly kind: 'accepted';
  readonly id: string;
  readonly task: string;
  readonly queue: string;
  readonly state: State;
  /** The call had been accepted before: this is its first job. */
  readonly replayed: boolean;
}

/** `conflict`: the key names another call. `unknown`: perhaps taken, perhaps not; repeat under the same key. */
export type Enqueued = Accepted | { readonly kind: 'conflict' } | { readonly kind: 'unknown' };

/** Who calls: keys are scoped to `owner`, and `source` is kept with the job. */
export interface Caller {
  readonly owner: string;
  readonly source: string;
}

/** Accepts a checked call; under its idempotency key, once. */
export async function submit(rt: Runtime, request: Request, caller: Caller): Promise<Enqueued> {
  const now = rt.clock.now();
  const id = newId(now, rt.random.bytes(9));
  const key = request.options.idempotency_key;
  const origin = { source: caller.source, now };
  if (key === undefined) return commit(rt, toEnvelope(request, { ...origin, id }), 'new');
  let answer;
  try {
    const digest = digestOf(request);
    answer = await rt.replay.claim(`key:${caller.owner}`, {
      token: key,
      jobId: id,
      digest,
      ttlMs: IDEMPOTENCY_TTL_MS,
      now,
    });
  } catch (error) {
    logError('replay_guard.silent', error, { scope: 'key' });
    return { kind: 'unknown' };
  }
  if (answer.verdict === 'conflict') return { kind: 'conflict' };
  const envelope = toEnvelope(request, { ...origin, id: answer.jobId });
  return answer.verdict === 'fresh' ? commit(rt, envelope, 'new') : repeat(rt, envelope, answer.claimedAt);
}

/**
 * Accepts an envelope that may have been accepted before under its id: the first request may have died between its
 * claim and its commit. One claimed longer ago than a row is sure to live is only answered.
 */
export async function repeat(rt: Runtime, envelope: Envelope, claimedAt: number): Promise<Enqueued> {
  if (rt.clock.now() - claimedAt > ENVELOPE_LIFE_MS) return accepted(rt, envelope, true);
  const enqueued = await commit(rt, envelope, 'again');
  return enqueued.kind === 'accepted' ? { ...enqueued, replayed: true } : enqueued;
}

/** Accepts an envelope. `again` where its id may have been accepted before: then `replayed` says whether it was. */
export async function commit(rt: Runtime, envelope: Envelope, mode: 'new' | 'again'): Promise<Enqueued> {
  const acceptance = await rt.isolate.group.commit(rt, { envelope, mode });
  if (!acceptance.taken) return { kind: 'unknown' };
  return accepted(rt, envelope, mode === 'again' && !acceptance.created, acceptance.known);
}

/** Options of a call from TypeScript. Seconds, epoch milliseconds or ISO 8601 with a zone. */
export interface EnqueueOptions {
  readonly countdown?: number;
  /** Seconds from now, or an ISO 8601 instant with a zone. */
  readonly eta?: number | string;
  readonly expires?: number | string;
  readonly priority?: number;
  readonly queue?: string;
  readonly maxRetries?: number;
  readonly retryDelays?: readonly number[];
  readonly timeLimit?: number;
  readonly softTimeLimit?: number;
  readonly idempotencyKey?: string;
  readonly resultTtl?: number;
  readonly tags?: readonly string[];
}

/** A call from TypeScript that is wrong in a way only its values show. */
export class InvalidCall extends Error {
  override readonly name = 'InvalidCall';
  readonly faults: readonly Fault[];

  constructor(task: string, faults: readonly Fault[]) {
    super(`${task}: ${faults.map(({ path, message }) => `${path}: ${message}`).join('; ')}`);
    this.faults = faults;
  }
}

/** Enqueues a task from code. Throws {@link InvalidCall} where its schema or an option refuses. */
export async function enqueue<Schema extends z.ZodType, Output>(
  rt: Runtime,
  task: Task<Schema, Output>,
  input: z.input<Schema> & Json,
  options: EnqueueOptions = {},
  caller: Caller = { owner: 'code', source: 'code' },
): Promise<Enqueued> {
  return submit(rt, requestOf(task, input, options), caller);
}

/** The checked call of a task from code; see {@link enqueue}. */
export function requestOf<Schema extends z.ZodType, Output>(
  task: Task<Schema, Output>,
  input: z.input<Schema> & Json,
  options: EnqueueOptions = {},
): Request {
  const parsed = callOptions.safeParse(snakeCase(options));
  if (!parsed.success) throw new InvalidCall(task.name, faultsOf(parsed.error, 'options'));
  const request = checkRequest({ task, input, options: parsed.data });
  if (!request.ok) throw new InvalidCall(task.name, request.faults);
  return request.value;
}

function accepted(rt: Runtime, envelope: Envelope, replayed: boolean, known?: Acceptance['known']): Accepted {
  const now = rt.clock.now();
  const { id, task, queue, dueAt, acceptedAt } = envelope;
  const stored = known ?? { state: dueAt > acceptedAt ? 'SCHEDULED' : 'PENDING', dueAt };
  return { kind: 'accepted', id, task, queue, state: shownState(stored.state, stored.dueAt, now), replayed };
}

function digestOf({ task, input, options }: Request): string {
  const { idempotency_key: _, ...rest } = options;
  return sha256Hex(canonicalJson([task.name, input, JSON.parse(JSON.stringify(rest)) as Json]));
}

function snakeCase(options: EnqueueOptions): Record<string, unknown> {
  const rename = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(options).map(([name, value]: [string, unknown]) => [rename(name), value]));
}
