// Statements of runs of one schedule that wait for each other. Whose turn it is follows from their rows alone.

import { z } from 'zod';
import type { ScheduledRun } from '../core/envelope.ts';
import type { Statement } from '../core/ports.ts';
import { guard } from '../core/states.ts';
import { isPaused } from './queue-controls.ts';
import { cancelled } from './revoke.ts';
import { ENVELOPE_COLUMNS, json } from './rows.ts';

/** What `parked_for` says of a run that waits for the one before it. The trigger that wakes it knows this name. */
export const OVERLAP = 'overlap';

const MAKES_GOOD = 2;

/** The column `turn`: 0 waits for nobody, 1 as its policy says, 2 comes after all others. */
export function turnOf(run: ScheduledRun | undefined): 0 | 1 | 2 {
  if (run === undefined || run.overlap === 'allow') return 0;
  return run.overlap === 'wait' ? MAKES_GOOD : 1;
}

// Runs that have begun and not ended go before all that have not; then those that are due, by turn and time. So of two
// that are not to overlap one always goes before the other. One that has expired will not begin: nobody waits for it.
const GOES_BEFORE = (now: string): string => `other.schedule = jobs.schedule AND other.finished_at IS NULL
  AND other.id <> jobs.id AND (other.claim > 0 OR (other.due_at <= ${now} AND other.turn > 0
  AND (other.expires_at IS NULL OR other.expires_at > ${now})
  AND (other.turn < jobs.turn OR (other.turn = jobs.turn AND other.id < jobs.id))))`;

const TAKES_TURNS = `jobs.turn > 0 AND jobs.claim = 0`;

/** SQL: a row of `jobs` has to wait for another run of its schedule, at the instant bound as `now`. Reads nothing for others. */
export function isBehind(now: string): string {
  return `(${TAKES_TURNS} AND EXISTS (SELECT 1 FROM jobs AS other WHERE ${GOES_BEFORE(now)}))`;
}

/** SQL: the column of {@link ahead}. */
export function aheadColumn(now: string): string {
  return `iif(${TAKES_TURNS}, (SELECT json_object('running', count(*) FILTER (WHERE other.claim > 0),
    'making_good', count(*) FILTER (WHERE other.claim > 0 AND other.turn = ${String(MAKES_GOOD)}),
    'waiting', count(*) FILTER (WHERE other.claim = 0))
  FROM jobs AS other WHERE ${GOES_BEFORE(now)}), NULL) AS ahead`;
}

/** The runs before one that has not begun: those that run, those among them that make good, those that wait as well. */
export const ahead = json
  .pipe(z.object({ running: z.int(), making_good: z.int(), waiting: z.int() }).readonly())
  .nullable();
export type Ahead = NonNullable<z.infer<typeof ahead>>;

const SKIPPED = 'Skipped: the run before it had not ended.';
const OVERTAKEN = 'Cancelled: the next run of its schedule was due.';

/** Marks runs of these schedules that are due and owed a message as sent now, and returns their envelopes. */
export function takeNextRuns(schedules: readonly string[], now: number): Statement {
  return {
    name: 'next_runs',
    sql: `UPDATE jobs SET sent_at = ?2 WHERE schedule IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL
  AND sent_at IS NULL AND parked_for IS NULL AND turn > 0 AND due_at <= ?2
RETURNING ${ENVELOPE_COLUMNS}`,
    params: [JSON.stringify(schedules), now],
  };
}

/** Ends runs that are not to wait; returns their ids: not of one that has begun, nor of one whose way is free by now. */
export function skipRuns(ids: readonly string[], now: number): Statement {
  return {
    name: 'skip',
    sql: `UPDATE jobs SET ${cancelled('?2', 'overlap', SKIPPED)}
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND ${guard('revoke')} AND ${TAKES_TURNS}
  AND EXISTS (SELECT 1 FROM jobs AS other WHERE ${GOES_BEFORE('?2')} AND other.turn < ${String(MAKES_GOOD)})
RETURNING id`,
    params: [JSON.stringify(ids), now],
  };
}

/**
 * Runs of schedules that cancel what is before them, due and not begun, as there is something before them. In a queue that is
 * paused they could not take its place.
 */
export function selectOvertaking(now: number, limit: number): Statement {
  return {
    name: 'overtaking',
    sql: `SELECT jobs.id FROM schedules CROSS JOIN jobs ON jobs.schedule = schedules.name
WHERE schedules.overlap = 'cancel_previous' AND jobs.finished_at IS NULL AND jobs.due_at <= ?1 AND jobs.turn = 1
  AND NOT ${isPaused('jobs.queue', '?1')} AND ${isBehind('?1')}
LIMIT ?2`,
    params: [now, limit],
  };
}

/** Cancels the runs before these: what waits has ended, what runs is asked to stop. What makes good is let be. */
export function cancelBefore(ids: readonly string[], now: number): readonly Statement[] {
  const before = `id IN (SELECT other.id FROM jobs JOIN jobs AS other ON ${GOES_BEFORE('?2')}
  WHERE jobs.id IN (SELECT value FROM json_each(?1)) AND jobs.finished_at IS NULL AND ${TAKES_TURNS} AND other.turn < ${String(MAKES_GOOD)})`;
  const params = [JSON.stringify(ids), now];
  return [
    {
      name: 'overtake',
      sql: `UPDATE jobs SET revoke_requested = 2 WHERE ${guard('stop')} AND ${before}`,
      params,
    },
    {
      name: 'overtake',
      sql: `UPDATE jobs SET ${cancelled('?2', 'overtaken', OVERTAKEN)} WHERE finished_at IS NULL AND ${guard('revoke')} AND ${before}`,
      params,
    },
  ];
}
