// Finished jobs leave after 7 days (success) or 30 (any other end), sooner where the database fills up. A cursor walks
// the table, so that rows which must stay never hide those that may go.

import {
  KEEP_FAILURE_FILLING_MS,
  KEEP_FAILURE_MS,
  KEEP_SUCCESS_FILLING_MS,
  KEEP_SUCCESS_MS,
  RETENTION_PAGE,
  RETENTION_PAGES_FILLING,
} from '../core/limits.ts';
import { query, transact } from '../jobs/database.ts';
import { logError } from '../jobs/log.ts';
import { isFilling, roomOf } from '../jobs/room.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deleteOld, readMark, selectRetentionWindow, writeMark, type Keep } from '../store/sweeps.ts';

const CURSOR = 'retention.cursor';

const NORMAL: Keep = { successMs: KEEP_SUCCESS_MS, otherMs: KEEP_FAILURE_MS };
const FILLING: Keep = { successMs: KEEP_SUCCESS_FILLING_MS, otherMs: KEEP_FAILURE_FILLING_MS };

/** Looks at the next 2,000 rows and deletes what is old among them; ten times as many where the database fills up. */
export async function retire(rt: Runtime): Promise<void> {
  const filling = isFilling(rt);
  if (filling) logError('database.filling', new Error('Finished jobs leave sooner to make room.'), { ...roomOf(rt) });
  for (let page = 0; page < (filling ? RETENTION_PAGES_FILLING : 1); page += 1) {
    if (!(await retirePage(rt, filling ? FILLING : NORMAL))) return;
  }
}

/** Whether there are rows after those it looked at; at the table's end it starts again. */
async function retirePage(rt: Runtime, keep: Keep): Promise<boolean> {
  const [mark] = await query(rt, readMark(CURSOR));
  const cursor = typeof mark?.['value'] === 'string' ? mark['value'] : '';
  const [seen] = await query(rt, selectRetentionWindow(cursor, RETENTION_PAGE));
  const last = seen?.['last'];
  if (typeof last !== 'string') {
    if (cursor !== '') await transact(rt, [writeMark(CURSOR, '')]);
    return false;
  }
  await transact(rt, [deleteOld(cursor, last, rt.clock.now(), keep), writeMark(CURSOR, last)]);
  return true;
}
