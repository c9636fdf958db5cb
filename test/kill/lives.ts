// One state, one port, one process after the other: when each is killed, and how it lives until then.

import { setTimeout as sleep } from 'node:timers/promises';
import { startProgram, type Group } from '../flows/product.ts';
import { between, type Chance } from './chance.ts';

const READY_WITHIN_MS = 60_000;
/** From ready to the kill. */
export const LONGEST_LIFE_MS = 6_000;
/** What a start takes where none has been seen yet. */
const FIRST_START_MS = 4_000;

/** `starting`: at a part of the time that a start takes. `serving`: so long after it was ready. */
export type Kill =
  { readonly when: 'starting'; readonly part: number } | { readonly when: 'serving'; readonly afterMs: number };

/** The first hits a start on an empty state, the third a start that has work to recover. */
export function planKills(count: number, chance: Chance): readonly Kill[] {
  return Array.from({ length: count }, (_, n) => {
    const starting = chance() < 0.3;
    const part = between(chance, 0.05, 1.1);
    const afterMs = Math.round(between(chance, 500, LONGEST_LIFE_MS));
    return n === 0 || n === 2 || (starting && n > 3) ? { when: 'starting', part } : { when: 'serving', afterMs };
  });
}

/** Epoch ms of what happened to one process. */
export interface Life {
  readonly spawnedAt: number;
  readyAt: number | undefined;
  killedAt: number | undefined;
  readonly group: Group;
}

export class Lives {
  readonly #env: Record<string, string>;
  readonly #over: AbortSignal;
  readonly all: Life[] = [];

  constructor(env: Record<string, string>, over: AbortSignal) {
    this.#env = env;
    this.#over = over;
  }

  /** Starts the next process. */
  begin(): Life {
    this.#over.throwIfAborted();
    const life = { spawnedAt: Date.now(), readyAt: undefined, killedAt: undefined, group: startProgram(this.#env) };
    this.all.push(life);
    return life;
  }

  /** Rejects if the process ends by itself: whatever happened before, the next one has to come up. */
  async untilReady(life: Life): Promise<void> {
    await life.group.untilSaid('Lovage is ready', READY_WITHIN_MS);
    life.readyAt = Date.now();
  }

  /** Lets a process start for a part of the time it needs, and kills it. */
  async killStarting(life: Life, part: number): Promise<void> {
    // Nobody waits for it: most are killed before.
    this.untilReady(life).catch(() => undefined);
    await this.#kill(life, life.spawnedAt + part * this.#startMs());
  }

  async killAfter(life: Life, ms: number): Promise<void> {
    await this.#kill(life, Date.now() + ms);
  }

  async #kill(life: Life, at: number): Promise<void> {
    await sleep(Math.max(0, at - Date.now()), undefined, { signal: this.#over });
    const living = life.group.living().size;
    life.killedAt = Date.now();
    await life.group.kill();
    if (living === 0) throw new Error(`It ended before it was killed; it said:\n${life.group.output()}`);
  }

  async end(): Promise<void> {
    await this.all.at(-1)?.group.kill();
  }

  #startMs(): number {
    return this.startsMs().at(-1) ?? FIRST_START_MS;
  }

  /** What each start took that came to its end. */
  startsMs(): readonly number[] {
    return this.all.flatMap(({ spawnedAt, readyAt }) => (readyAt === undefined ? [] : [readyAt - spawnedAt]));
  }
}
