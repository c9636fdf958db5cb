// Objects that nothing refers to any more: their job is gone and its letter resolved, or there never was a row; the raw
// body of a delivery stays as long as the delivery itself. A cursor walks the bucket, one page a tick.

import { z } from 'zod';
import { ORPHAN_AFTER_MS, ORPHANS_EVERY_MS } from '../core/limits.ts';
import { KEEP_DELIVERIES_MS } from '../core/limits-outside.ts';
import type { Kept } from '../core/ports.ts';
import { query, transact } from '../jobs/database.ts';
import { logInfo } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deadLetterId } from '../jobs/verdict.ts';
import { isRaw, jobOfKey } from '../store/payloads.ts';
import { readMark, selectLetters, selectReferring, writeMark } from '../store/sweeps.ts';

const CURSOR = 'orphans.cursor';

/** The key the walk has come to; null between two walks, the next of which begins at `nextAt`. */
const mark = z.object({ cursor: z.string().nullable(), nextAt: z.number() });

export async function removeOrphans(rt: Runtime): Promise<void> {
  const now = rt.clock.now();
  const { cursor, nextAt } = await readCursor(rt);
  if (cursor === null && now < nextAt) return;
  const { kept, next } = await rt.inputs.list(cursor ?? undefined);
  const orphans = await orphansAmong(
    rt,
    kept.filter(({ key, keptAt }) => keptAt <= now - (isRaw(key) ? KEEP_DELIVERIES_MS : ORPHAN_AFTER_MS)),
  );
  if (orphans.length > 0) {
    await rt.inputs.remove(orphans);
    logInfo('objects.removed', { objects: orphans.length });
  }
  const text = JSON.stringify({ cursor: next ?? null, nextAt: now + ORPHANS_EVERY_MS });
  await transact(rt, [writeMark(CURSOR, text)]);
}

async function readCursor(rt: Runtime): Promise<z.infer<typeof mark>> {
  const [row] = await query(rt, readMark(CURSOR));
  const value = row?.['value'];
  return typeof value === 'string' ? mark.parse(JSON.parse(value)) : { cursor: null, nextAt: 0 };
}

async function orphansAmong(rt: Runtime, old: readonly Kept[]): Promise<readonly string[]> {
  const ours = old.flatMap(({ key }) => {
    const id = jobOfKey(key);
    return id === undefined ? [] : [{ key, id }];
  });
  if (ours.length === 0) return [];
  const ids = ours.map(({ id }) => id);
  const [jobs, letters] = await transact(rt, [selectReferring(ids), selectLetters(ids.map(deadLetterId))]);
  const referring = new Set((jobs?.rows ?? []).map(({ id }) => id));
  const kept = new Set((letters?.rows ?? []).map(({ id }) => id));
  return ours.filter(({ id }) => !referring.has(id) && !kept.has(deadLetterId(id))).map(({ key }) => key);
}
