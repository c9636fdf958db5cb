// What a running attempt tells the people who watch it: progress, log lines, pieces of output. It goes out beside the
// work, in order, and must never fail a job, nor hold up its end for long.

import { answerWithin, within } from '../core/deadline.ts';
import type { Envelope } from '../core/envelope.ts';
import { byteLength } from '../core/json.ts';
import {
  MAX_CHUNK_CHARS,
  MAX_LINE_CHARS,
  MAX_NOTE_CHARS,
  MAX_STREAM_BYTES,
  MAX_STREAM_EVENTS,
  MIN_STREAM_TTL_MS,
  STREAM_DEADLINE_MS,
  STREAM_END_DEADLINE_MS,
  STREAM_FLUSH_MS,
  STREAM_RETRY_MS,
  STREAM_TTL_MS,
} from '../core/limits.ts';
import type { StreamEvent } from '../durable/job-stream.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

type Said = StreamEvent extends infer E ? (E extends StreamEvent ? Pick<E, 'event' | 'data'> : never) : never;

const FULL = `The rest is left out: an attempt may say ${String(MAX_STREAM_BYTES)} bytes in ${String(MAX_STREAM_EVENTS)} events.`;

/** The live output of one attempt. One that never says a word costs no call. */
export class Live {
  /** The highest so far: what is shown of one attempt never goes back. */
  percent = 0;
  note: string | null = null;
  readonly #rt: Runtime;
  readonly #jobId: string;
  readonly #generation: number;
  readonly #ttlMs: number;
  #ended = false;
  #seq = 0;
  #bytes = 0;
  #full = false;
  #pending: StreamEvent[] = [];
  /** The last event that was sent, heard or not: none up to it may change any more. */
  #offered = 0;
  #silent = false;
  #sending: Promise<void> | undefined;
  #pause = new AbortController();

  constructor(rt: Runtime, { id, options }: Envelope, generation: number) {
    this.#rt = rt;
    this.#jobId = id;
    this.#generation = generation;
    this.#ttlMs = Math.max(MIN_STREAM_TTL_MS, Math.min(STREAM_TTL_MS, options.resultTtlSeconds * 1_000));
  }

  /** From then on whatever its handler still says, or enqueues, counts no more. */
  get ended(): boolean {
    return this.#ended;
  }

  progress(percent: number, note?: string): void {
    if (this.#ended) return;
    // NaN is none, and must not reach a column that refuses it with everything beside it.
    const given = percent >= 0 ? Math.round(Math.min(100, percent)) : 0;
    this.percent = Math.max(this.percent, given);
    this.note = note?.slice(0, MAX_NOTE_CHARS) ?? null;
    this.#put({ event: 'progress', data: { percent: this.percent, note: this.note } });
  }

  log(line: string): void {
    const cut = line.length > MAX_LINE_CHARS ? `${line.slice(0, MAX_LINE_CHARS - 1)}…` : line;
    this.#say({ event: 'log', data: { line: cut } }, cut);
  }

  chunk(text: string): void {
    for (let at = 0; at < text.length; at += MAX_CHUNK_CHARS) {
      const piece = text.slice(at, at + MAX_CHUNK_CHARS);
      this.#say({ event: 'chunk', data: { text: piece } }, piece);
    }
  }

  /** Waits for what is left to be taken, 2 s at most; what is not by then is dropped. Never rejects. */
  async end(): Promise<void> {
    this.#ended = true;
    this.#pause.abort();
    if (this.#sending === undefined) return;
    const over = await within(this.#rt.clock, STREAM_END_DEADLINE_MS, this.#sending);
    if (over.inTime) return;
    const dropped = new Error('Its stream did not take the last of its live output.');
    logError('stream.dropped', dropped, { job: this.#jobId, events: this.#pending.length });
    this.#pending = [];
  }

  /** Another attempt has the job: nothing of this one counts any more. */
  abandon(): void {
    this.#ended = true;
    this.#pause.abort();
    this.#pending = [];
  }

  #say(said: Said, text: string): void {
    if (this.#ended || this.#full) return;
    this.#bytes += byteLength(text);
    this.#full = this.#bytes > MAX_STREAM_BYTES || this.#seq >= MAX_STREAM_EVENTS;
    this.#put(this.#full ? { event: 'log', data: { line: FULL } } : said);
  }

  #put(said: Said): void {
    const at = this.#rt.clock.now();
    const last = this.#pending.at(-1);
    const joined = last !== undefined && last.seq > this.#offered ? join(last, said) : undefined;
    if (joined === undefined) this.#pending.push({ seq: (this.#seq += 1), at, ...said });
    else this.#pending.splice(-1, 1, { ...joined, at });
    this.#sending ??= this.#send();
  }

  // One call at a time; what comes meanwhile goes with the next.
  async #send(): Promise<void> {
    // What is said in one breath goes together.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      if (!(await this.#offer())) await this.#rt.clock.sleep(STREAM_RETRY_MS);
      else if (!this.#ended) {
        this.#pause = new AbortController();
        await this.#rt.clock.sleep(STREAM_FLUSH_MS, this.#pause.signal);
      }
    }
    this.#sending = undefined;
  }

  /** Sends all that is pending, again with what was not heard before; says whether it was heard now. */
  async #offer(): Promise<boolean> {
    const events = this.#pending.slice();
    this.#offered = events.at(-1)?.seq ?? 0;
    const batch = { generation: this.#generation, events, ttlMs: this.#ttlMs };
    try {
      const append = this.#rt.streams.append(this.#jobId, batch);
      const taken = await answerWithin(this.#rt.clock, STREAM_DEADLINE_MS, append, 'The stream of the job');
      if (taken === 'stale') this.abandon();
      this.#pending = this.#pending.slice(events.length);
      this.#silent = false;
      return true;
    } catch (error) {
      if (!this.#silent) logError('stream.silent', error, { job: this.#jobId });
      this.#silent = true;
      return false;
    }
  }
}

/** Two events as one where nobody would miss the first: progress that was overtaken, pieces of one text. */
function join(last: StreamEvent, said: Said): StreamEvent | undefined {
  if (last.event === 'progress' && said.event === 'progress') return { ...last, data: said.data };
  if (last.event !== 'chunk' || said.event !== 'chunk') return undefined;
  const text = last.data.text + said.data.text;
  return text.length > MAX_CHUNK_CHARS ? undefined : { ...last, data: { text } };
}
