// What a schedule says: read from a body or from the code, checked whole, and as people see it.

import { z } from 'zod';
import { instant, instantOrNull } from '../core/instant.ts';
import { byteLength, type Json } from '../core/json.ts';
import { MAX_CATCH_UP, MAX_JITTER_SECONDS, MAX_SCHEDULE_INPUT_BYTES } from '../core/limits-schedules.ts';
import { formatEvery, nextDues, parseEvery, timingOf, type Timing } from '../core/timing.ts';
import { CATCH_UPS, OVERLAP_POLICIES, type Definition, type Schedule } from '../store/schedules.ts';
import type { Env } from '../env.ts';
import type { Registry } from './registry.ts';
import { callOptions, checkRequest, faultsOf, readCall, type Checked, type Fault, type Request } from './request.ts';

export const SCHEDULE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$/;

/** Options of a call that make no sense for one that comes again and again, and why. */
const NOT_AGAIN = {
  countdown: 'is not for schedules: a run is due at its time; jitter spreads runs',
  eta: 'is not for schedules: a run is due at its time',
  idempotency_key: 'is not for schedules: a due time fires once',
  unique: 'is not for schedules: overlap says what two runs are to each other',
} as const;
/** Of an expiry that is no seconds. */
const EXPIRES_AGAIN = 'must be seconds: it counts for each run, from its due time';

const scheduleOptions = z.unknown().transform((given, context): Json => {
  const parsed = callOptions.safeParse(given);
  if (!parsed.success) {
    for (const { path, message } of faultsOf(parsed.error)) {
      refuse(context, path, path === 'expires' ? EXPIRES_AGAIN : message);
    }
  } else {
    for (const [name, why] of Object.entries(NOT_AGAIN)) {
      if (parsed.data[name as keyof typeof NOT_AGAIN] !== undefined) refuse(context, name, why);
    }
    const { expires } = parsed.data;
    if (expires !== undefined && 'at' in expires) refuse(context, 'expires', EXPIRES_AGAIN);
  }
  // As it was given: it is read again for each run.
  return given as Json;
});

function refuse(context: z.RefinementCtx, path: string, message: string): void {
  context.addIssue({ code: 'custom', path: path === '' ? [] : [path], message });
}

/** `queue one`, `queue-one` and `queue_one` are the same word. */
const overlap = z
  .string()
  .transform((text) => text.trim().toLowerCase().replaceAll(/[ -]/g, '_'))
  .pipe(z.enum(OVERLAP_POLICIES));

const catchUp = z.union(
  [
    z.enum(CATCH_UPS).transform((kind) => ({ kind, most: MAX_CATCH_UP })),
    z
      .strictObject({ all: z.int().min(1).max(MAX_CATCH_UP) })
      .transform(({ all }) => ({ kind: 'all' as const, most: all })),
  ],
  `must be "none", "last", "all" or { "all": 1–${String(MAX_CATCH_UP)} }`,
);

const anyJson = z.custom<Json>((value) => value !== undefined);

/** All that a body may say of a schedule, its name apart. */
const scheduleMembers = {
  task: z.string(),
  input: anyJson.optional(),
  args: z.array(anyJson).optional(),
  kwargs: z.record(z.string(), anyJson).optional(),
  options: scheduleOptions.optional(),
  cron: z.string().nullish(),
  every: z.union([z.string(), z.number()], 'must be a text like "30s" or a number of seconds').nullish(),
  timezone: z.string().optional(),
  overlap: overlap.optional(),
  catch_up: catchUp.optional(),
  jitter: z.number().min(0).max(MAX_JITTER_SECONDS).optional(),
  starts_at: instant.nullish(),
  ends_at: instant.nullish(),
  paused: z.boolean().optional(),
};
const scheduleBody = z.strictObject(scheduleMembers);
/** A schedule of the code, as it is written there. */
export interface CodeSchedule extends Omit<z.input<typeof scheduleBody>, 'task' | 'paused'> {
  readonly name: string;
  /** The schedule's own name where it is left out. */
  readonly task?: string;
  /** Settings without which it is not run. One that is there and wrong is for its job to say. */
  readonly needs?: readonly (keyof Env)[];
}

/** Members that null puts back to what they are where nothing is said. */
const WITH_DEFAULT = ['options', 'cron', 'every', 'timezone', 'overlap', 'catch_up', 'jitter', 'starts_at', 'ends_at'];
const scheduleChange = scheduleBody.partial();

/** Reads what a change says, and returns it as it was said. */
export function readChange(body: Json): Checked<Readonly<Record<string, Json>>> {
  const parsed = scheduleChange.safeParse(isMembers(body) ? withoutResets(body) : body);
  // It parsed as an object.
  return parsed.success ? { ok: true, value: body as Record<string, Json> } : invalid(faultsOf(parsed.error));
}

/** What a body would have to say for a schedule to be as it is, but for a change. What is said in one of two ways replaces the other. */
export function bodyOfChange(
  schedule: Definition,
  change: Readonly<Record<string, Json>>,
): Readonly<Record<string, unknown>> {
  const { input, cron, every, ...rest } = bodyOf(schedule);
  const says = (...names: readonly string[]): boolean => names.some((name) => Object.hasOwn(change, name));
  const moves = [change['cron'], change['every']].some((said) => said !== undefined && said !== null);
  return withoutResets({
    ...rest,
    ...(says('input', 'args', 'kwargs') ? {} : { input }),
    ...(moves ? {} : { cron, every }),
    ...change,
  });
}

function withoutResets<T>(members: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  const kept = Object.entries(members).filter(([name, value]) => value !== null || !WITH_DEFAULT.includes(name));
  return Object.fromEntries(kept);
}

function isMembers(value: Json): value is Readonly<Record<string, Json>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads what a schedule says. `body`: parsed JSON from outside, or a line of the code. */
export function readDefinition(registry: Registry, body: unknown): Checked<Definition> {
  const parsed = scheduleBody.safeParse(body);
  if (!parsed.success) return invalid(faultsOf(parsed.error));
  const { task, input, args, kwargs, options = {}, cron = null, every = null, ...rest } = parsed.data;
  const call = readCall(registry, withoutUndefined({ task, input, args, kwargs, options }));
  if (!call.ok) return call;
  const bytes = byteLength(JSON.stringify(call.value.input));
  if (bytes > MAX_SCHEDULE_INPUT_BYTES) {
    const message = `is ${String(bytes)} bytes; a schedule keeps at most ${String(MAX_SCHEDULE_INPUT_BYTES)}`;
    return { ok: false, kind: 'too_large', faults: [{ path: 'input', message }] };
  }
  const everyMs = readEvery(every);
  if (typeof everyMs === 'object' && everyMs !== null) return invalid([everyMs]);
  const definition: Definition = {
    task: call.value.task.name,
    input: call.value.input,
    options,
    cron,
    every_ms: everyMs,
    timezone: rest.timezone ?? 'UTC',
    overlap: rest.overlap ?? 'skip',
    catch_up: rest.catch_up?.kind ?? 'last',
    catch_up_most: rest.catch_up?.most ?? MAX_CATCH_UP,
    jitter_ms: Math.round((rest.jitter ?? 0) * 1_000),
    starts_at: rest.starts_at ?? null,
    ends_at: rest.ends_at ?? null,
  };
  const fault = timingFault(definition);
  return fault === undefined ? { ok: true, value: definition } : invalid([fault]);
}

function readEvery(every: string | number | null): number | null | Fault {
  if (every === null) return null;
  try {
    return parseEvery(every);
  } catch (error) {
    return { path: 'every', message: messageOf(error) };
  }
}

function timingFault(definition: Definition): Fault | undefined {
  const { cron, every_ms: everyMs, timezone, starts_at: startsAt, ends_at: endsAt } = definition;
  if (cron !== null && everyMs !== null) return { path: 'every', message: 'and cron exclude each other' };
  if (cron === null && everyMs === null) return { path: 'cron', message: 'or every is required: when is it due?' };
  if (everyMs !== null && timezone !== 'UTC')
    return { path: 'timezone', message: 'is for cron: every counts elapsed time; leave it out, or change it to null' };
  if (startsAt !== null && endsAt !== null && endsAt < startsAt)
    return { path: 'ends_at', message: 'must not be before starts_at' };
  try {
    timingOf(specOf({ ...definition, timezone: 'UTC' }));
  } catch (error) {
    return { path: everyMs === null ? 'cron' : 'every', message: messageOf(error) };
  }
  try {
    timingOf(specOf(definition));
  } catch (error) {
    return { path: 'timezone', message: messageOf(error) };
  }
  return undefined;
}

function messageOf(error: unknown): string {
  if (error instanceof RangeError) return error.message;
  throw error;
}

function specOf(definition: Definition): Parameters<typeof timingOf>[0] {
  const { cron, every_ms: everyMs, timezone, starts_at: startsAt, ends_at: endsAt } = definition;
  return { cron, everyMs, timezone, startsAt, endsAt };
}

/** When it is due. Throws RangeError for what {@link readDefinition} would refuse. */
export function timingOfSchedule(definition: Definition): Timing {
  return timingOf(specOf(definition));
}

/**
 * The call a run makes, as its task takes it now: an older deployment may have accepted another one. What two runs are to
 * each other is said by the schedule, not by what makes two calls of its task the same.
 */
export function callOf(registry: Registry, { task: name, input, options }: Definition): Checked<Request> {
  const task = registry.find(name);
  if (task === undefined) return invalid([{ path: 'task', message: `there is no task ${JSON.stringify(name)}` }]);
  const parsed = callOptions.safeParse(options);
  if (!parsed.success) return invalid(faultsOf(parsed.error, 'options'));
  const request = checkRequest({ task, input, options: parsed.data });
  if (!request.ok) return request;
  const { unique: _, ...call } = request.value;
  return { ok: true, value: call };
}

/** What a body would have to say for a schedule to be as it is. */
export function bodyOf(schedule: Definition): Record<string, unknown> {
  const { task, input, options, cron, every_ms: everyMs, timezone } = schedule;
  return {
    task,
    input,
    options,
    cron,
    every: everyMs === null ? null : formatEvery(everyMs),
    timezone,
    overlap: schedule.overlap,
    catch_up: schedule.catch_up === 'all' ? { all: schedule.catch_up_most } : schedule.catch_up,
    jitter: schedule.jitter_ms / 1_000,
    starts_at: instantOrNull(schedule.starts_at),
    ends_at: instantOrNull(schedule.ends_at),
  };
}

/** The next due times of a schedule that is not paused. */
export function nextRuns(schedule: Schedule, now: number, count: number): readonly number[] {
  return schedule.paused_at !== null ? [] : nextDues(timingOfSchedule(schedule), now, count);
}

function invalid(faults: readonly Fault[]): { ok: false; kind: 'invalid'; faults: readonly Fault[] } {
  return { ok: false, kind: 'invalid', faults };
}

// A member that is there and undefined is unknown to strict schemas.
function withoutUndefined(members: Record<string, unknown>): Json {
  return JSON.parse(JSON.stringify(members)) as Json;
}
