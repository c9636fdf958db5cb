// Jobs of sensitive tasks: when their result expires, their payload leaves every store; the rest of the row stays.

import { CLEAR_PAGES, SWEEP_PAGE } from '../core/limits.ts';
import { query, transact } from '../jobs/database.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { deadLetterId } from '../jobs/verdict.ts';
import { clearPayloads, readClearing, selectClearing, selectLetters } from '../store/sweeps.ts';

export async function clearSensitive(rt: Runtime): Promise<void> {
  for (let page = 0; page < CLEAR_PAGES; page += 1) {
    const now = rt.clock.now();
    const jobs = (await query(rt, selectClearing(now, SWEEP_PAGE))).map(readClearing);
    if (jobs.length === 0) return;
    const letters = new Set(
      (await query(rt, selectLetters(jobs.map(({ id }) => deadLetterId(id))))).map(({ id }) => id),
    );
    // A dead letter keeps its input until somebody resolves it; then it is an orphan like any other.
    const inputs = jobs.flatMap(({ id, input_key: key }) =>
      key === null || letters.has(deadLetterId(id)) ? [] : [key],
    );
    if (inputs.length > 0) await rt.inputs.remove(inputs);
    // The row comes last: as long as it names them, the next tick tries again.
    const results = jobs.flatMap(({ result_key: key }) => (key === null ? [] : [key]));
    await Promise.all(results.map((key) => rt.results.remove(key)));
    const ids = jobs.map(({ id }) => id);
    await transact(rt, [clearPayloads(ids, now)]);
    if (jobs.length < SWEEP_PAGE) return;
  }
}
