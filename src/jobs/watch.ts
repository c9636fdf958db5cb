// Watching a job while it runs: what it says, as it says it, and where it stands.

import { answerWithin, within } from '../core/deadline.ts';
import {
  KEEP_ALIVE_MS,
  STREAM_DEADLINE_MS,
  STREAM_PAGE,
  STREAM_WAIT_MS,
  WATCH_LOOK_MS,
  WATCH_MS,
} from '../core/limits.ts';
import { isFinal } from '../core/states.ts';
import type { Place, StreamEvent, StreamLook, StreamPage } from '../durable/job-stream.ts';
import type { JobRow, Standing } from '../store/rows.ts';
import { findStanding } from './inspect.ts';
import { standingJson } from './job-json.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/** A running job with the progress it told last; as its row has it where nobody knows better. Never rejects. */
export async function withLatestProgress(rt: Runtime, job: JobRow): Promise<JobRow> {
  if (job.state !== 'STARTED') return job;
  const latest = await heard(rt, job.id, STREAM_DEADLINE_MS, () => rt.streams.latest(job.id));
  // What an attempt before this one told says nothing of this one.
  if (latest?.generation !== job.claim) return job;
  return { ...job, progress: latest.percent, progress_note: latest.note };
}

/** What a job said after a place; undefined where its stream does not answer. Never rejects. */
export async function readStream(rt: Runtime, id: string, look: StreamLook): Promise<StreamPage | undefined> {
  return heard(rt, id, look.waitMs + STREAM_DEADLINE_MS, () => rt.streams.read(id, look));
}

async function heard<T>(rt: Runtime, id: string, deadlineMs: number, ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await answerWithin(rt.clock, deadlineMs, ask(), 'The stream of the job');
  } catch (error) {
    logError('stream.silent', error, { job: id });
    return undefined;
  }
}

export type Sighting =
  | { readonly kind: 'event'; readonly generation: number; readonly event: StreamEvent }
  | { readonly kind: 'standing'; readonly standing: Record<string, unknown> }
  /** Nothing was seen for a while. */
  | { readonly kind: 'nothing' };

/**
 * What is seen of a job from a place on: events in order, and where it stands, now and with every change. A change comes
 * after the events before it; the end of the job is the last. Ends with the job, after ten minutes, or when `over` fires.
 */
export async function* watchJob(
  rt: Runtime,
  found: Standing,
  after: Place | undefined,
  over: AbortSignal,
): AsyncGenerator<Sighting, undefined> {
  const endsAt = rt.clock.now() + WATCH_MS;
  const follower = new Follower(rt, found.id, after, over);
  let told = '';
  let seenAt = rt.clock.now();
  for (let job: Standing | undefined = found; job !== undefined; job = await lookAgain(rt, job)) {
    const standing = standingJson(job, rt.clock.now());
    const text = JSON.stringify(standing);
    if (text !== told) {
      yield* follower.catchUp();
      yield { kind: 'standing', standing };
      told = text;
      seenAt = rt.clock.now();
    }
    if (isFinal(job.state) || over.aborted || rt.clock.now() >= endsAt) return;
    for await (const event of follower.follow(WATCH_LOOK_MS)) {
      yield event;
      seenAt = rt.clock.now();
    }
    if (rt.clock.now() - seenAt < KEEP_ALIVE_MS) continue;
    yield { kind: 'nothing' };
    seenAt = rt.clock.now();
  }
}

// A database that is silent for a while ends no watch: nothing is known to have changed.
async function lookAgain(rt: Runtime, job: Standing): Promise<Standing | undefined> {
  try {
    return await findStanding(rt, job.id);
  } catch (error) {
    logError('watch.blind', error, { job: job.id });
    return job;
  }
}

type Event = Sighting & { kind: 'event' };

/** Reads one stream, each event once. */
class Follower {
  readonly #rt: Runtime;
  readonly #id: string;
  readonly #over: AbortSignal;
  #place: Place | undefined;
  /** A look that still waits for the next event. */
  #waiting: Promise<StreamPage | undefined> | undefined;

  constructor(rt: Runtime, id: string, after: Place | undefined, over: AbortSignal) {
    this.#rt = rt;
    this.#id = id;
    this.#place = after;
    this.#over = over;
  }

  /** Everything that was said until now. */
  async *catchUp(): AsyncGenerator<Event, undefined> {
    // What it would answer is read here.
    this.#waiting = undefined;
    for (;;) {
      const page = await this.#read(0);
      if (page === undefined) return;
      yield* this.#take(page);
      if (page.events.length < STREAM_PAGE) return;
    }
  }

  /** What is said within that time. */
  async *follow(milliseconds: number): AsyncGenerator<Event, undefined> {
    const until = this.#rt.clock.now() + milliseconds;
    for (let left = milliseconds; left > 0 && !this.#over.aborted; left = until - this.#rt.clock.now()) {
      this.#waiting ??= this.#read(STREAM_WAIT_MS);
      const answer = await within(this.#rt.clock, left, this.#waiting);
      if (!answer.inTime) return;
      this.#waiting = undefined;
      if (answer.value !== undefined) yield* this.#take(answer.value);
      else await this.#rt.clock.sleep(until - this.#rt.clock.now(), this.#over);
    }
  }

  #read(waitMs: number): Promise<StreamPage | undefined> {
    return readStream(this.#rt, this.#id, { after: this.#place, waitMs, limit: STREAM_PAGE });
  }

  *#take({ generation, events }: StreamPage): Generator<Event, undefined> {
    for (const event of events) {
      this.#place = { generation, seq: event.seq };
      yield { kind: 'event', generation, event };
    }
  }
}
