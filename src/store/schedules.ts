// Statements of schedules: what they are, and how far each has come.

import { z } from 'zod';
import type { Json } from '../core/json.ts';
import type { Row, Statement } from '../core/ports.ts';
import { json } from './rows.ts';

const ROW_VERSION = 1;

/** What becomes of a run that is due while the one before it has not ended. */
export const OVERLAP_POLICIES = ['skip', 'queue_one', 'allow', 'cancel_previous'] as const;
/** What becomes of due times that nobody was there for: none, the latest, or the latest `most` of them. */
export const CATCH_UPS = ['none', 'last', 'all'] as const;

const anyJson = json.transform((value) => value as Json);

const scheduleRow = z
  .object({
    v: z.literal(ROW_VERSION),
    name: z.string(),
    origin: z.enum(['code', 'api']),
    task: z.string(),
    input: anyJson,
    options: anyJson,
    cron: z.string().nullable(),
    every_ms: z.int().nullable(),
    timezone: z.string(),
    overlap: z.enum(OVERLAP_POLICIES),
    catch_up: z.enum(CATCH_UPS),
    catch_up_most: z.int(),
    jitter_ms: z.int(),
    starts_at: z.number().nullable(),
    ends_at: z.number().nullable(),
    paused_at: z.number().nullable(),
    revision: z.int(),
    decided_until: z.number(),
    next_at: z.number().nullable(),
    failing: z.int(),
    created_at: z.number(),
    updated_at: z.number(),
  })
  .readonly();
export type Schedule = z.infer<typeof scheduleRow>;

export function readSchedule(row: Row): Schedule {
  return scheduleRow.parse(row);
}

const DEFINITION = [
  'task',
  'input',
  'options',
  'cron',
  'every_ms',
  'timezone',
  'overlap',
  'catch_up',
  'catch_up_most',
  'jitter_ms',
  'starts_at',
  'ends_at',
] as const satisfies readonly (keyof Schedule)[];

/** What a schedule says, without how far it has come. */
export type Definition = Pick<Schedule, (typeof DEFINITION)[number]>;

/** Where a schedule starts from. */
export interface Start {
  readonly now: number;
  /** No number it ever had before, nor one that had its name before it. */
  readonly revision: number;
  /** Every due time up to here counts as decided. */
  readonly since: number;
  /** The first due time after that; null: never, or not yet. */
  readonly nextAt: number | null;
  readonly pausedAt: number | null;
}

const COLUMNS = `name, v, origin, ${DEFINITION.join(', ')}`;
const STATE = 'paused_at, revision, decided_until, next_at, created_at, updated_at';

/** Makes a schedule; no row is returned where there is one of this name. */
export function insertSchedule(
  name: string,
  origin: Schedule['origin'],
  definition: Definition,
  { now, revision, since, nextAt, pausedAt }: Start,
): Statement {
  const values = [name, ROW_VERSION, origin, ...valuesOf(definition), pausedAt, revision, since, nextAt, now, now];
  return {
    name: 'schedule',
    sql: `INSERT INTO schedules (${COLUMNS}, ${STATE}) VALUES (${values.map(() => '?').join(', ')})
ON CONFLICT (name) DO NOTHING RETURNING name`,
    params: values,
  };
}

/**
 * Changes a schedule of `revision`; no row is returned where it has another by now. Whatever is due after `since` is decided
 * by the new definition.
 */
export function updateSchedule(name: string, revision: number, definition: Definition, start: Start): Statement {
  const { now, since, nextAt, pausedAt } = start;
  const set = DEFINITION.map((column, at) => `${column} = ?${String(at + 8)}`).join(', ');
  return {
    name: 'schedule',
    sql: `UPDATE schedules SET ${set}, paused_at = ?3, revision = ?6, decided_until = ?7, next_at = ?5,
  failing = 0, updated_at = ?4
WHERE name = ?1 AND revision = ?2 RETURNING name`,
    params: [name, revision, pausedAt, now, nextAt, start.revision, since, ...valuesOf(definition)],
  };
}

function valuesOf(definition: Definition): readonly (string | number | null)[] {
  return DEFINITION.map((column) =>
    column === 'input' || column === 'options' ? JSON.stringify(definition[column]) : definition[column],
  );
}

/** No row is returned where it has another revision by now. */
export function deleteSchedule(name: string, revision: number): Statement {
  return {
    name: 'schedule',
    sql: `DELETE FROM schedules WHERE name = ?1 AND revision = ?2 RETURNING name`,
    params: [name, revision],
  };
}

export function selectSchedule(name: string): Statement {
  return { name: 'schedules', sql: `SELECT * FROM schedules WHERE name = ?1`, params: [name] };
}

/** By name, those after `after`. */
export function selectSchedules(after: string, limit: number): Statement {
  return {
    name: 'schedules',
    sql: `SELECT * FROM schedules WHERE name > ?1 ORDER BY name LIMIT ?2`,
    params: [after, limit],
  };
}

/** Those that the code has made, and whatever has one of these names. */
export function selectCodeSchedules(names: readonly string[]): Statement {
  return {
    name: 'schedules',
    sql: `SELECT * FROM schedules WHERE origin = 'code' OR name IN (SELECT value FROM json_each(?1))`,
    params: [JSON.stringify(names)],
  };
}

/** Schedules that are due by `horizon`, longest due first, but for those named. */
export function selectDue(horizon: number, limit: number, except: readonly string[]): Statement {
  return {
    name: 'due',
    sql: `SELECT * FROM schedules WHERE next_at IS NOT NULL AND next_at <= ?1
  AND name NOT IN (SELECT value FROM json_each(?3)) ORDER BY next_at LIMIT ?2`,
    params: [horizon, limit, JSON.stringify(except)],
  };
}

/** How far a schedule has come, as a tick decided from what it read. */
export interface Advance {
  readonly name: string;
  /** What was read. Whoever comes later with the same changes nothing. */
  readonly revision: number;
  readonly from: number;
  readonly until: number;
  readonly nextAt: number | null;
  readonly failing: 0 | 1;
}

export function advanceSchedules(advances: readonly Advance[]): Statement {
  return {
    name: 'advance',
    sql: `UPDATE schedules SET decided_until = step.until, next_at = step.next_at, failing = step.failing
FROM (SELECT value ->> 'name' AS name, value ->> 'revision' AS revision, value ->> 'from' AS decided_until,
             value ->> 'until' AS until, value ->> 'nextAt' AS next_at, value ->> 'failing' AS failing
      FROM json_each(?1)) AS step
WHERE schedules.name = step.name AND schedules.revision = step.revision
  AND schedules.decided_until = step.decided_until`,
    params: [JSON.stringify(advances)],
  };
}
