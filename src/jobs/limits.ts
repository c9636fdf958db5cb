// Which rate limits and locks a job takes from: those of its task and of its queue, each by its name.

import { sha256Hex } from '../core/digest.ts';
import type { Envelope, JobOptions } from '../core/envelope.ts';
import { MAX_LIMIT_KEY_CHARS } from '../core/limits.ts';
import { parseRate, type Rate } from '../core/rate.ts';
import { QUEUES, resolveQueue } from '../queues.ts';
import type { LockRule, RateRule, Task } from './task.ts';

/** Name of a rule → what it tells its limits apart by. Made when a job is accepted, while its input is at hand. */
export type LimitKeys = Readonly<Record<string, string>>;

export interface RateLimit {
  /** Of its Durable Object. */
  readonly name: string;
  readonly rate: Rate;
  /** For people; without its key, which is part of an input. */
  readonly text: string;
  /** The task's own, as far as a provider's 429 is about it. */
  readonly heeds429: boolean;
}

export interface Lock {
  /** Of its Durable Object. */
  readonly name: string;
  /** How many at once. */
  readonly limit: number;
  readonly text: string;
}

/** Rules by name: those of a task in the order they are written. */
function rulesOf<T>(kind: 'rate' | 'lock', rules: readonly T[]): readonly (readonly [string, T])[] {
  return rules.map((rule, at) => [`${kind}${at === 0 ? '' : `-${String(at + 1)}`}`, rule]);
}

/** The keys of an input. A key function that throws, or makes no usable key, is the input's fault. */
export function keysOf(
  task: Task,
  input: unknown,
): { readonly ok: true; readonly value: LimitKeys } | { readonly ok: false; readonly problem: string } {
  const keys: Record<string, string> = {};
  for (const [name, rule] of [...rulesOf('rate', task.rateLimits), ...rulesOf('lock', task.locks)]) {
    if (rule.key === undefined) continue;
    let key: unknown;
    try {
      key = rule.key(input);
    } catch (error) {
      return { ok: false, problem: `has no key for the limits of ${task.name}: ${String(error)}` };
    }
    if (typeof key !== 'string' && typeof key !== 'number') {
      return { ok: false, problem: `has no key for the limits of ${task.name}` };
    }
    keys[name] = keep(task, String(key));
  }
  return { ok: true, value: keys };
}

// What a sensitive input says must not stay behind in a name.
function keep(task: Task, key: string): string {
  return task.sensitive || key.length > MAX_LIMIT_KEY_CHARS ? sha256Hex(key) : key;
}

/** The options of a job of `queue` with the keys of its task's rules and of its queue's, where there are any. */
export function withKeys(
  options: JobOptions,
  { task, input, keys: own = {} }: { readonly task: Task; readonly input: unknown; readonly keys?: LimitKeys },
  queue: string,
): JobOptions {
  const { keys: _, ...others } = options;
  const keys = { ...own, ...queueKeyOf(task, queue, input) };
  return Object.keys(keys).length === 0 ? others : { ...others, keys };
}

/** The rate limits of a job, in the order they are asked: those with a key, the task's, its queue's. */
export function ratesOf(task: Task, { options, queue }: Envelope): readonly RateLimit[] {
  const anyKeyed = task.rateLimits.some(isKeyed);
  const own = rulesOf('rate', task.rateLimits).map(([name, rule]) => ({
    name: nameOf(task, name, rule, options),
    rate: rule.rate,
    text: `the rate limit of ${task.name} (${rule.text}${isKeyed(rule) ? ' for its key' : ''})`,
    heeds429: isKeyed(rule) === anyKeyed,
  }));
  const [first, last] = [own.filter((each) => each.heeds429), own.filter((each) => !each.heeds429)];
  const known = resolveQueue(queue);
  const text = known === undefined ? undefined : QUEUES[known].rateLimit;
  if (text === undefined) return [...first, ...last];
  const ofQueue = { name: `queue/${queue}`, rate: parseRate(text), heeds429: false };
  return [...first, ...last, { ...ofQueue, text: `the rate limit of the queue ${queue} (${text})` }];
}

/** Why a job waits for a lock, and whose it is now. */
export function heldBy({ text }: Lock, holders: readonly string[]): string {
  return holders.length === 0 ? text : `${text}, held by ${holders.join(', ')}`;
}

/** The locks of a job: its task's, and its queue's. */
export function locksOf(task: Task, { options, queue }: Pick<Envelope, 'options' | 'queue'>): readonly Lock[] {
  const own = rulesOf('lock', task.locks).map(([name, rule]) => ({
    name: nameOf(task, name, rule, options),
    limit: rule.limit,
    text: `the lock of ${task.name}${isKeyed(rule) ? ' for its key' : ''}`,
  }));
  const member = options.keys?.['queue'];
  if (member === undefined) return own;
  return [...own, { name: `queue/${queue}/${member}`, limit: 1, text: `the lock of the queue ${queue} for its key` }];
}

// A job accepted before its rule had a key shares one with all others of that time.
function nameOf(task: Task, name: string, rule: RateRule | LockRule, { keys }: JobOptions): string {
  return isKeyed(rule) ? `${task.name}/${name}/${keys?.[name] ?? ''}` : `${task.name}/${name}`;
}

/** Whether a rule counts for each key by itself. */
export function isKeyed(rule: RateRule | LockRule): boolean {
  return rule.key !== undefined;
}

// The key of the queue a job goes to, where that queue runs one at a time for each.
function queueKeyOf(task: Task, queue: string, input: unknown): LimitKeys {
  const known = resolveQueue(queue);
  const member = known === undefined ? undefined : QUEUES[known].lockBy;
  if (member === undefined || typeof input !== 'object' || input === null) return {};
  const value: unknown = Object.getOwnPropertyDescriptor(input, member)?.value;
  return typeof value === 'string' || typeof value === 'number' ? { queue: keep(task, String(value)) } : {};
}
