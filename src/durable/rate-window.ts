// The slots of one rate limit: who has one, until when, and who was told to wait. A slot is in use from its grant until one
// period after its start was reported, so no window of a period can hold more starts than there are slots.

import { z } from 'zod';
import { GRANT_MS, PLACE_KEPT_MS, REPORT_ALLOWANCE_MS, SLOT_KEPT_MS } from '../core/limits.ts';
import { turnOf, type Rate } from '../core/rate.ts';
import type { Sql } from './sql.ts';

/** A job that wants to start. */
export interface StartAsk {
  readonly job: string;
  /** How often the job was claimed until now: a start that was not reported must not be taken for one to come. */
  readonly claim: number;
  /** Higher goes first. */
  readonly priority: number;
  /** Epoch ms: of two of one priority the older goes first. */
  readonly since: number;
}

export type StartAnswer =
  /** It may start within `validMs`. Asking again meanwhile, and before the job is claimed, is the same grant. */
  | { readonly job: string; readonly kind: 'granted'; readonly grant: number; readonly validMs: number }
  /** Not before; an estimate. */
  | { readonly job: string; readonly kind: 'wait'; readonly waitMs: number };

const slotRow = z.object({
  id: z.number(),
  job: z.string(),
  claim: z.number(),
  granted_at: z.number(),
  started: z.number(),
  frees_at: z.number(),
  asks: z.number(),
});
type Slot = z.infer<typeof slotRow>;

const placeRow = z.object({ job: z.string(), priority: z.number(), since: z.number(), at: z.number() });
type Place = z.infer<typeof placeRow>;

export class RateWindow {
  readonly #sql: Sql;
  /** In use, whether or not their start was reported. */
  #slots: Slot[];
  /** Who was told to wait, and until when. */
  readonly #line: Map<string, Place>;
  #heldUntil: number;
  #lastGrant: number;

  constructor(sql: Sql) {
    this.#sql = sql;
    sql.exec(`CREATE TABLE IF NOT EXISTS slots (id INTEGER PRIMARY KEY, job TEXT NOT NULL, claim INTEGER NOT NULL, granted_at INTEGER NOT NULL,
      started INTEGER NOT NULL, frees_at INTEGER NOT NULL, asks INTEGER NOT NULL)`);
    sql.exec(`CREATE TABLE IF NOT EXISTS line (job TEXT PRIMARY KEY, priority INTEGER NOT NULL, since INTEGER NOT NULL,
      at INTEGER NOT NULL) WITHOUT ROWID`);
    sql.exec(`CREATE TABLE IF NOT EXISTS held (one INTEGER PRIMARY KEY CHECK (one = 1), until INTEGER NOT NULL)`);
    this.#slots = [...sql.exec(`SELECT * FROM slots`)].map((row) => slotRow.parse(row));
    this.#line = new Map([...sql.exec(`SELECT * FROM line`)].map((row) => [String(row['job']), placeRow.parse(row)]));
    const [held] = sql.exec(`SELECT until FROM held`);
    this.#heldUntil = Number(held?.['until'] ?? 0);
    this.#lastGrant = Math.max(0, ...this.#slots.map(({ id }) => id));
  }

  /** Grants what is free, first to whoever was told to come now, then by priority and age; tells the others when. */
  reserve(rate: Rate, asks: readonly StartAsk[], now: number): readonly StartAnswer[] {
    this.#forget(now);
    const due = (job: string): number | undefined => {
      const at = this.#line.get(job)?.at;
      return at !== undefined && at <= now ? at : undefined;
    };
    const order = asks.toSorted(
      (a, b) => (due(a.job) ?? Infinity) - (due(b.job) ?? Infinity) || b.priority - a.priority || a.since - b.since,
    );
    const answers = new Map<string, StartAnswer>();
    for (const ask of order)
      answers.set(ask.job, this.#grant(rate, ask, now) ?? { job: ask.job, kind: 'wait', waitMs: 0 });
    const denied = order.filter(({ job }) => answers.get(job)?.kind === 'wait');
    for (const answer of this.#queueUp(rate, denied, now)) answers.set(answer.job, answer);
    return asks.map(({ job }) => answers.get(job) ?? { job, kind: 'wait', waitMs: 0 });
  }

  /** Says which grants were used, and which will not be; each once. One that is gone by now is no error. */
  settle(rate: Rate, started: readonly number[], returned: readonly number[], now: number): void {
    for (const slot of this.#slots) {
      if (slot.started === 1) continue;
      if (started.includes(slot.id)) {
        Object.assign(slot, { started: 1, frees_at: now + rate.periodMs });
        this.#sql.exec(`UPDATE slots SET started = 1, frees_at = ? WHERE id = ?`, slot.frees_at, slot.id);
      } else if (returned.includes(slot.id)) {
        // Whoever else was given the same grant may still use it.
        slot.asks -= 1;
        this.#sql.exec(`UPDATE slots SET asks = ? WHERE id = ?`, slot.asks, slot.id);
      }
    }
    this.#drop((slot) => slot.started === 0 && slot.asks <= 0);
  }

  /** Nobody starts before `until` (epoch ms). */
  hold(until: number): void {
    if (until <= this.#heldUntil) return;
    this.#heldUntil = until;
    this.#sql.exec(
      `INSERT INTO held (one, until) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET until = excluded.until`,
      until,
    );
  }

  /** When nothing is left to remember, should nobody come; undefined where nothing is. */
  get emptyAt(): number | undefined {
    const slots = this.#slots.map((slot) => slot.frees_at);
    const places = [...this.#line.values()].map(({ at }) => at + PLACE_KEPT_MS);
    const last = Math.max(this.#heldUntil, ...slots, ...places);
    return last > 0 ? last : undefined;
  }

  /** Forgets what is over. Returns when there is more to forget. */
  forgetAll(now: number): number | undefined {
    this.#forget(now);
    if (this.#heldUntil <= now) {
      this.#heldUntil = 0;
      this.#sql.exec(`DELETE FROM held`);
    }
    return this.emptyAt;
  }

  #forget(now: number): void {
    this.#drop((slot) => slot.frees_at <= now);
    for (const { job, at } of this.#line.values()) if (at + PLACE_KEPT_MS <= now) this.#leave(job);
  }

  #grant(rate: Rate, { job, claim }: StartAsk, now: number): StartAnswer | undefined {
    const open = this.#slots.find(
      (slot) => slot.job === job && slot.claim === claim && slot.started === 0 && slot.granted_at + GRANT_MS > now,
    );
    if (open !== undefined) {
      open.asks += 1;
      this.#sql.exec(`UPDATE slots SET asks = ? WHERE id = ?`, open.asks, open.id);
      return { job, kind: 'granted', grant: open.id, validMs: open.granted_at + GRANT_MS - now };
    }
    const place = this.#line.get(job);
    const isDue = place !== undefined && place.at <= now;
    const free = rate.limit - this.#slots.length - (isDue ? 0 : this.#keptFor(job, now));
    if (free <= 0 || now < this.#heldUntil) return undefined;
    // Never the number of a grant that was forgotten: whoever still returns that one must not take this one away.
    this.#lastGrant = Math.max(this.#lastGrant + 1, now * 1_000);
    const slot = {
      id: this.#lastGrant,
      job,
      claim,
      granted_at: now,
      started: 0,
      frees_at: now + GRANT_MS + rate.periodMs,
      asks: 1,
    };
    this.#slots.push(slot);
    this.#sql.exec(
      `INSERT INTO slots (id, job, claim, granted_at, started, frees_at, asks) VALUES (?, ?, ?, ?, 0, ?, 1)`,
      slot.id,
      job,
      claim,
      now,
      slot.frees_at,
    );
    if (place !== undefined) this.#leave(job);
    return { job, kind: 'granted', grant: slot.id, validMs: GRANT_MS };
  }

  /** Slots that are kept for others, who were told to come for them just now. */
  #keptFor(job: string, now: number): number {
    let kept = 0;
    for (const { job: other, at } of this.#line.values())
      if (other !== job && at <= now && now < at + SLOT_KEPT_MS) kept += 1;
    return kept;
  }

  // Everybody behind those of higher priority, and of the same priority behind those who are older.
  *#queueUp(rate: Rate, denied: readonly StartAsk[], now: number): Generator<StartAnswer> {
    if (denied.length === 0) return;
    for (const { job, priority, since } of denied) {
      const at = this.#line.get(job)?.at ?? 0;
      this.#line.set(job, { job, priority, since, at });
    }
    const line = [...this.#line.values()].sort((a, b) => b.priority - a.priority || a.since - b.since);
    const ahead = new Map(line.map(({ job }, at) => [job, at]));
    const from = Math.max(now, this.#heldUntil);
    const frees = this.#slots.map((slot) => Math.max(from, freesAbout(slot, rate))).sort((a, b) => a - b);
    for (const { job, priority, since } of denied) {
      const known = this.#line.get(job)?.at ?? 0;
      // Who comes before his time is told the same again.
      const turn = known > from ? known : turnOf(ahead.get(job) ?? 0, frees, rate, from);
      const at = Math.max(turn, now + REPORT_ALLOWANCE_MS);
      if (at !== known) {
        this.#line.set(job, { job, priority, since, at });
        this.#sql.exec(
          `INSERT OR REPLACE INTO line (job, priority, since, at) VALUES (?, ?, ?, ?)`,
          job,
          priority,
          since,
          at,
        );
      }
      yield { job, kind: 'wait', waitMs: at - now };
    }
  }

  #leave(job: string): void {
    this.#line.delete(job);
    this.#sql.exec(`DELETE FROM line WHERE job = ?`, job);
  }

  #drop(over: (slot: Slot) => boolean): void {
    const left: Slot[] = [];
    for (const slot of this.#slots) {
      if (over(slot)) this.#sql.exec(`DELETE FROM slots WHERE id = ?`, slot.id);
      else left.push(slot);
    }
    this.#slots = left;
  }
}

// A grant that is still to be used will be reported any moment.
function freesAbout({ started, granted_at, frees_at }: Slot, { periodMs }: Rate): number {
  return started === 1 ? frees_at : granted_at + periodMs + REPORT_ALLOWANCE_MS;
}
