// What a call asks for, checked whole: from a body that is JSON to an envelope that can be accepted.

import { z } from 'zod';
import type { Envelope, JobOptions, ScheduledRun } from '../core/envelope.ts';
import { urlFault } from '../core/address.ts';
import { parseInstant } from '../core/instant.ts';
import { byteLength, formatPath, type Json } from '../core/json.ts';
import {
  MAX_AHEAD_SECONDS,
  MAX_FAULTS,
  MAX_IDEMPOTENCY_KEY_CHARS,
  MAX_PAYLOAD_BYTES,
  MAX_RETRIES,
  MAX_TAGS,
  MAX_TAG_CHARS,
  MAX_TIME_LIMIT_SECONDS,
} from '../core/limits.ts';
import { laneOf, QUEUES, resolveQueue } from '../queues.ts';
import { callbackOf } from './callbacks.ts';
import { keysOf, withKeys, type LimitKeys } from './limits.ts';
import type { Registry } from './registry.ts';
import type { Task } from './task.ts';
import { keyFault, uniqueOf, uniqueOptions, type Unique } from './unique-key.ts';

/** One thing wrong with a request: where, and what would be right. */
export interface Fault {
  readonly path: string;
  readonly message: string;
}

export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly kind: 'invalid' | 'too_large'; readonly faults: readonly Fault[] };

const seconds = z.number().nonnegative().max(MAX_AHEAD_SECONDS);

/** A time as a call gives it: an instant (epoch ms), or seconds from when it is accepted. */
type When = { readonly at: number } | { readonly afterSeconds: number };

export const when = z.unknown().transform((given, context): When => {
  if (typeof given === 'number' && given >= 0 && given <= MAX_AHEAD_SECONDS) return { afterSeconds: given };
  const at = typeof given === 'string' ? parseInstant(given) : undefined;
  if (at !== undefined) return { at };
  context.addIssue({ code: 'custom', message: 'must be seconds from now, or an ISO 8601 instant with a zone' });
  return z.NEVER;
});
const timeLimit = z.number().positive().max(MAX_TIME_LIMIT_SECONDS);

/** The queue that a name or alias from outside means. */
export const queueName = z.string().transform((name, context) => {
  const queue = resolveQueue(name);
  if (queue !== undefined) return queue;
  context.addIssue({ code: 'custom', message: `there is no queue ${JSON.stringify(name)}` });
  return z.NEVER;
});

const callbackUrl = z.string().superRefine((text, context) => {
  const fault = urlFault(text);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

/** Options of a call over HTTP: durations are seconds, instants ISO 8601 with a zone. */
export const callOptions = z.strictObject({
  countdown: seconds.optional(),
  eta: when.optional(),
  expires: when.optional(),
  priority: z.int().min(0).max(10).optional(),
  queue: queueName.optional(),
  max_retries: z.int().min(0).max(MAX_RETRIES).optional(),
  retry_delays: z.array(seconds).min(1).max(MAX_RETRIES).optional(),
  time_limit: timeLimit.optional(),
  soft_time_limit: timeLimit.optional(),
  idempotency_key: z.string().min(1).max(MAX_IDEMPOTENCY_KEY_CHARS).optional(),
  unique: uniqueOptions.optional(),
  result_ttl: z.int().positive().max(MAX_AHEAD_SECONDS).optional(),
  tags: z.array(z.string().min(1).max(MAX_TAG_CHARS)).max(MAX_TAGS).optional(),
  callback_url: callbackUrl.optional(),
});
export type CallOptions = z.infer<typeof callOptions>;

// Whatever JSON.parse gave is JSON already; walking it again would only cost time.
const anyJson = z.custom<Json>((value) => value !== undefined);

const call = z.strictObject({
  task: z.string(),
  input: anyJson.optional(),
  args: z.array(anyJson).optional(),
  kwargs: z.record(z.string(), anyJson).optional(),
  options: callOptions.optional(),
});

/** A call that may be accepted, whoever makes it and whenever. */
export interface Request {
  readonly task: Task;
  readonly input: Json;
  readonly options: CallOptions;
  /** What its rate limits and locks are told apart by. */
  readonly keys?: LimitKeys;
  /** What makes it the same job as another call. */
  readonly unique?: Unique;
}

/** Reads one call. `body` is parsed JSON from outside. */
export function readCall(registry: Registry, body: Json): Checked<Request> {
  const parsed = call.safeParse(body);
  if (!parsed.success) return { ok: false, kind: 'invalid', faults: faultsOf(parsed.error) };
  const { task: name, options = {}, ...given } = parsed.data;
  const task = registry.find(name);
  if (task === undefined) return invalid('task', `there is no task ${JSON.stringify(name)}`);
  const input = inputOf(task, given);
  if (!input.ok) return input;
  return checkRequest({ task, input: input.value, options });
}

/** Checks what only the task can say: its schema, and options that contradict each other. */
export function checkRequest(request: Request): Checked<Request> {
  const { task, input, options } = request;
  const parsed = task.input.safeParse(input);
  if (!parsed.success) return { ok: false, kind: 'invalid', faults: faultsOf(parsed.error, 'input') };
  const bytes = byteLength(JSON.stringify(input));
  if (bytes > MAX_PAYLOAD_BYTES) {
    const message = `is ${String(bytes)} bytes; at most ${String(MAX_PAYLOAD_BYTES)} are accepted`;
    return { ok: false, kind: 'too_large', faults: [{ path: 'input', message }] };
  }
  if (options.countdown !== undefined && options.eta !== undefined) {
    return invalid('options.eta', 'countdown and eta exclude each other');
  }
  const limits = limitsOf(task, options);
  if (limits.softSeconds > limits.hardSeconds) {
    return invalid('options.soft_time_limit', `must not be above the time limit of ${String(limits.hardSeconds)} s`);
  }
  const keys = keysOf(task, parsed.data);
  if (!keys.ok) return invalid('input', keys.problem);
  const unique = uniqueOf(request, parsed.data);
  if (!unique.ok) return unique;
  const value = { ...request, keys: keys.value };
  return { ok: true, value: unique.value === undefined ? value : { ...value, unique: unique.value } };
}

/** The same call under an idempotency key. */
export function withKey(request: Request, key: string): Checked<Request> {
  const fault = request.unique === undefined ? undefined : keyFault(request);
  if (fault !== undefined) return { ok: false, kind: 'invalid', faults: [fault] };
  return { ok: true, value: { ...request, options: { ...request.options, idempotency_key: key } } };
}

/** What an envelope says beside the request itself. */
export interface Origin {
  readonly id: string;
  readonly source: string;
  readonly now: number;
  readonly parentId?: string;
  readonly retryOf?: string;
  readonly schedule?: ScheduledRun;
}

/** The envelope of a checked request. */
export function toEnvelope(request: Request, origin: Origin): Envelope {
  const { task, input, options } = request;
  const wanted = options.priority ?? QUEUES[options.queue ?? task.queue].priority;
  const queue = options.queue ?? (options.priority === undefined ? task.queue : laneOf(task.queue, options.priority));
  return {
    v: 1,
    id: origin.id,
    task: task.name,
    queue,
    input,
    options: withKeys(jobOptionsOf(task, options, origin), request, queue),
    priority: wanted,
    tags: options.tags ?? [],
    source: origin.source,
    acceptedAt: origin.now,
    dueAt: dueAtOf(options, origin.now),
    expiresAt: options.expires === undefined ? null : Math.max(0, instantOf(options.expires, origin.now)),
    parentId: origin.parentId ?? null,
    retryOf: origin.retryOf ?? null,
  };
}

/** The first hundred faults of a failed parse, their paths below `root`. */
export function faultsOf(error: z.ZodError, root?: string): readonly Fault[] {
  const below = (path: readonly PropertyKey[]): string => formatPath(root === undefined ? path : [root, ...path]);
  const faults = error.issues.slice(0, MAX_FAULTS).flatMap((issue) => {
    if (issue.code !== 'unrecognized_keys') return [{ path: below(issue.path), message: issue.message }];
    const keys = issue.keys.slice(0, MAX_FAULTS);
    return keys.map((key) => ({ path: below([...issue.path, key]), message: 'is unknown' }));
  });
  return faults.slice(0, MAX_FAULTS);
}

function invalid(path: string, message: string): { ok: false; kind: 'invalid'; faults: readonly Fault[] } {
  return { ok: false, kind: 'invalid', faults: [{ path, message }] };
}

function inputOf(
  task: Task,
  given: { input?: Json | undefined; args?: Json[] | undefined; kwargs?: Record<string, Json> | undefined },
): Checked<Json> {
  const { input, args, kwargs } = given;
  if (args === undefined && kwargs === undefined) return { ok: true, value: input === undefined ? {} : input };
  if (input !== undefined) return invalid('input', 'input and args/kwargs exclude each other');
  const named: Record<string, Json> = { ...kwargs };
  const rest = task.params.at(-1)?.startsWith('...') === true ? task.params.at(-1)?.slice(3) : undefined;
  const places = rest === undefined ? task.params : task.params.slice(0, -1);
  for (const [at, value] of (args ?? []).slice(0, places.length).entries()) {
    const name = places[at] ?? '';
    if (Object.hasOwn(named, name)) return invalid(`kwargs.${name}`, `is given in args[${String(at)}] already`);
    named[name] = value;
  }
  const left = (args ?? []).slice(places.length);
  if (rest !== undefined) {
    if (left.length > 0 && Object.hasOwn(named, rest)) return invalid(`kwargs.${rest}`, 'is given in args already');
    named[rest] ??= left;
  } else if (left.length > 0) return invalid('args', `${task.name} takes at most ${String(places.length)} positional`);
  return { ok: true, value: named };
}

function limitsOf(task: Task, options: CallOptions): { softSeconds: number; hardSeconds: number } {
  const hardSeconds = options.time_limit ?? Math.max(task.timeLimit.hardSeconds, options.soft_time_limit ?? 0);
  return { hardSeconds, softSeconds: options.soft_time_limit ?? Math.min(task.timeLimit.softSeconds, hardSeconds) };
}

function jobOptionsOf(task: Task, options: CallOptions, { id, schedule }: Origin): JobOptions {
  const overridden = options.time_limit !== undefined || options.soft_time_limit !== undefined;
  const { softSeconds, hardSeconds } = limitsOf(task, options);
  return {
    maxRetries: options.max_retries ?? options.retry_delays?.length ?? task.retry.max,
    retryDelays: options.retry_delays ?? null,
    softSeconds: overridden ? softSeconds : null,
    hardSeconds: overridden ? hardSeconds : null,
    resultTtlSeconds: options.result_ttl ?? task.resultTtlSeconds,
    ...(task.sensitive ? { sensitive: true } : {}),
    ...(options.callback_url === undefined ? {} : { callback: callbackOf(id, options.callback_url) }),
    ...(schedule === undefined ? {} : { schedule }),
  };
}

function dueAtOf({ countdown, eta }: CallOptions, now: number): number {
  if (countdown !== undefined) return instantOf({ afterSeconds: countdown }, now);
  return eta === undefined ? now : Math.max(now, instantOf(eta, now));
}

/** Epoch ms. */
export function instantOf(when: When, now: number): number {
  return 'at' in when ? when.at : now + Math.ceil(when.afterSeconds * 1_000);
}
