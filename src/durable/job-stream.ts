// The live output of one job: what its newest attempt said, in order. It forgets all of it after a while, and must
// never keep anything where nobody has said a word: it is asked about every job that runs.

import { DurableObject } from 'cloudflare:workers';
import { z } from 'zod';
import { within } from '../core/deadline.ts';
import type { Clock } from '../core/ports.ts';
import { systemClock } from './system-clock.ts';

const common = {
  /** From 1 on, without a gap as far as its attempt was heard. */
  seq: z.int(),
  /** Epoch ms. */
  at: z.number(),
};
const progress = z.object({ percent: z.int(), note: z.string().nullable() });
const streamEvent = z.discriminatedUnion('event', [
  z.object({ ...common, event: z.literal('progress'), data: progress }),
  z.object({ ...common, event: z.literal('log'), data: z.object({ line: z.string() }) }),
  z.object({ ...common, event: z.literal('chunk'), data: z.object({ text: z.string() }) }),
]);
export type StreamEvent = z.infer<typeof streamEvent>;

export interface StreamBatch {
  /** The claim of the attempt that writes: a later one begins anew. */
  readonly generation: number;
  readonly events: readonly StreamEvent[];
  /** How long everything is kept from now on. */
  readonly ttlMs: number;
}

/** Behind an event: where a reader goes on. */
export interface Place {
  readonly generation: number;
  readonly seq: number;
}

export interface StreamLook {
  /** undefined, or of an attempt before: from the beginning. */
  readonly after: Place | undefined;
  /** How long to wait where there is nothing yet; 0 for not at all. */
  readonly waitMs: number;
  readonly limit: number;
}

export interface StreamPage {
  /** 0 where there are no events. */
  readonly generation: number;
  readonly events: readonly StreamEvent[];
}

export interface Latest {
  readonly generation: number;
  readonly percent: number;
  readonly note: string | null;
}

// Whatever was put into `data` was made by JSON.stringify.
const row = z.looseObject({ data: z.string().transform((text): unknown => JSON.parse(text)) });
const head = z.object({ generation: z.int(), expires_at: z.number() });
const NOTHING: StreamPage = { generation: 0, events: [] };

export class JobStream extends DurableObject {
  /** An instance's own property, which no caller reaches: tests hold it. */
  clock: Clock = systemClock;
  #arrival = Promise.withResolvers<undefined>();

  /** Adds what is not there yet; the first words of a later attempt end those of the one before. */
  async append({ generation, events, ttlMs }: StreamBatch): Promise<'kept' | 'stale'> {
    const { sql } = this.ctx.storage;
    const now = this.clock.now();
    const known = this.#head(now);
    if (known !== undefined && known.generation > generation) return 'stale';
    this.#makeTables();
    if (known?.generation !== generation) sql.exec(`DELETE FROM events`);
    for (const { seq, at, event, data } of events) {
      const text = JSON.stringify(data);
      sql.exec(`INSERT OR IGNORE INTO events (seq, at, event, data) VALUES (?, ?, ?, ?)`, seq, at, event, text);
    }
    sql.exec(`INSERT OR REPLACE INTO head (one, generation, expires_at) VALUES (1, ?, ?)`, generation, now + ttlMs);
    this.#arrival.resolve(undefined);
    this.#arrival = Promise.withResolvers();
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(now + ttlMs);
    return 'kept';
  }

  async read({ after, waitMs, limit }: StreamLook): Promise<StreamPage> {
    const page = this.#page(after, limit);
    if (page.events.length > 0 || waitMs <= 0) return page;
    await within(this.clock, waitMs, this.#arrival.promise);
    return this.#page(after, limit);
  }

  latest(): Latest | undefined {
    const known = this.#head(this.clock.now());
    if (known === undefined) return undefined;
    const [told] = this.ctx.storage.sql.exec(
      `SELECT data FROM events WHERE event = 'progress' ORDER BY seq DESC LIMIT 1`,
    );
    return told && { generation: known.generation, ...progress.parse(row.parse(told).data) };
  }

  // Set once and not with every event: one that comes too early looks again at the end.
  override async alarm(): Promise<void> {
    const known = this.#head(this.clock.now());
    if (known === undefined) await this.ctx.storage.deleteAll();
    else await this.ctx.storage.setAlarm(known.expires_at);
  }

  #page(after: Place | undefined, limit: number): StreamPage {
    const known = this.#head(this.clock.now());
    if (known === undefined) return NOTHING;
    const { generation } = known;
    if (after !== undefined && after.generation > generation) return NOTHING;
    const from = after?.generation === generation ? after.seq : 0;
    const rows = this.ctx.storage.sql.exec(
      `SELECT seq, at, event, data FROM events WHERE seq > ? ORDER BY seq LIMIT ?`,
      from,
      limit,
    );
    return { generation, events: [...rows].map((each) => streamEvent.parse(row.parse(each))) };
  }

  /** undefined where nobody has written, or it has expired. */
  #head(now: number): z.infer<typeof head> | undefined {
    const { sql } = this.ctx.storage;
    const [made] = sql.exec(`SELECT 1 FROM sqlite_master WHERE name = 'head'`);
    if (made === undefined) return undefined;
    const [first] = sql.exec(`SELECT generation, expires_at FROM head`);
    const known = first && head.parse(first);
    return known !== undefined && known.expires_at > now ? known : undefined;
  }

  #makeTables(): void {
    this.ctx.storage.sql.exec(
      `CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY, generation INTEGER NOT NULL, expires_at INTEGER NOT NULL);
       CREATE TABLE IF NOT EXISTS events (
         seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, event TEXT NOT NULL, data TEXT NOT NULL
       );
       CREATE INDEX IF NOT EXISTS progress ON events (seq) WHERE event = 'progress';`,
    );
  }
}
