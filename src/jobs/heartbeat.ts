// Keeps the leases of one invocation: one statement for all of its running jobs, which also learns of revocations.

import { HEARTBEAT_MS } from '../core/limits.ts';
import { heartbeat, readBeat } from '../store/claims.ts';
import type { Attempt } from './attempt.ts';
import { query } from './database.ts';
import { logError, logInfo } from './log.ts';
import { LeaseLost, Terminated } from './outcome.ts';
import { renewLocks } from './passes.ts';
import type { Runtime } from './runtime.ts';

/** Beats every 20 s until the signal fires. `running` is read anew each time. Never rejects. */
export async function keepLeases(rt: Runtime, running: ReadonlySet<Attempt>, over: AbortSignal): Promise<void> {
  for (;;) {
    await rt.clock.sleep(HEARTBEAT_MS, over);
    if (over.aborted) return;
    if (running.size > 0) await Promise.all([beat(rt, [...running]), beatLocks(rt, [...running])]);
  }
}

async function beatLocks(rt: Runtime, attempts: readonly Attempt[]): Promise<void> {
  const passes = new Map(attempts.flatMap(({ won, pass }) => (pass === undefined ? [] : [[won.id, pass] as const])));
  const lost = await renewLocks(rt, passes);
  for (const attempt of attempts) {
    if (lost.has(attempt.won.id)) attempt.abort(new LeaseLost('Its lock was given to another job.'));
  }
}

/**
 * Renews the leases of these attempts now; whoever has lost his is told by his signal. Returns whether the database
 * answered. Never rejects.
 */
export async function beat(rt: Runtime, attempts: readonly Attempt[]): Promise<boolean> {
  try {
    const beats = attempts.map(({ won, startedAt, live }) => ({
      id: won.id,
      claim: won.claim,
      startedAt,
      progress: live.percent,
      progressNote: live.note,
    }));
    const rows = await query(rt, heartbeat(beats, rt.clock.now()));
    const held = new Map(rows.map(readBeat).map(({ id, revoke_requested }) => [id, revoke_requested]));
    for (const attempt of attempts) tell(attempt, held.get(attempt.won.id));
    return true;
  } catch (error) {
    // Four more beats fit into the lease.
    logError('heartbeat.failed', error, { jobs: attempts.length });
    return false;
  }
}

function tell(attempt: Attempt, revokeRequested: number | undefined): void {
  // A job that has ended meanwhile hits no row either; its signal reaches nobody any more.
  if (revokeRequested === undefined) {
    logInfo('lease.lost', { job: attempt.won.id, claim: attempt.won.claim });
    attempt.abort(new LeaseLost('Another attempt has taken this job.'));
  } else if (revokeRequested === 2) attempt.abort(new Terminated('The job was revoked with terminate.'));
}
