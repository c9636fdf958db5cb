// Isolates and what runs in them. One dies between any two awaits: nothing it waits for ever comes, and whoever called
// it is told that it is gone.

import { createIsolate, type Isolate } from '../../../src/jobs/runtime.ts';
import type { Prng } from './prng.ts';
import type { Event, Timeline } from './timeline.ts';

/** How far a machine's clock may be off, either way. */
export const MAX_SKEW_MS = 500;

export class SimIsolate {
  readonly name: string;
  readonly skew: number;
  readonly memory: Isolate = createIsolate();
  readonly #timeline: Timeline;
  readonly #atDeath = new Set<() => void>();
  #alive = true;
  #frozenUntil = 0;
  /** How long it stood still altogether. */
  frozenMs = 0;

  constructor(name: string, skew: number, timeline: Timeline) {
    this.name = name;
    this.skew = skew;
    this.#timeline = timeline;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Something that happens inside: never after its death, and not while it stands still. */
  at(time: number, run: () => void): Event {
    return this.#timeline.at(time, () => {
      if (!this.#alive) return;
      if (this.#timeline.now < this.#frozenUntil) this.at(this.#frozenUntil, run);
      else run();
    });
  }

  after(milliseconds: number, run: () => void): Event {
    return this.at(this.#timeline.now + milliseconds, run);
  }

  /** Somebody computes without end: no timer fires and no answer is read until he is done. */
  freeze(milliseconds: number): void {
    this.#frozenUntil = Math.max(this.#frozenUntil, this.#timeline.now + milliseconds);
    this.frozenMs += milliseconds;
  }

  onDeath(told: () => void): () => void {
    this.#atDeath.add(told);
    return () => this.#atDeath.delete(told);
  }

  die(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const told of this.#atDeath) told();
    this.#atDeath.clear();
  }
}

/** The places where isolates live; each has one, and a new one as soon as that has died. */
export class Machines {
  readonly #isolates: SimIsolate[];
  readonly #random: Prng;
  readonly #timeline: Timeline;
  readonly #whenDead: () => void;
  #made = 0;

  constructor(count: number, random: Prng, timeline: Timeline, whenDead: () => void) {
    this.#random = random;
    this.#timeline = timeline;
    this.#whenDead = whenDead;
    this.#isolates = Array.from({ length: count }, () => this.fresh());
  }

  any(): SimIsolate {
    const at = this.#random.between(0, this.#isolates.length - 1);
    const isolate = this.#isolates[at];
    if (isolate?.alive === true) return isolate;
    const next = this.fresh();
    this.#isolates[at] = next;
    return next;
  }

  /** One that nobody else is in. */
  fresh(): SimIsolate {
    this.#made += 1;
    const skew = this.#random.between(-MAX_SKEW_MS, MAX_SKEW_MS);
    const isolate = new SimIsolate(`isolate-${String(this.#made)}`, skew, this.#timeline);
    isolate.onDeath(this.#whenDead);
    return isolate;
  }
}

/** One call of the product from outside: a request, a batch, a tick. */
export class Invocation {
  readonly name: string;
  #cancelled = false;
  readonly #whenCancelled: () => void;
  readonly isolate: SimIsolate;
  /** The claim of each job as the last answer to a claim told it. */
  readonly won = new Map<string, number>();
  /** When a claim that named a job was last answered in time. */
  readonly answered = new Map<string, number>();

  constructor(name: string, isolate: SimIsolate, whenCancelled: () => void) {
    this.name = name;
    this.isolate = isolate;
    this.#whenCancelled = whenCancelled;
  }

  get alive(): boolean {
    return this.isolate.alive && !this.#cancelled;
  }

  /** It has used up what one call may use: it ends between two awaits, and its isolate goes on without it. */
  cancel(): void {
    if (!this.alive) return;
    this.#cancelled = true;
    this.#whenCancelled();
  }

  after(milliseconds: number, run: () => void): Event {
    return this.isolate.after(milliseconds, () => {
      if (!this.#cancelled) run();
    });
  }
}
