// Statements of the tick: what is owed a message, what may have lost its own, what ran out of time, what is old.

import { z } from 'zod';
import { ENVELOPE_LIFE_MS, UNPARK_AFTER_MS } from '../core/limits.ts';
import type { Row, Statement } from '../core/ports.ts';
import { guard, target } from '../core/states.ts';
import { isPaused, PAUSE } from './queue-controls.ts';
import { ENVELOPE_COLUMNS } from './rows.ts';

/**
 * Marks jobs owed a message and due by `horizon` as sent now, and returns their envelopes. Earliest first. Those of a
 * queue that is paused beyond the horizon stay owed; of one whose pause ends before it, `resumes_at` says when.
 */
export function takeOwed(horizon: number, now: number, limit: number, exceptQueues: readonly string[]): Statement {
  return {
    name: 'owed',
    sql: `UPDATE jobs SET sent_at = ?2 WHERE id IN (
  SELECT id FROM jobs WHERE finished_at IS NULL AND sent_at IS NULL AND due_at <= ?1 AND parked_for IS NULL
    AND queue NOT IN (SELECT value FROM json_each(?4)) AND NOT ${isPaused('jobs.queue', '?1')} ORDER BY due_at LIMIT ?3)
RETURNING ${ENVELOPE_COLUMNS}, (SELECT paused_until FROM queue_controls AS control
  WHERE control.queue = jobs.queue AND paused_at IS NOT NULL AND paused_until > ?2) AS resumes_at`,
    params: [horizon, now, limit, JSON.stringify(exceptQueues)],
  };
}

// Due and sent before ?2, and not claimed. Whoever is parked for a lock has no message: only a wake that never came is
// looked for, long after.
const SUSPECT = `finished_at IS NULL AND due_at <= ?2 AND ${guard('claim')} AND sent_at <= ?2
  AND (parked_for IS NULL OR (parked_for <> '${PAUSE}' AND sent_at <= ?2 - (${String(UNPARK_AFTER_MS)} << min(resends, 20))))`;

/** The queues that have a suspect at all. */
export function selectSuspectQueues(queues: readonly string[], before: number): Statement {
  return {
    name: 'suspects',
    sql: `SELECT value AS queue FROM json_each(?1) WHERE NOT ${isPaused('value', '?2')}
  AND EXISTS (SELECT 1 FROM jobs WHERE queue = value AND ${SUSPECT})`,
    params: [JSON.stringify(queues), before],
  };
}

/** Jobs of a queue that were due and sent before `before` and that nobody has claimed. Longest due first. */
export function selectSuspects(queue: string, before: number, limit: number): Statement {
  return {
    name: 'suspects',
    sql: `SELECT id, sent_at, resends, parked_for FROM jobs
WHERE queue = ?1 AND ${SUSPECT}
ORDER BY due_at LIMIT ?3`,
    params: [queue, before, limit],
  };
}

const suspectRow = z
  .object({ id: z.string(), sent_at: z.number(), resends: z.int(), parked_for: z.string().nullable() })
  .readonly();
export type Suspect = z.infer<typeof suspectRow>;

export function readSuspect(row: Row): Suspect {
  return suspectRow.parse(row);
}

/** Marks suspects as sent again now and returns their envelopes; leaves out those that have moved on since. */
export function takeSuspects(suspects: readonly Suspect[], now: number): Statement {
  return {
    name: 'resend',
    sql: `UPDATE jobs SET sent_at = ?2, resends = resends + 1, parked_for = NULL
FROM (SELECT value ->> 'id' AS id, value ->> 'sent_at' AS sent_at FROM json_each(?1)) AS suspect
WHERE jobs.id = suspect.id AND jobs.sent_at = suspect.sent_at AND finished_at IS NULL AND ${guard('claim')}
RETURNING ${ENVELOPE_COLUMNS}`,
    params: [JSON.stringify(suspects), now],
  };
}

/** Running jobs whose lease has run out. Reads the due rows of these queues, never a finished one. */
export function selectLapsed(queues: readonly string[], now: number, limit: number): Statement {
  return {
    name: 'lapsed',
    sql: `SELECT id, task, claim FROM jobs
WHERE queue IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND due_at <= ?2 AND ${guard('lose')}
  AND lease_until < ?2
LIMIT ?3`,
    params: [JSON.stringify(queues), now, limit],
  };
}

const lapsedRow = z.object({ id: z.string(), task: z.string(), claim: z.int() }).readonly();
export type Lapsed = z.infer<typeof lapsedRow>;

export function readLapsed(row: Row): Lapsed {
  return lapsedRow.parse(row);
}

/** The envelopes of jobs that are still open. */
export function selectOpen(ids: readonly string[]): Statement {
  return {
    name: 'open',
    sql: `SELECT ${ENVELOPE_COLUMNS} FROM jobs
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL`,
    params: [JSON.stringify(ids)],
  };
}

/** Jobs past `expires` that were never started. */
export function selectExpired(now: number, limit: number): Statement {
  return {
    name: 'expired',
    sql: `SELECT id FROM jobs
WHERE finished_at IS NULL AND expires_at IS NOT NULL AND expires_at <= ?1 AND ${guard('expire')} AND started_at IS NULL
ORDER BY expires_at LIMIT ?2`,
    params: [now, limit],
  };
}

export function readMark(name: string): Statement {
  return { name: 'mark', sql: `SELECT value FROM marks WHERE name = ?1`, params: [name] };
}

export function writeMark(name: string, value: string): Statement {
  return {
    name: 'mark',
    sql: `INSERT INTO marks (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2`,
    params: [name, value],
  };
}

/** After a restart that emptied the queues: every open job is owed a message, but for what a pause has parked. */
export function oweEverything(queues: readonly string[]): Statement {
  return {
    name: 'owe',
    sql: `UPDATE jobs SET sent_at = NULL, parked_for = NULL WHERE queue IN (SELECT value FROM json_each(?1))
  AND finished_at IS NULL AND sent_at IS NOT NULL AND parked_for IS NOT '${PAUSE}'`,
    params: [JSON.stringify(queues)],
  };
}

/** The last id of the next `limit` rows after `cursor`, in the order of the table; NULL past its end. */
export function selectRetentionWindow(cursor: string, limit: number): Statement {
  return {
    name: 'retention',
    sql: `SELECT max(id) AS last, count(*) AS seen FROM (SELECT id FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2)`,
    params: [cursor, limit],
  };
}

/** How long finished jobs are kept, in ms after their end. */
export interface Keep {
  readonly successMs: number;
  readonly otherMs: number;
}

/** Deletes what retention no longer keeps among the rows after `cursor` up to `last`. */
export function deleteOld(cursor: string, last: string, now: number, keep: Keep): Statement {
  return {
    name: 'retention',
    sql: `DELETE FROM jobs WHERE id > ?1 AND id <= ?2 AND finished_at IS NOT NULL AND created_at < ?3
  AND finished_at < iif(state = ${target('succeed')}, ?4, ?5)`,
    params: [cursor, last, now - ENVELOPE_LIFE_MS, now - keep.successMs, now - keep.otherMs],
  };
}

/** Finished jobs of sensitive tasks whose payload has to leave now. */
export function selectClearing(now: number, limit: number): Statement {
  return {
    name: 'clearing',
    sql: `SELECT id, input_key, result_key FROM jobs
WHERE clears_at IS NOT NULL AND clears_at <= ?1 ORDER BY clears_at LIMIT ?2`,
    params: [now, limit],
  };
}

const clearingRow = z
  .object({ id: z.string(), input_key: z.string().nullable(), result_key: z.string().nullable() })
  .readonly();
export type Clearing = z.infer<typeof clearingRow>;

export function readClearing(row: Row): Clearing {
  return clearingRow.parse(row);
}

/** Takes the payloads out of the rows of finished jobs. */
export function clearPayloads(ids: readonly string[], now: number): Statement {
  return {
    name: 'clear',
    sql: `UPDATE jobs SET input = 'null', input_key = NULL, input_bytes = NULL, v = 1, result = NULL, result_key = NULL,
  progress_note = NULL, clears_at = NULL, cleared_at = ?2
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NOT NULL`,
    params: [JSON.stringify(ids), now],
  };
}

/** Which of these jobs still have a use for what is kept aside for them. */
export function selectReferring(ids: readonly string[]): Statement {
  return {
    name: 'referring',
    sql: `SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?1)) AND cleared_at IS NULL`,
    params: [JSON.stringify(ids)],
  };
}

/** Which of these dead letters are there. */
export function selectLetters(ids: readonly string[]): Statement {
  return {
    name: 'referring',
    sql: `SELECT id FROM dead_letters WHERE id IN (SELECT value FROM json_each(?1))`,
    params: [JSON.stringify(ids)],
  };
}
