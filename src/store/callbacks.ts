// Statements of callbacks. Their rows are made by a trigger, with the final state of the job they tell of.

import type { Statement } from '../core/ports.ts';
import { ENVELOPE_COLUMNS } from './rows.ts';

/** Marks those of these jobs that are still owed their message as sent now, and returns their envelopes. */
export function takeCallbacks(ids: readonly string[], now: number): Statement {
  return {
    name: 'callbacks',
    sql: `UPDATE jobs SET sent_at = ?2
WHERE id IN (SELECT value FROM json_each(?1)) AND finished_at IS NULL AND sent_at IS NULL
RETURNING ${ENVELOPE_COLUMNS}`,
    params: [JSON.stringify(ids), now],
  };
}
