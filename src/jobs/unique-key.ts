// What makes two calls one job: a key of the call's or the task's own, or the input itself.

import { z } from 'zod';
import { sha256Hex } from '../core/digest.ts';
import { canonicalJson } from '../core/json.ts';
import { MAX_AHEAD_SECONDS, MAX_UNIQUE_KEY_CHARS } from '../core/limits.ts';
import type { Checked, Fault, Request } from './request.ts';

/**
 * What becomes of a call whose key names a job already. `return`: it is given that job. `replace`: it takes the place
 * of what that job was to do, as long as the job has not started. `debounce`: the same, and the job is due `for`
 * seconds after the last call.
 */
const MODES = ['return', 'replace', 'debounce'] as const;

/** How a call says it, and the same over HTTP. */
export const uniqueOptions = z
  .strictObject({
    /** Without one, the input is the key. */
    key: z.string().min(1).max(MAX_UNIQUE_KEY_CHARS).optional(),
    /** Seconds in which the key names its job; without it, for as long as the job has not ended. */
    for: z.number().positive().max(MAX_AHEAD_SECONDS).optional(),
    on: z.enum(MODES).optional(),
  })
  .refine((unique) => unique.on !== 'debounce' || unique.for !== undefined, {
    path: ['for'],
    message: 'is required with debounce',
  })
  .readonly();
export type UniqueOptions = z.infer<typeof uniqueOptions>;

/** How a task says it for all its calls. */
export interface UniqueTask<Input> extends Omit<UniqueOptions, 'key'> {
  key?(input: Input): string;
}

/** How one checked call is unique. */
export interface Unique {
  /** Names the key within its task. */
  readonly token: string;
  readonly on: (typeof MODES)[number];
  readonly forMs: number | undefined;
}

/** How a call is unique, if it is. `parsed` is its input as the task's schema gives it. */
export function uniqueOf(request: Request, parsed: unknown): Checked<Unique | undefined> {
  const { task, input, options } = request;
  const given = options.unique ?? task.unique;
  if (given === undefined) return { ok: true, value: undefined };
  if (options.idempotency_key !== undefined) return refused(keyFault(request));
  const { for: seconds, on = 'return' } = given;
  const time = options.eta === undefined ? 'countdown' : 'eta';
  if (on === 'debounce' && options[time] !== undefined) {
    return refused({
      path: `options.${time}`,
      message: 'and debounce exclude each other: it is due after the last call',
    });
  }
  const key = options.unique === undefined ? keyOf(task.unique?.key?.bind(task.unique), parsed) : options.unique.key;
  if (typeof key === 'object') return refused(key);
  const token = sha256Hex(key ?? sha256Hex(canonicalJson(input)));
  return { ok: true, value: { token, on, forMs: seconds === undefined ? undefined : Math.ceil(seconds * 1_000) } };
}

/** Why a unique call takes no idempotency key. */
export function keyFault({ task, options }: Request): Fault {
  const why =
    options.unique === undefined
      ? `is what the task ${task.name} is: its calls take no idempotency key`
      : 'excludes an idempotency key';
  return { path: 'options.unique', message: why };
}

/**
 * For each call the place of the one that decides, among calls that came together, are unique in the same way and mean
 * the same job: the first where it is given back, the last where it takes a place.
 */
export function decidingCalls(requests: readonly Request[]): readonly number[] {
  const names = requests.map(({ task, unique }) => unique && `${task.name} ${unique.on} ${unique.token}`);
  const deciding = new Map<string, number>();
  for (const [at, name] of names.entries()) {
    if (name !== undefined && (requests[at]?.unique?.on !== 'return' || !deciding.has(name))) deciding.set(name, at);
  }
  return names.map((name, at) => (name === undefined ? at : (deciding.get(name) ?? at)));
}

// Code of the task: what it throws is said of this call, and must not spoil others.
function keyOf(key: ((input: unknown) => unknown) | undefined, parsed: unknown): string | undefined | Fault {
  if (key === undefined) return undefined;
  try {
    const made = key(parsed);
    if (typeof made === 'string') return made;
    return { path: 'options.unique', message: 'the key its task makes of this input is no text' };
  } catch (error) {
    return { path: 'options.unique', message: `its task can make no key of this input: ${String(error)}` };
  }
}

function refused(fault: Fault): { ok: false; kind: 'invalid'; faults: readonly Fault[] } {
  return { ok: false, kind: 'invalid', faults: [fault] };
}
