// Firing: from a due time of a schedule to the rows of its firing and its job, and to its message.

import type { Envelope, ScheduledRun } from '../core/envelope.ts';
import { shardOfText } from '../core/digest.ts';
import { derivedId } from '../core/ids.ts';
import { byteLength } from '../core/json.ts';
import { MAX_BOUND_BYTES, TICK_HORIZON_SECONDS } from '../core/limits.ts';
import type { NewRow } from '../store/accept.ts';
import { takeFired, type Decision } from '../store/firings.ts';
import type { Schedule } from '../store/schedules.ts';
import { sendTaken } from './hand-out.ts';
import { toEnvelope, type Request } from './request.ts';
import type { Runtime } from './runtime.ts';
import { callOf } from './schedule.ts';

/** A due time that is to be fired, and why now. */
export interface Due {
  readonly dueAt: number;
  readonly cause: Exclude<ScheduledRun['cause'], 'run'>;
}

/** What is to be written for due times; where the task does not take the call there are firings only, which say so. */
export interface Fired {
  readonly decisions: readonly Decision[];
  readonly rows: readonly NewRow[];
}

/** Room for the members of an envelope beside its input and options, or for why there is none. */
const ENVELOPE_BYTES = 2_000;
/** Of what is wrong with a call as much as people read; it may repeat an input. */
const MAX_REASON_CHARS = 500;

/** Bytes that one firing of a schedule takes in a statement: its input and its options are texts in a text there. */
export function firingBytes({ input, options }: Schedule): number {
  return byteLength(JSON.stringify(JSON.stringify([input, options]))) + ENVELOPE_BYTES;
}

/** How many firings of a schedule one statement has room for. */
export function roomFor(schedule: Schedule): number {
  return Math.max(1, Math.floor(MAX_BOUND_BYTES / firingBytes(schedule)));
}

/** The same due times of the same revision have the same jobs, whoever fires them and how often. */
export function fire(rt: Runtime, schedule: Schedule, dues: readonly Due[], now: number): Fired {
  const { name, revision } = schedule;
  const call = callOf(rt.registry, schedule);
  const common = { schedule: name, revision };
  if (!call.ok) {
    const whole = call.faults.map(({ path, message }) => `${path}: ${message}`).join('; ');
    const reason = whole.length > MAX_REASON_CHARS ? `${whole.slice(0, MAX_REASON_CHARS).toWellFormed()}…` : whole;
    return {
      decisions: dues.map((due) => ({ ...common, ...due, outcome: 'failed', jobId: null, reason })),
      rows: [],
    };
  }
  const made = dues.map((due) => ({ due, envelope: envelopeOf(schedule, call.value, due, now) }));
  return {
    decisions: made.map(({ due, envelope: { id } }) => ({
      ...common,
      ...due,
      outcome: 'fired',
      jobId: id,
      reason: null,
    })),
    // Owed their messages: the tick that fires sends them, or the next one.
    rows: made.map(({ envelope }) => ({ envelope, sentAt: null })),
  };
}

function envelopeOf(schedule: Schedule, request: Request, { dueAt, cause }: Due, now: number): Envelope {
  const { name, revision } = schedule;
  const overlap: ScheduledRun['overlap'] = cause === 'due' || schedule.overlap === 'allow' ? schedule.overlap : 'wait';
  const origin = {
    id: derivedId(dueAt, `schedule\n${name}\n${String(revision)}\n${String(dueAt)}`),
    source: sourceOf(name),
    now,
    schedule: { name, dueAt, cause, overlap },
  };
  const runAt = Math.max(now, cause === 'due' ? dueAt + jitterOf(schedule, dueAt) : dueAt);
  const { expires } = request.options;
  // A run is of no use so long after its time; what is asked for later, so long after it was asked for.
  const countsFrom = cause === 'backfill' ? now : dueAt;
  const expiresAt =
    expires === undefined || 'at' in expires ? null : countsFrom + Math.ceil(expires.afterSeconds * 1_000);
  return { ...toEnvelope(request, origin), dueAt: runAt, expiresAt };
}

/** Sends jobs that were just made and are due soon. Never rejects: what is not sent now is owed, and the tick sends it. */
export async function sendFired(rt: Runtime, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  const missed = { event: 'firing.unsent', fields: { jobs: ids.length } };
  await sendTaken(rt, (now) => takeFired(ids, now, now + TICK_HORIZON_SECONDS * 1_000), missed);
}

export function sourceOf(name: string): string {
  return `schedule:${name}`;
}

/** 0 to the schedule's jitter in ms: spread evenly over its due times, and the same for one each time. */
export function jitterOf({ name, jitter_ms: most }: Schedule, dueAt: number): number {
  if (most === 0) return 0;
  return shardOfText(`jitter\n${name}\n${String(dueAt)}`, most + 1);
}
