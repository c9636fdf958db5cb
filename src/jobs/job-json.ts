// A job as people see it.

import { PAUSE } from '../store/queue-controls.ts';
import type { AttemptRecord, JobRow, Standing } from '../store/rows.ts';
import { pauseReason } from './park.ts';
import { isCleared, resultExpiresAt, type Payload } from './payloads.ts';
import { formatInstant, instantOrNull } from '../core/instant.ts';
import { isFinal, shownState, STATUS, type State } from '../core/states.ts';

export const JOBS_PATH = '/api/v1/jobs';

export function statusUrl(id: string): string {
  return `${JOBS_PATH}/${id}`;
}

/** What every answer about a job begins with. */
export function jobHead(job: { id: string; task: string; queue: string; state: State }): Record<string, string> {
  const { id, task, queue, state } = job;
  return { id, task_id: id, task, queue, state, status: STATUS[state], status_url: statusUrl(id) };
}

/**
 * The whole job. Its input, result and progress note are there as far as `payload` has them and `shown` allows it.
 * `reason`: why it waits, where somebody was asked who knows better than its row.
 */
export function jobJson(
  job: JobRow,
  now: number,
  { resultExpired, ...payload }: Payload,
  shown: boolean,
  reason: string | null = null,
): Record<string, unknown> {
  const state = shownState(job.state, job.due_at, now);
  return {
    ...jobHead({ ...job, state }),
    ready: isFinal(state),
    successful: state === 'SUCCESS',
    progress: job.progress,
    progress_note: isCleared(job, now) || !shown ? null : job.progress_note,
    ...(shown ? payload : {}),
    result_expired: resultExpired,
    result_expires_at: instantOrNull(resultExpiresAt(job)),
    error: job.error,
    attempt: job.attempt,
    max_retries: job.options.maxRetries,
    priority: job.priority,
    created_at: formatInstant(job.created_at),
    due_at: formatInstant(job.due_at),
    started_at: instantOrNull(job.started_at),
    finished_at: instantOrNull(job.finished_at),
    next_attempt_at: state === 'RETRY' ? formatInstant(job.due_at) : null,
    waiting_for: reason ?? waitingFor(job, state, now),
    source: job.source,
    schedule: scheduleOf(job),
    tags: job.tags,
    parent_id: job.parent_id,
    flow_id: null,
    retry_of: job.retry_of,
    attempts: attemptsOf(job, state),
  };
}

/** Where a job stands, for whoever watches it. */
export function standingJson(job: Standing, now: number): Record<string, unknown> {
  const state = shownState(job.state, job.due_at, now);
  return {
    state,
    status: STATUS[state],
    ready: isFinal(state),
    successful: state === 'SUCCESS',
    attempt: job.attempt,
    error: job.error,
    next_attempt_at: state === 'RETRY' ? formatInstant(job.due_at) : null,
    waiting_for: waitingFor(job, state, now),
  };
}

function waitingFor(job: Standing, state: State, now: number): string | null {
  if (isFinal(state) || state === 'STARTED') return null;
  if (job.due_at <= now && job.paused === 1) return pauseReason(job.queue, job.paused_until);
  // Its queue goes on, and what the row says is what it was parked with.
  if (job.parked_for === PAUSE) return NEXT_TICK;
  if (job.waiting_for !== null) return job.waiting_for;
  if (job.due_at > now) {
    return `${state === 'RETRY' ? 'its next attempt is due' : 'due'} at ${formatInstant(job.due_at)}`;
  }
  if (job.sent_at === null) return NEXT_TICK;
  return `a consumer of the queue ${job.queue}`;
}

const NEXT_TICK = 'the next tick, which sends its message';

const LAST_OUTCOME = { SUCCESS: 'success', FAILURE: 'failure', REVOKED: 'revoked' } as const;

// The column keeps the attempts that were not the last; the last one is what the row itself says.
function attemptsOf(job: JobRow, state: State): readonly Record<string, unknown>[] {
  const shown = job.attempts.map((each) => ({
    ...each,
    outcome: isCutShort(job, each) ? LAST_OUTCOME.REVOKED : each.outcome,
    started_at: instantOrNull(each.started_at),
    finished_at: instantOrNull(each.finished_at),
  }));
  const last = lastOutcome(state);
  if (job.attempt === 0 || job.started_at === null || last === undefined) return shown;
  const { attempt, started_at, finished_at, error } = job;
  // One that was to be retried, or vanished, and then ended otherwise: it is in the column already.
  if (job.attempts.some((each) => each.attempt === attempt && each.started_at === started_at)) return shown;
  return [
    ...shown,
    { attempt, started_at: instantOrNull(started_at), finished_at: instantOrNull(finished_at), outcome: last, error },
  ];
}

/** Whether it was to be retried, and its job, which was revoked while it ran, ended with it instead. */
function isCutShort({ state, revoke_requested: asked, finished_at: ended }: JobRow, attempt: AttemptRecord): boolean {
  return state === 'REVOKED' && asked > 0 && attempt.outcome === 'retry' && attempt.finished_at === ended;
}

function lastOutcome(state: State): AttemptRecord['outcome'] | 'running' | undefined {
  switch (state) {
    case 'SUCCESS':
    case 'FAILURE':
    case 'REVOKED':
      return LAST_OUTCOME[state];
    case 'STARTED':
      return 'running';
    case 'PENDING':
    case 'SCHEDULED':
    case 'RETRY':
      return undefined;
  }
}

function scheduleOf({ options: { schedule } }: JobRow): Record<string, string> | null {
  if (schedule === undefined) return null;
  return { name: schedule.name, due_at: formatInstant(schedule.dueAt), cause: schedule.cause };
}
