// Statements of a running job: claim, heartbeat, finish, lose. Each is safe to repeat after an answer that was lost.

import { z } from 'zod';
import { LEASE_MS, MAX_LOST } from '../core/limits.ts';
import type { Row, Statement } from '../core/ports.ts';
import { FINAL_SQL, STATES, guard, target, type State } from '../core/states.ts';
import { isPaused, pauseColumns } from './queue-controls.ts';
import { ahead, aheadColumn, isBehind } from './overlap.ts';
import { REVISION, revision, type AttemptRecord, type JobError } from './rows.ts';

/**
 * Takes every job of `ids` that may run now; one whose attempt has vanished before only where it is to run `alone`.
 * A claim repeated with its token wins again and counts nothing; one that takes effect late shortens no lease.
 */
export function claimJobs(ids: readonly string[], token: string, now: number, alone: boolean): Statement {
  return {
    name: 'claim',
    sql: `UPDATE jobs SET
  attempt = attempt + (state <> ${target('claim')}),
  claim = claim + (state <> ${target('claim')}),
  lease_until = max(iif(state = ${target('claim')}, lease_until, 0), ?3 + ${String(LEASE_MS)}),
  state = ${target('claim')}, claim_token = ?2, started_at = ?3, waiting_for = NULL, parked_for = NULL
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND (
  (${guard('claim')} AND due_at <= ?3 AND (expires_at IS NULL OR expires_at > ?3 OR started_at IS NOT NULL)
    AND (lost = 0 OR ?4) AND NOT ${isPaused('jobs.queue', '?3')} AND NOT ${isBehind('?3')})
  OR (state = ${target('claim')} AND claim_token = ?2)
)
RETURNING id, attempt, claim, input_key, input_bytes, ${REVISION} AS revision`,
    params: [JSON.stringify(ids), token, now, alone ? 1 : 0],
  };
}

const wonRow = z
  .object({
    id: z.string(),
    attempt: z.int(),
    claim: z.int(),
    input_key: z.string().nullable(),
    input_bytes: z.int().nullable(),
    /** The whole job where its row wins over the message that brought it. */
    revision,
  })
  .readonly();
export type Won = z.infer<typeof wonRow>;

export function readWon(row: Row): Won {
  return wonRow.parse(row);
}

/** Why ids were not won: read only when some were not, or before asking for what they need beside the claim. */
export function selectUnwon(ids: readonly string[], now: number): Statement {
  return {
    name: 'unwon',
    sql: `SELECT id, state, claim, lost, due_at, expires_at, sent_at, lease_until, started_at,
  ${pauseColumns('?2')},
  ${aheadColumn('?2')},
  ${REVISION} AS revision
FROM jobs WHERE id IN (SELECT value FROM json_each(?1))`,
    params: [JSON.stringify(ids), now],
  };
}

const unwonRow = z
  .object({
    id: z.string(),
    state: z.enum(STATES),
    claim: z.int(),
    lost: z.int(),
    due_at: z.number(),
    expires_at: z.number().nullable(),
    sent_at: z.number().nullable(),
    lease_until: z.number().nullable(),
    started_at: z.number().nullable(),
    paused: z.int(),
    paused_until: z.number().nullable(),
    /** Of a run of a schedule that may have to wait for others. */
    ahead,
    /** The whole job where a later call has changed it. */
    revision,
  })
  .readonly();
export type Unwon = z.infer<typeof unwonRow>;

export function readUnwon(row: Row): Unwon {
  return unwonRow.parse(row);
}

export interface Beat {
  readonly id: string;
  readonly claim: number;
  readonly startedAt: number;
  readonly progress: number;
  readonly progressNote: string | null;
}

/** Renews the leases of one invocation. A job that is not returned is no longer ours. */
export function heartbeat(beats: readonly Beat[], now: number): Statement {
  return {
    name: 'heartbeat',
    sql: `UPDATE jobs SET
  lease_until = max(lease_until, ?2 + ${String(LEASE_MS)}), started_at = beat.started_at,
  progress = beat.progress, progress_note = beat.progress_note
FROM (SELECT value ->> 'id' AS id, value ->> 'claim' AS claim, value ->> 'startedAt' AS started_at,
             value ->> 'progress' AS progress, value ->> 'progressNote' AS progress_note FROM json_each(?1)) AS beat
WHERE jobs.id = beat.id AND jobs.claim = beat.claim AND ${guard('succeed')}
RETURNING jobs.id, jobs.revoke_requested`,
    params: [JSON.stringify(beats), now],
  };
}

const beatRow = z.object({ id: z.string(), revoke_requested: z.int() }).readonly();

export function readBeat(row: Row): z.infer<typeof beatRow> {
  return beatRow.parse(row);
}

/** How an attempt ended, as it is written. */
export interface Finish {
  readonly id: string;
  readonly claim: number;
  readonly state: Extract<State, 'SUCCESS' | 'FAILURE' | 'RETRY' | 'PENDING' | 'REVOKED'>;
  readonly startedAt: number;
  /** When it ended. */
  readonly at: number;
  /** JSON text, for SUCCESS; null where it is kept under `resultKey`. */
  readonly result: string | null;
  readonly resultKey: string | null;
  readonly error: JobError | null;
  /** When it may run again, for RETRY and PENDING. */
  readonly dueAt: number | null;
  /** When its next message is handed out; null: it is owed one, or needs none. */
  readonly sentAt: number | null;
  /** 1 where the attempt does not count. */
  readonly giveBack: 0 | 1;
  readonly waitingFor: string | null;
  /** What is kept of this attempt when it was not the last. */
  readonly record: AttemptRecord | null;
  readonly progress: number;
  readonly progressNote: string | null;
  readonly deadLetterId: string;
}

// A revocation that found the job running is honoured here: 1 lets this attempt's outcome stand but allows no other,
// 2 also turns a failure into REVOKED. Returning is always SUCCESS.
const OUTCOME = `CASE
    WHEN done.state IN ('RETRY', 'PENDING') AND jobs.revoke_requested > 0 THEN ${target('stop')}
    WHEN done.state = ${target('fail')} AND jobs.revoke_requested = 2 THEN ${target('stop')}
    ELSE done.state END`;

const REVOKED_WHILE_RUNNING = `json_object('code', 'revoked', 'message', 'Revoked while it was running.', 'fingerprint', '')`;

const FINISH = `UPDATE jobs SET
  state = ${OUTCOME},
  finished_at = CASE WHEN done.state IN ${FINAL_SQL} OR jobs.revoke_requested > 0 THEN done.at END,
  error = iif(${OUTCOME} <> done.state, ${REVOKED_WHILE_RUNNING}, done.error),
  attempt = jobs.attempt - done.give_back,
  started_at = iif(done.give_back AND jobs.attempt = 1, NULL, done.started_at),
  due_at = iif(${OUTCOME} <> done.state, jobs.due_at, coalesce(done.due_at, jobs.due_at)), sent_at = done.sent_at,
  result = done.result,
  result_key = done.result_key,
  waiting_for = done.waiting_for, lease_until = NULL,
  progress = iif(done.state = ${target('succeed')}, 100, done.progress), progress_note = done.progress_note,
  attempts = iif(done.record IS NULL, jobs.attempts, json_insert(jobs.attempts, '$[#]', json(done.record)))
FROM (SELECT value ->> 'id' AS id, value ->> 'claim' AS claim, value ->> 'state' AS state, value ->> 'at' AS at,
             value ->> 'startedAt' AS started_at, value ->> 'result' AS result, value ->> 'resultKey' AS result_key,
             nullif(value -> 'error', 'null') AS error, value ->> 'dueAt' AS due_at, value ->> 'sentAt' AS sent_at,
             value ->> 'giveBack' AS give_back, value ->> 'waitingFor' AS waiting_for,
             nullif(value -> 'record', 'null') AS record, value ->> 'progress' AS progress,
             value ->> 'progressNote' AS progress_note FROM json_each(?1)) AS done
WHERE jobs.id = done.id AND jobs.claim = done.claim AND ${guard('succeed')}
RETURNING jobs.id, jobs.state`;

/** Ends attempts, whatever way; returns the state each job is in now. Fenced by the claim. */
export function finishJobs(finishes: readonly Finish[]): Statement {
  return { name: 'finish', sql: FINISH, params: [JSON.stringify(finishes)] };
}

const finishedRow = z.object({ id: z.string(), state: z.enum(STATES) }).readonly();

export function readFinished(row: Row): z.infer<typeof finishedRow> {
  return finishedRow.parse(row);
}

export interface Loss {
  readonly id: string;
  readonly claim: number;
  readonly error: JobError;
  readonly deadLetterId: string;
}

const LOSE_OUTCOME = `CASE
    WHEN jobs.revoke_requested > 0 THEN ${target('stop')}
    WHEN jobs.lost >= ${String(MAX_LOST)} THEN ${target('fail')}
    ELSE ${target('lose')} END`;

/**
 * Gives up on attempts whose lease has run out: the job waits again, its attempt given back, or has failed for good
 * with the {@link MAX_LOST} + 1st loss. Returns the state of each. `sent_at` is now: the caller sends the message.
 */
export function loseJobs(losses: readonly Loss[], now: number): Statement {
  return {
    name: 'lose',
    sql: `UPDATE jobs SET
  state = ${LOSE_OUTCOME},
  finished_at = iif(${LOSE_OUTCOME} = ${target('lose')}, NULL, ?2),
  error = CASE ${LOSE_OUTCOME} WHEN ${target('fail')} THEN lost_attempt.error
    WHEN ${target('stop')} THEN ${REVOKED_WHILE_RUNNING} ELSE jobs.error END,
  attempts = json_insert(jobs.attempts, '$[#]', json_object('attempt', jobs.attempt, 'started_at', jobs.started_at,
    'finished_at', ?2, 'outcome', 'lost', 'error', json(lost_attempt.error))),
  attempt = jobs.attempt - (${LOSE_OUTCOME} = ${target('lose')}), lost = jobs.lost + 1, lease_until = NULL, due_at = ?2, sent_at = ?2,
  waiting_for = 'its last attempt vanished'
FROM (SELECT value ->> 'id' AS id, value ->> 'claim' AS claim, value -> 'error' AS error FROM json_each(?1))
  AS lost_attempt
WHERE jobs.id = lost_attempt.id AND jobs.claim = lost_attempt.claim AND ${guard('lose')} AND jobs.lease_until < ?2
RETURNING jobs.id, jobs.state`,
    params: [JSON.stringify(losses), now],
  };
}
