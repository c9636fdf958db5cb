// The only way in: checked, guarded against replays, committed with all others of the moment.

import type { z } from 'zod';
import { sha256Hex } from '../core/digest.ts';
import type { Envelope, Identity } from '../core/envelope.ts';
import { newId } from '../core/ids.ts';
import { canonicalJson, type Json } from '../core/json.ts';
import { ENVELOPE_LIFE_MS, IDEMPOTENCY_TTL_MS } from '../core/limits.ts';
import { shownState, type State } from '../core/states.ts';
import type { Acceptance, Item } from './flush.ts';
import { portions } from './group.ts';
import { logError } from './log.ts';
import { callOptions, checkRequest, faultsOf, toEnvelope, type Fault, type Origin, type Request } from './request.ts';
import { setInputAside } from './payloads.ts';
import { claimTokens, type Claimed } from './replay.ts';
import { isFull } from './room.ts';
import type { Runtime } from './runtime.ts';
import type { Task } from './task.ts';
import { admitUnique } from './unique.ts';
import { decidingCalls, type UniqueOptions } from './unique-key.ts';

export interface Accepted {
  readonly kind: 'accepted';
  readonly id: string;
  readonly task: string;
  readonly queue: string;
  readonly state: State;
  /** The call had been accepted before: this is its first job. */
  readonly replayed: boolean;
}

/**
 * `conflict`: the key names another call. `unknown`: perhaps taken, perhaps not; repeat under the same key. `full`: the
 * database has no room for more, and nothing was taken.
 */
export type Enqueued =
  Accepted | { readonly kind: 'conflict' } | { readonly kind: 'unknown' } | { readonly kind: 'full' };

/** What is kept with a job of where it came from. */
export type From = Pick<Origin, 'source' | 'parentId' | 'schedule'>;

/** Who calls: keys are scoped to `owner`. */
export type Caller = From & { readonly owner: string };

/** Accepts a checked call; under its idempotency key, once. */
export async function submit(rt: Runtime, request: Request, caller: Caller): Promise<Enqueued> {
  const [enqueued] = await submitAll(rt, [request], caller);
  return enqueued ?? { kind: 'unknown' };
}

/** Accepts checked calls, each under its own key where it has one; answers in their order. */
export async function submitAll(
  rt: Runtime,
  requests: readonly Request[],
  caller: Caller,
): Promise<readonly Enqueued[]> {
  const deciding = decidingCalls(requests);
  const places = [...new Set(deciding)];
  const answers = await submitEach(
    rt,
    requests.filter((_, at) => deciding[at] === at),
    caller,
  );
  return requests.map(({ unique }, at) => {
    const answer = answers[places.indexOf(deciding[at] ?? at)] ?? { kind: 'unknown' };
    const given = deciding[at] !== at && unique?.on === 'return' && answer.kind === 'accepted';
    return given ? { ...answer, replayed: true } : answer;
  });
}

async function submitEach(rt: Runtime, requests: readonly Request[], caller: Caller): Promise<readonly Enqueued[]> {
  const entries = await Promise.all(requests.map((request) => admit(rt, request, caller)));
  const items = entries.flatMap((entry) => ('envelope' in entry ? [entry] : []));
  const committed = await commitAll(rt, items);
  let next = 0;
  return entries.map((entry) => {
    if (!('envelope' in entry)) return entry;
    const enqueued = committed[next++] ?? { kind: 'unknown' };
    return enqueued.kind === 'accepted' && entry.mode === 'again' ? { ...enqueued, replayed: true } : enqueued;
  });
}

/** What has to be committed for a call, or its answer where nothing has. */
async function admit(rt: Runtime, request: Request, { owner, ...from }: Caller): Promise<Item | Enqueued> {
  const token = request.options.idempotency_key;
  if (token !== undefined) {
    const tokens = [{ token, ttlMs: IDEMPOTENCY_TTL_MS }];
    return admitOnce(rt, request, { scope: `key:${owner}`, tokens, digest: digestOf(request) }, from);
  }
  if (request.unique !== undefined) return admitUnique(rt, request, request.unique, from);
  const now = rt.clock.now();
  return { envelope: toEnvelope(request, { ...from, id: newId(now, rt.random.bytes(9)), now }), mode: 'new' };
}

async function admitOnce(rt: Runtime, request: Request, identity: Identity, from: From): Promise<Item | Enqueued> {
  const now = rt.clock.now();
  const claiming = await claimTokens(rt, identity, newId(now, rt.random.bytes(9)), now);
  if (claiming.kind === 'silent') return { kind: 'unknown' };
  if (claiming.kind === 'conflict') return claiming;
  return itemOf(rt, toEnvelope(request, { ...from, id: claiming.id, now }), claiming);
}

/** Accepts a checked call under tokens: whoever claims them first makes the job, and all others are told of it. */
export async function enqueueOnce(rt: Runtime, request: Request, identity: Identity, from: From): Promise<Enqueued> {
  const item = await admitOnce(rt, request, identity, from);
  return 'envelope' in item ? commit(rt, item) : item;
}

/**
 * An envelope under a claimed id as it is committed. One claimed before may have lost its first request between the
 * claim and the commit; one claimed longer ago than a row is sure to live is only answered.
 */
export function itemOf(rt: Runtime, envelope: Envelope, { fresh, claimedAt }: Claimed): Item | Accepted {
  if (fresh) return { envelope, mode: 'new' };
  const old = rt.clock.now() - claimedAt > ENVELOPE_LIFE_MS;
  return old ? accepted(rt, envelope, true) : { envelope, mode: 'again' };
}

/** Commits one job; `replayed` says whether it was there before. */
export async function commit(rt: Runtime, item: Item): Promise<Enqueued> {
  const [enqueued] = await commitAll(rt, [item]);
  return enqueued ?? { kind: 'unknown' };
}

async function commitAll(rt: Runtime, items: readonly Item[]): Promise<readonly Enqueued[]> {
  if (items.length === 0) return [];
  const full = await isFull(rt);
  const ready = await Promise.all(items.map((item) => prepare(rt, item, full)));
  const fit = ready.filter((item) => 'envelope' in item);
  const committed = await Promise.all(portions(fit).map((portion) => rt.isolate.group.commit(rt, portion)));
  const acceptances = committed.flat();
  let next = 0;
  return ready.map((item): Enqueued => {
    if (!('envelope' in item)) return item;
    const acceptance = acceptances[next++];
    if (acceptance?.taken !== true) return { kind: 'unknown' };
    return accepted(rt, item.envelope, item.mode === 'again' && !acceptance.created, acceptance.known);
  });
}

/** The item as it can be committed, a large input put aside before there is a row; or why it cannot be. */
async function prepare(rt: Runtime, item: Item, full: boolean): Promise<Item | Enqueued> {
  // One that was accepted before is told so, whatever room there is.
  if (full && item.mode === 'new') return { kind: 'full' };
  try {
    return { ...item, envelope: await setInputAside(rt, item.envelope, item.mode) };
  } catch (error) {
    logError('accept.input_not_kept', error, { job: item.envelope.id, task: item.envelope.task });
    return { kind: 'unknown' };
  }
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
  /** Which calls are one job, instead of what the task says. Not together with `idempotencyKey`. */
  readonly unique?: UniqueOptions;
  readonly resultTtl?: number;
  readonly tags?: readonly string[];
  /** Told of the job's end, by a signed POST. */
  readonly callbackUrl?: string;
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
