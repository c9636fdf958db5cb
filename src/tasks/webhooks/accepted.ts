// Which deliveries have become jobs: by our own records, whatever their sender says of them.

import { ENVELOPE_LIFE_MS, MAX_GROUP_ITEMS } from '../../core/limits.ts';
import type { Job } from '../../jobs/task.ts';
import { readStates, selectStates } from '../../store/accept.ts';

/**
 * The job of every token that was accepted. A token that is claimed is not yet a job: whoever claimed it may have died
 * before there was one. One claimed so long ago that its row may have been there and left counts as accepted.
 */
export async function acceptedJobs(
  job: Pick<Job, 'claimed' | 'clock' | 'db'>,
  scope: string,
  tokens: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const accepted = new Map<string, string>();
  const rowsSince = job.clock.now() - ENVELOPE_LIFE_MS;
  for (const some of portionsOf(tokens, MAX_GROUP_ITEMS)) {
    const claimed = await job.claimed(scope, some);
    const { rows } = await job.db.run(selectStates(claimed.map(({ jobId }) => jobId)));
    const made = readStates(rows);
    for (const { token, jobId, claimedAt } of claimed) {
      if (made.has(jobId) || claimedAt < rowsSince) accepted.set(token, jobId);
    }
  }
  return accepted;
}

/** Arrays of at most `size`, in order: what one statement is given. */
export function portionsOf<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, at) => all.slice(at * size, (at + 1) * size));
}
