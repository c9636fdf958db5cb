// Rate limits and locks of the simulator: the product's own books in memory, each behind a port that fails, and alarms that
// may be late but come.

import { DatabaseSync } from 'node:sqlite';
import type { Rate } from '../../../src/core/rate.ts';
import { LockTable } from '../../../src/durable/lock-table.ts';
import { RateWindow } from '../../../src/durable/rate-window.ts';
import type { Sql } from '../../../src/durable/sql.ts';
import { LINE_PAGE } from '../../../src/core/limits.ts';
import { wakeTurns } from '../../../src/jobs/park.ts';
import type { World } from './world.ts';

function sqlInMemory(): Sql {
  const database = new DatabaseSync(':memory:');
  return { exec: (sql, ...params) => database.prepare(sql).all(...params) };
}

export class Limits {
  readonly #world: World;
  readonly #windows = new Map<string, RateWindow>();
  readonly #tables = new Map<string, LockTable>();
  readonly #alarms = new Map<string, number>();
  /** Real starts by limit, in order. */
  readonly #starts = new Map<string, number[]>();

  constructor(world: World) {
    this.#world = world;
  }

  window(name: string): RateWindow {
    const known = this.#windows.get(name);
    if (known !== undefined) return known;
    const made = new RateWindow(sqlInMemory());
    this.#windows.set(name, made);
    return made;
  }

  /** The books of a lock, for one call: what it changes may ask for an earlier alarm. */
  withLock<T>(name: string, use: (table: LockTable) => T): T {
    const known = this.#tables.get(name) ?? new LockTable(sqlInMemory());
    this.#tables.set(name, known);
    const value = use(known);
    this.#setAlarm(name, known);
    return value;
  }

  /** A handler starts that takes from these. */
  started(
    job: string,
    rates: readonly { readonly name: string; readonly rate: Rate }[],
    locks: readonly string[],
  ): void {
    const { now } = this.#world.timeline;
    for (const { name, rate } of rates) {
      const starts = this.#starts.get(name) ?? [];
      this.#starts.set(name, starts);
      starts.push(now);
      const within = starts.filter((at) => at > now - rate.periodMs).length;
      if (within > rate.limit)
        this.#world.violate('limit', job, `it is start ${String(within)} of ${name} in one window`);
    }
    for (const name of locks) {
      if (!(this.#tables.get(name)?.isHeldBy(job, now) ?? false)) {
        this.#world.violate('limit', job, `it started without the lock ${name}`);
      }
    }
  }

  #setAlarm(name: string, table: LockTable): void {
    const { timeline, random } = this.#world;
    const at = table.wakesAt(timeline.now);
    if (at === undefined || (this.#alarms.get(name) ?? Infinity) <= at) return;
    this.#alarms.set(name, at);
    timeline.at(at + random.between(0, 1_000), () => void this.#alarm(name, table, at));
  }

  async #alarm(name: string, table: LockTable, at: number): Promise<void> {
    if (this.#alarms.get(name) !== at) return;
    this.#alarms.delete(name);
    const { machines, timeline } = this.#world;
    const turns = table.nextTurns(timeline.now);
    const line = {
      next: () => Promise.resolve(table.line(LINE_PAGE)),
      leave: (gone: readonly string[]) => Promise.resolve(table.leave(gone, timeline.now)),
    };
    if (turns.length > 0) await this.#world.invoke('alarm', machines.any(), (rt) => wakeTurns(rt, turns, line));
    this.#setAlarm(name, table);
  }
}
