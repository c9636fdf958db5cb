// A schedule and its firings as people see them.

import { formatInstant, instantOrNull } from '../core/instant.ts';
import { NEXT_RUNS } from '../core/limits-schedules.ts';
import { shownState, STATUS } from '../core/states.ts';
import type { ScheduleSeen } from '../cron/list.ts';
import { bodyOf, nextRuns } from '../jobs/schedule.ts';
import type { FiringSeen } from '../store/firings.ts';

/** Its input, and where its results go, are there where they may be shown. `next_runs` are due times: jitter comes on top. */
export function scheduleJson(seen: ScheduleSeen, now: number, shown: boolean): Record<string, unknown> {
  const { name, origin, schedule, said, unavailable, latest } = seen;
  const { input, options, ...rest } = schedule === undefined ? said : bodyOf(schedule);
  const runs = schedule === undefined || unavailable !== undefined ? [] : nextRuns(schedule, now, NEXT_RUNS);
  const paused = schedule !== undefined && schedule.paused_at !== null;
  return {
    name,
    origin,
    ...rest,
    ...(shown ? { input, options } : { options: withoutCallback(options) }),
    paused,
    paused_at: instantOrNull(schedule?.paused_at),
    state: unavailable !== undefined ? 'unavailable' : paused ? 'paused' : runs.length === 0 ? 'ended' : 'active',
    reason: unavailable ?? null,
    next_runs: runs.map(formatInstant),
    last_run: latest === undefined ? null : firingJson(latest, now),
    created_at: instantOrNull(schedule?.created_at),
    updated_at: instantOrNull(schedule?.updated_at),
  };
}

const ENDED_BY_OVERLAP = ['overlap', 'overtaken'];

/** `skipped`: its job was made and ended by the overlap policy before it began. */
export function firingJson(firing: FiringSeen, now: number): Record<string, unknown> {
  const { due_at: dueAt, cause, outcome, job_id: jobId, reason, decided_at: decidedAt, error } = firing;
  const state = firing.state === null ? null : shownState(firing.state, firing.job_due_at ?? 0, now);
  const skipped = outcome === 'fired' && firing.claim === 0 && ENDED_BY_OVERLAP.includes(error?.code ?? '');
  return {
    due_at: formatInstant(dueAt),
    cause,
    outcome: skipped ? 'skipped' : outcome,
    reason: skipped ? (error?.message ?? null) : reason,
    job_id: jobId,
    state,
    status: state === null ? null : STATUS[state],
    decided_at: formatInstant(decidedAt),
  };
}

// Such a URL is often a secret by itself.
function withoutCallback(options: unknown): unknown {
  const { callback_url: _, ...others } = options as Readonly<Record<string, unknown>>;
  return others;
}
