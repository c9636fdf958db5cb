// Handing messages to queues, in as few sends as the platform allows.

import { within } from '../core/deadline.ts';
import type { Envelope } from '../core/envelope.ts';
import { byteLength } from '../core/json.ts';
import { ACCEPT_DEADLINE_MS, MAX_DELAY_SECONDS, MAX_SEND_BYTES, MAX_SEND_MESSAGES } from '../core/limits.ts';
import type { Outgoing, Statement } from '../core/ports.ts';
import { markOwed } from '../store/accept.ts';
import { readEnvelope } from '../store/rows.ts';
import { query, transact } from './database.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/** `unknown`: no answer in time; the message may or may not be on its way. */
export type Sending = 'sent' | 'failed' | 'unknown';

/** A message for a job, delayed until it is due. */
export function messageFor(envelope: Envelope, now: number): Outgoing {
  return { envelope, delaySeconds: delaySecondsUntil(envelope.dueAt, now) };
}

/** Sends messages. Never rejects; says what became of each job's. */
export async function handOut(rt: Runtime, outgoing: readonly Outgoing[]): Promise<ReadonlyMap<string, Sending>> {
  const outcome = new Map<string, Sending>();
  const sends = [...chunks(outgoing)].map(async ({ queue, messages }) => {
    const sending = await sendChunk(rt, queue, messages);
    for (const { envelope } of messages) outcome.set(envelope.id, sending);
  });
  await Promise.all(sends);
  return outcome;
}

/**
 * Sends the messages of jobs that are marked as sent at `markedAt`. Those that a queue refuses, or has enough delayed
 * messages without, are owed again; returns the queues this happened to.
 */
export async function sendMarked(
  rt: Runtime,
  envelopes: readonly Envelope[],
  markedAt: number,
): Promise<ReadonlySet<string>> {
  const fitting = envelopes.filter(({ dueAt, queue }) => dueAt <= markedAt || rt.isolate.delays.take(queue, markedAt));
  const sendings = await handOut(
    rt,
    fitting.map((envelope) => messageFor(envelope, markedAt)),
  );
  const unsent = envelopes.filter((each) => !fitting.includes(each) || sendings.get(each.id) === 'failed');
  if (unsent.length > 0) {
    await transact(rt, [
      markOwed(
        unsent.map(({ id }) => id),
        markedAt,
      ),
    ]);
  }
  return new Set(unsent.map(({ queue }) => queue));
}

/**
 * Sends the messages of jobs whose rows were just committed: those that `take` marks as sent now. Never rejects: those it
 * misses are owed one, which the tick sends; the log says so under `missed`.
 */
export async function sendTaken(
  rt: Runtime,
  take: (now: number) => Statement,
  missed: { readonly event: string; readonly fields: Readonly<Record<string, number>> },
): Promise<void> {
  const now = rt.clock.now();
  try {
    const rows = await query(rt, take(now));
    await sendMarked(rt, rows.map(readEnvelope), now);
  } catch (error) {
    logError(missed.event, error, missed.fields);
  }
}

/** Whole seconds until `dueAt`, rounded up so that no message comes before its time. */
export function delaySecondsUntil(dueAt: number, now: number): number {
  return Math.min(MAX_DELAY_SECONDS, Math.max(0, Math.ceil((dueAt - now) / 1_000)));
}

async function sendChunk(rt: Runtime, queue: string, messages: readonly Outgoing[]): Promise<Sending> {
  try {
    const { inTime } = await within(rt.clock, ACCEPT_DEADLINE_MS, rt.queues.send(queue, messages));
    return inTime ? 'sent' : 'unknown';
  } catch (error) {
    logError('queue.refused', error, { queue, messages: messages.length });
    return 'failed';
  }
}

interface Chunk {
  readonly queue: string;
  readonly messages: Outgoing[];
  bytes: number;
}

function* chunks(outgoing: readonly Outgoing[]): Generator<Chunk> {
  const filling = new Map<string, Chunk>();
  for (const message of outgoing) {
    const { queue } = message.envelope;
    const bytes = byteLength(JSON.stringify(message.envelope));
    let chunk = filling.get(queue);
    if (chunk !== undefined && (chunk.messages.length >= MAX_SEND_MESSAGES || chunk.bytes + bytes > MAX_SEND_BYTES)) {
      yield chunk;
      chunk = undefined;
    }
    if (chunk === undefined) {
      chunk = { queue, messages: [], bytes: 0 };
      filling.set(queue, chunk);
    }
    chunk.messages.push(message);
    chunk.bytes += bytes;
  }
  yield* filling.values();
}
