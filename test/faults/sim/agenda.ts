// The books of schedules: which due times have to fire, which may not, and which runs may be under way together. Judged
// by what was committed, and reckoned from what a schedule says, not as the code reckons it.

import { z } from 'zod';
import { SKEW_MS } from './leases.ts';
import type { Change, FiringSeen, JobSeen, ScheduleSeen } from './sqlite.ts';
import type { Violate } from './violation.ts';

/** How far ahead a tick decides. */
const HORIZON_MS = 75_000;
const ON_TIME_MS = 60_000;
/** How long a change may take from what it read to what it writes. */
const CHANGE_MS = 180_000;
const MAKES_GOOD = 2;

const runOf = z.object({
  resultTtlSeconds: z.int(),
  schedule: z.object({ name: z.string(), dueAt: z.number(), cause: z.enum(['due', 'catch_up', 'backfill', 'run']) }),
});
const errorOf = z.object({ code: z.string(), message: z.string() });
const editionOf = z.object({ result_ttl: z.int() });

interface Known {
  row: JobSeen;
  readonly dueAt: number;
  readonly byHand: boolean;
  /** When it was backfilled; undefined where it was not. */
  readonly backfilledAt: number | undefined;
  /** The commit in which it began. */
  begunIn: number | undefined;
}

/** A schedule, since its times were last decided anew. */
interface Era {
  row: ScheduleSeen;
  /** Every due time after it is to fire, as its policy says. */
  since: number;
}

export class Agenda {
  readonly #violate: Violate;
  readonly #eras = new Map<string, Era>();
  readonly #runs = new Map<string, Map<string, Known>>();
  /** What became of each due time, and the jobs it was given. */
  readonly #firings = new Map<string, FiringSeen>();
  readonly #jobsAt = new Map<string, string[]>();
  #editions = 0;
  #commits = 0;

  constructor(violate: Violate) {
    this.#violate = violate;
  }

  nextEdition(): number {
    this.#editions += 1;
    return this.#editions;
  }

  /** Whether some schedule still has something to fire. */
  get isOpen(): boolean {
    return [...this.#eras.values()].some(({ row }) => row.next_at !== null);
  }

  /** Somebody was told that his change is done. */
  acknowledged(name: string, before: number | undefined, after: number): void {
    const { row } = this.#eras.get(name) ?? {};
    // Gone since, or made anew.
    if (row === undefined || before === undefined) return;
    if (row.revision === before && after !== before) {
      this.#violate('schedule', undefined, `a change of ${name} was acknowledged, and it is as it was`);
    }
  }

  /** Books what one commit did. */
  apply(changes: readonly Change[], now: number): void {
    if (changes.length === 0) return;
    this.#commits += 1;
    const made: JobSeen[] = [];
    for (const change of changes) {
      if ((change.kind === 'job-made' || change.kind === 'job-changed') && change.row.schedule !== null) {
        if (change.kind === 'job-made') made.push(change.row);
        this.#job(change.row, now);
      }
      if (change.kind === 'firing-made' || change.kind === 'firing-changed') {
        this.#firings.set(keyOf(change.row.schedule, change.row.due_at), change.row);
      }
    }
    for (const change of changes) {
      if (change.kind === 'schedule-made')
        this.#eras.set(change.row.name, { row: change.row, since: change.row.decided_until });
      else if (change.kind === 'schedule-deleted') this.#closed(change.name, now);
      else if (change.kind === 'schedule-changed') this.#changed(change.row, made, changes, now);
    }
    const moved = new Set(
      changes.flatMap((change) => ('row' in change && 'decided_until' in change.row ? [change.row.name] : [])),
    );
    for (const row of made) this.#checkMade(row, moved);
    for (const name of new Set(changes.flatMap(scheduleOf))) this.#checkOverlap(name, now);
  }

  /** When everything is over: nothing that was to fire has been forgotten. */
  judge(): void {
    for (const [name, era] of this.#eras) {
      const { row } = era;
      if (row.next_at !== null) this.#violate('schedule', undefined, `${name} has not been decided to its end`);
      if (row.paused_at === null) this.#checkCovered(era, row.decided_until);
    }
    for (const [key, { outcome, job_id: job }] of this.#firings) {
      const known = job === null ? undefined : this.#known(job);
      const lives = known !== undefined && codeOf(known.row) !== 'revoked';
      if (outcome === 'fired' && known === undefined)
        this.#violate('schedule', undefined, `${key} fired, without a job`);
      if (outcome === 'revoked' && lives)
        this.#violate('schedule', job ?? undefined, `${key} is revoked, and its run is not`);
      if (
        outcome === 'fired' &&
        known?.row.state === 'REVOKED' &&
        known.row.claim === 0 &&
        codeOf(known.row) === 'revoked'
      ) {
        this.#violate('schedule', job ?? undefined, `${key} has fired, and its run was revoked with its schedule`);
      }
    }
  }

  #known(job: string): Known | undefined {
    for (const runs of this.#runs.values()) if (runs.has(job)) return runs.get(job);
    return undefined;
  }

  #job(row: JobSeen, now: number): void {
    const name = String(row.schedule);
    const runs = this.#runs.get(name) ?? new Map<string, Known>();
    this.#runs.set(name, runs);
    const known = runs.get(row.id);
    if (known === undefined) {
      const { schedule } = runOf.parse(JSON.parse(row.options));
      runs.set(row.id, {
        row,
        dueAt: schedule.dueAt,
        byHand: schedule.cause === 'run',
        backfilledAt: schedule.cause === 'backfill' ? now : undefined,
        begunIn: undefined,
      });
      return;
    }
    const before = known.row;
    known.row = row;
    if (before.claim === 0 && row.claim > 0) {
      known.begunIn = this.#commits;
      this.#checkBegins(runs, row);
    }
    if (before.finished_at === null && row.finished_at !== null && codeOf(row) === 'overlap') {
      this.#checkSkipped(runs, row, before, now);
    }
  }

  // Of two runs of one schedule none begins while the other has begun and not ended, unless it may overlap.
  #checkBegins(runs: ReadonlyMap<string, Known>, row: JobSeen): void {
    if (row.turn === 0) return;
    for (const { row: other, byHand, begunIn } of runs.values()) {
      if (other.id === row.id || other.claim === 0 || other.finished_at !== null) continue;
      // Both orders are right for one by hand that begins at the same moment.
      if (byHand && begunIn === this.#commits) continue;
      this.#violate('overlap', row.id, `it began while ${other.id} had not ended`);
    }
  }

  #checkSkipped(runs: ReadonlyMap<string, Known>, row: JobSeen, before: JobSeen, now: number): void {
    if (row.turn === MAKES_GOOD) this.#violate('overlap', row.id, 'it makes good what was missed, and was skipped');
    const skipped = errorOf.parse(JSON.parse(String(row.error))).message.startsWith('Skipped');
    if (skipped && before.claim > 0) this.#violate('overlap', row.id, 'it was skipped after it had begun');
    const reason = [...runs.values()].some(
      ({ row: other }) =>
        other.id !== row.id &&
        // What was due before the other ended came too early, however late that end is written down.
        (other.finished_at === null || other.finished_at >= Math.min(now, row.due_at) - SKEW_MS) &&
        other.turn < MAKES_GOOD &&
        (other.claim > 0 || (other.turn === 1 && other.due_at <= now + SKEW_MS)) &&
        !(other.claim === 0 && other.expires_at !== null && other.expires_at < now - SKEW_MS),
    );
    if (!reason) this.#violate('overlap', row.id, 'it was ended for another run, and there was none');
  }

  #checkOverlap(name: string, now: number): void {
    const open = [...(this.#runs.get(name)?.values() ?? [])].filter(({ row }) => row.finished_at === null);
    const begun = open.filter(({ row }) => row.turn > 0 && row.claim > 0);
    const parked = open.find(({ row }) => row.parked_for === 'overlap');
    const ahead = open.some(
      ({ row }) => row.parked_for !== 'overlap' && (row.state !== 'SCHEDULED' || row.due_at <= now + SKEW_MS),
    );
    if (parked !== undefined && !ahead) {
      this.#violate('overlap', parked.row.id, 'it is parked behind another run, and there is none');
    }
    if (begun.length > 1)
      this.#violate('overlap', begun[1]?.row.id, `${String(begun.length)} runs of ${name} are under way`);
  }

  #checkMade(row: JobSeen, moved: ReadonlySet<string>): void {
    const { schedule, resultTtlSeconds } = runOf.parse(JSON.parse(row.options));
    if (schedule.cause === 'run') return;
    const key = keyOf(schedule.name, schedule.dueAt);
    if (schedule.cause !== 'backfill' && !moved.has(schedule.name)) {
      this.#violate('schedule', row.id, `${key} fired, and its schedule has not moved on`);
    }
    for (const other of this.#jobsAt.get(key) ?? []) {
      const { row: theirs } = this.#runs.get(schedule.name)?.get(other) ?? {};
      const revoked = theirs?.state === 'REVOKED' && theirs.claim === 0 && codeOf(theirs) === 'revoked';
      if (!revoked) this.#violate('schedule', row.id, `${key} has fired already, as ${other}`);
    }
    this.#jobsAt.set(key, [...(this.#jobsAt.get(key) ?? []), row.id]);
    if (this.#firings.get(key)?.job_id !== row.id)
      this.#violate('schedule', row.id, `${key} has no firing of this job`);
    const era = this.#eras.get(schedule.name);
    if (era === undefined) this.#violate('schedule', row.id, `${schedule.name} fired, and there is none`);
    else if (editionOf.parse(JSON.parse(era.row.options)).result_ttl !== resultTtlSeconds) {
      this.#violate('schedule', row.id, `${schedule.name} fired as it was before it was changed`);
    } else if (era.row.paused_at !== null && schedule.cause !== 'backfill') {
      this.#violate('schedule', row.id, `${schedule.name} fired, and is paused`);
    }
  }

  #changed(row: ScheduleSeen, made: readonly JobSeen[], changes: readonly Change[], now: number): void {
    const era = this.#eras.get(row.name);
    if (era === undefined) {
      this.#violate('internal', undefined, 'a schedule was changed that nobody made');
      return;
    }
    const before = era.row;
    if (row.revision === before.revision) {
      era.row = row;
      this.#advanced(before, row, made);
      return;
    }
    const goesOn = row.paused_at === null && before.paused_at === null && timesOf(row) === timesOf(before);
    // A backfill that came between what an edit read and what it wrote runs with what was said when it was asked for.
    this.#checkRevoked(row.name, new Set(made.map(({ id }) => id)), goesOn ? now - CHANGE_MS : Infinity);
    if (!goesOn && before.paused_at === null)
      this.#checkCovered(era, Math.min(before.decided_until, row.decided_until));
    if (goesOn) {
      for (const change of changes) {
        if (change.kind !== 'firing-changed' || change.row.due_at > row.decided_until) continue;
        const key = keyOf(change.row.schedule, change.row.due_at);
        if (this.#firings.get(key)?.outcome === 'fired') continue;
        this.#violate('schedule', undefined, `${key} was given up for a new input`);
      }
    }
    if (!goesOn) era.since = row.decided_until;
    era.row = row;
  }

  #closed(name: string, now: number): void {
    const era = this.#eras.get(name);
    this.#eras.delete(name);
    if (era === undefined) return;
    this.#checkRevoked(name, new Set(), Infinity);
    if (era.row.paused_at === null) this.#checkCovered(era, Math.min(era.row.decided_until, now - SKEW_MS));
  }

  // No run of the old definition is left that could still begin.
  #checkRevoked(name: string, made: ReadonlySet<string>, backfilledBefore: number): void {
    for (const { row, byHand, backfilledAt = 0 } of this.#runs.get(name)?.values() ?? []) {
      if (byHand || made.has(row.id) || row.claim > 0 || row.finished_at !== null) continue;
      if (backfilledAt > backfilledBefore) continue;
      this.#violate('schedule', row.id, 'its schedule was changed before it began, and it was let be');
    }
  }

  // What one tick makes of what it is the first to see: exactly what the policy says.
  #advanced(before: ScheduleSeen, row: ScheduleSeen, made: readonly JobSeen[]): void {
    const { name, decided_until: until } = row;
    if (until <= before.decided_until) return;
    const jobs = made
      .filter((each) => each.schedule === name)
      .map(({ id }) => this.#runs.get(name)?.get(id)?.dueAt ?? 0);
    const at = until - HORIZON_MS;
    const passed = duesOf(before, before.decided_until, Math.max(before.decided_until, at));
    const ahead = duesOf(before, Math.max(before.decided_until, at), until);
    const most = before.catch_up === 'all' ? before.catch_up_most : 1;
    const kept = passed.slice(-most).filter((due) => before.catch_up !== 'none' || due > at - ON_TIME_MS);
    const wanted = new Set([...kept, ...ahead]);
    for (const due of jobs) {
      if (!wanted.has(due)) this.#violate('schedule', undefined, `${keyOf(name, due)} fired, and was not to`);
    }
    for (const due of wanted) {
      const outcome = this.#firings.get(keyOf(name, due))?.outcome;
      if (outcome !== 'fired')
        this.#violate('schedule', undefined, `${keyOf(name, due)} was to fire, and is ${String(outcome)}`);
    }
    const missed = passed.filter((due) => !wanted.has(due)).at(-1);
    if (missed !== undefined && this.#firings.get(keyOf(name, missed)) === undefined) {
      this.#violate('schedule', undefined, `${keyOf(name, missed)} was missed, and nothing says so`);
    }
  }

  // Under `all` every due time has its firing; one that is revoked has fallen to a change that meant it.
  #checkCovered({ row, since }: Era, until: number): void {
    if (row.catch_up !== 'all') return;
    for (const due of duesOf(row, since, until)) {
      const outcome = this.#firings.get(keyOf(row.name, due))?.outcome;
      const over = outcome === 'missed' || outcome === undefined;
      if (over && row.catch_up_most >= 100) {
        this.#violate('schedule', undefined, `${keyOf(row.name, due)} was never made good: ${String(outcome)}`);
      }
    }
  }
}

function scheduleOf(change: Change): readonly string[] {
  return change.kind === 'job-changed' && change.row.schedule !== null ? [change.row.schedule] : [];
}

function keyOf(schedule: string, dueAt: number): string {
  return `${schedule} of ${new Date(dueAt).toISOString()}`;
}

function codeOf({ error }: JobSeen): string | undefined {
  return error === null ? undefined : errorOf.parse(JSON.parse(error)).code;
}

function timesOf({ cron, every_ms: everyMs, ends_at: endsAt }: ScheduleSeen): string {
  return [cron, everyMs, endsAt].join(' ');
}

/** Whole multiples of its interval after `from`, until `until`. */
function duesOf(
  { cron, every_ms: everyMs, ends_at: endsAt }: ScheduleSeen,
  from: number,
  until: number,
): readonly number[] {
  const step = everyMs ?? Number(/^\*\/(\d+) /.exec(cron ?? '')?.[1]) * 60_000;
  const dues: number[] = [];
  for (let due = (Math.floor(from / step) + 1) * step; due <= Math.min(until, endsAt ?? Infinity); due += step)
    dues.push(due);
  return dues;
}
