// Payloads too large for a row and a message: set aside before anybody is told of the job, fetched where they are needed.

import { answerWithin } from '../core/deadline.ts';
import type { Envelope, InputAside } from '../core/envelope.ts';
import { byteLength, type Json } from '../core/json.ts';
import {
  ACCEPT_DEADLINE_MS,
  KEEP_SUCCESS_MS,
  KV_SETTLES_MS,
  MAX_INLINE_INPUT_BYTES,
  MAX_INLINE_RESULT_BYTES,
  MIN_KV_TTL_SECONDS,
  PAYLOAD_DEADLINE_MS,
  RESULT_SLACK_SECONDS,
} from '../core/limits.ts';
import { selectStates } from '../store/accept.ts';
import type { Won } from '../store/claims.ts';
import { inputKey, resultKey } from '../store/payloads.ts';
import { asideOf, type JobRow } from '../store/rows.ts';
import type { Attempt, Outcome } from './attempt.ts';
import { insist, query } from './database.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/** `gone`: nobody has it any more. `silent`: the store did not answer; ask again. */
export type Fetched<T> =
  { readonly kind: 'value'; readonly value: T } | { readonly kind: 'gone' } | { readonly kind: 'silent' };

/**
 * An envelope that fits into a message: its input is put aside first where it is too large, unless (`mode` again) the
 * job is there already, and its input with it or long cleared. Rejects where the input could not be kept.
 */
export async function setInputAside(
  rt: Runtime,
  envelope: Envelope,
  mode: 'new' | 'again',
  key = inputKey(envelope.id),
): Promise<Envelope> {
  if (envelope.v !== 1) return envelope;
  const text = JSON.stringify(envelope.input ?? null);
  const bytes = byteLength(text);
  if (bytes <= MAX_INLINE_INPUT_BYTES) return envelope;
  const { v: _, input: __, ...members } = envelope;
  if (mode === 'new' || !(await isStored(rt, envelope))) {
    await inTime(rt, rt.inputs.put(key, text, envelope.acceptedAt));
  }
  return { v: 2, ...members, inputKey: key, inputBytes: bytes };
}

async function isStored(rt: Runtime, { id, options }: Envelope): Promise<boolean> {
  try {
    return (await query(rt, selectStates([id]), ACCEPT_DEADLINE_MS)).length > 0;
  } catch (error) {
    // What has been cleared must not come back because nobody can say that it was: the caller tries again.
    if (options.sensitive === true) throw error;
    return false;
  }
}

/** The input of a job that was won. Its row decides: a message made of it by an older deployment knows of no other place. */
export async function inputOf(rt: Runtime, envelope: Envelope, won: Won): Promise<Fetched<unknown>> {
  const aside = asideOf(won) ?? (envelope.v === 1 ? undefined : envelope);
  if (aside !== undefined) return fetchInput(rt, aside);
  return { kind: 'value', value: envelope.v === 1 ? envelope.input : null };
}

/** The input of a row or a dead letter, wherever it is. */
export async function inputOfRow(
  rt: Runtime,
  row: Pick<JobRow, 'input' | 'input_key' | 'input_bytes'>,
): Promise<Fetched<Json>> {
  const aside = asideOf(row);
  // What a row keeps came in as JSON.
  return aside === undefined ? { kind: 'value', value: row.input as Json } : fetchInput(rt, aside);
}

async function fetchInput(rt: Runtime, { inputKey: key }: InputAside): Promise<Fetched<Json>> {
  return fetched(key, () => inTime(rt, rt.inputs.get(key)));
}

/** When the result of a job stops being shown; null where it has none. */
export function resultExpiresAt({ state, finished_at, options }: JobRow): number | null {
  return state === 'SUCCESS' && finished_at !== null ? finished_at + options.resultTtlSeconds * 1_000 : null;
}

/** Whether the payload of a sensitive job has left, or is about to: nobody is given it any more. */
export function isCleared({ clears_at, cleared_at }: Pick<JobRow, 'clears_at' | 'cleared_at'>, now: number): boolean {
  return cleared_at !== null || (clears_at !== null && clears_at <= now);
}

/** What people may see of a job's payload. A field that is not there is kept aside and was not fetched. */
export interface Payload {
  readonly input?: unknown;
  readonly result?: unknown;
  readonly resultExpired: boolean;
}

/** As far as the row itself has it. */
export function payloadOfRow(job: JobRow, now: number): Payload {
  const cleared = isCleared(job, now);
  const resultExpired = (resultExpiresAt(job) ?? Infinity) <= now;
  return {
    ...(cleared || job.input_key === null ? { input: cleared ? null : job.input } : {}),
    ...(resultExpired || job.result_key === null ? { result: resultExpired ? null : job.result } : {}),
    resultExpired,
  };
}

/** All of it; undefined where a store does not answer, or does not show yet what was just written. */
export async function fetchPayload(rt: Runtime, job: JobRow): Promise<Payload | undefined> {
  const known = payloadOfRow(job, rt.clock.now());
  const none = { kind: 'value', value: undefined } as const;
  const [input, result] = await Promise.all([
    'input' in known ? none : inputOfRow(rt, job),
    'result' in known ? none : resultOfRow(rt, job),
  ]);
  const settled = rt.clock.now() - (job.finished_at ?? 0) > KV_SETTLES_MS;
  if (input.kind === 'silent' || result.kind === 'silent' || (result.kind === 'gone' && !settled)) return undefined;
  return {
    input: input.kind === 'value' ? input.value : null,
    result: result.kind === 'value' ? result.value : null,
    ...known,
    resultExpired: known.resultExpired || result.kind === 'gone',
  };
}

/** The result of a finished job, wherever it is. */
async function resultOfRow(rt: Runtime, { result, result_key: key }: JobRow): Promise<Fetched<unknown>> {
  return key === null ? { kind: 'value', value: result } : fetched(key, () => inTime(rt, rt.results.get(key)));
}

async function fetched(key: string, get: () => Promise<string | undefined>): Promise<Fetched<Json>> {
  try {
    const text = await get();
    if (text !== undefined) return { kind: 'value', value: JSON.parse(text) as Json };
    logError('payload.gone', new Error('Nothing is kept under this key.'), { key });
    return { kind: 'gone' };
  } catch (error) {
    logError('payload.silent', error, { key });
    return { kind: 'silent' };
  }
}

/**
 * The outcome as its finish can carry it: a large result is kept under the attempt's own key first, however often that
 * has to be tried until `giveUpAt` (epoch ms). Rejects where it could not be kept.
 */
export async function setResultAside(
  rt: Runtime,
  { won, envelope: { options } }: Attempt,
  outcome: Outcome,
  giveUpAt: number,
): Promise<Outcome> {
  if (outcome.kind !== 'success' || outcome.result === null) return outcome;
  const text = outcome.result;
  if (byteLength(text) <= MAX_INLINE_RESULT_BYTES) return outcome;
  const key = resultKey(won.id, won.claim);
  const slack = options.sensitive === true ? 0 : RESULT_SLACK_SECONDS;
  // With its row it is gone for readers in any case.
  const shownSeconds = Math.min(options.resultTtlSeconds, KEEP_SUCCESS_MS / 1_000);
  const ttlSeconds = Math.max(MIN_KV_TTL_SECONDS, shownSeconds + slack);
  await insist(rt, () => inTime(rt, rt.results.put(key, text, ttlSeconds)), giveUpAt);
  return { ...outcome, result: null, resultKey: key };
}

async function inTime<T>(rt: Runtime, promise: Promise<T>): Promise<T> {
  return answerWithin(rt.clock, PAYLOAD_DEADLINE_MS, promise, 'The store of large payloads');
}
