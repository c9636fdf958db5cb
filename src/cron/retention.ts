// Finished jobs leave after 7 days (success) or 30 (any other end). A cursor walks the table, so that rows which must
// stay never hide those that may go.

import { RETENTION_PAGE } from '../core/limits.ts';
import { query, transact } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deleteOld, readMark, selectRetentionWindow, writeMark } from '../store/sweeps.ts';

const CURSOR = 'retention.cursor';

/** Looks at the next 2,000 rows and deletes what is old among them; starts again at the table's end. */
export async function retire(rt: Runtime): Promise<void> {
  const [mark] = await query(rt, readMark(CURSOR));
  const cursor = typeof mark?.['value'] === 'string' ? mark['value'] : '';
  const [seen] = await query(rt, selectRetentionWindow(cursor, RETENTION_PAGE));
  const last = seen?.['last'];
  if (typeof last !== 'string') {
    if (cursor !== '') await transact(rt, [writeMark(CURSOR, '')]);
    return;
  }
  await transact(rt, [deleteOld(cursor, last, rt.clock.now()), writeMark(CURSOR, last)]);
}
