// Virtual time: a heap of events, and a loop that runs one after the other with everything that follows from each.

export interface Event {
  readonly at: number;
  readonly order: number;
  /** undefined: cancelled. */
  run: (() => void) | undefined;
}

export class Timeline {
  #now: number;
  #order = 0;
  #heap: Event[] = [];
  /** Events that ran. */
  steps = 0;

  constructor(now: number) {
    this.#now = now;
  }

  get now(): number {
    return this.#now;
  }

  /** At a whole millisecond, as timers fire. */
  at(time: number, run: () => void): Event {
    const event: Event = { at: Math.max(Math.ceil(time), this.#now), order: this.#order++, run };
    this.#push(event);
    return event;
  }

  after(milliseconds: number, run: () => void): Event {
    return this.at(this.#now + milliseconds, run);
  }

  /** Resolves after virtual `milliseconds`, whatever becomes of any isolate. */
  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => void this.after(milliseconds, resolve));
  }

  /** Runs events until none is left or `over` says so, which is asked before each. */
  run(over: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = (): void => {
        try {
          if (over() || !this.#step()) {
            resolve();
            return;
          }
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        // Ticks run when no microtask is left, and this one is asked for by a microtask: whatever follows from the
        // event, however many promises deep, has happened before the next one.
        queueMicrotask(() => {
          process.nextTick(turn);
        });
      };
      process.nextTick(turn);
    });
  }

  #step(): boolean {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return false;
      const { run } = event;
      if (run === undefined) continue;
      this.#now = event.at;
      this.steps += 1;
      run();
      return true;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isEarlier(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || first === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      const left = heap[2 * at + 1];
      const right = heap[2 * at + 2];
      if (left === undefined) break;
      const below = right !== undefined && isEarlier(right, left) ? right : left;
      if (!isEarlier(below, last)) break;
      heap[at] = below;
      at = below === left ? 2 * at + 1 : 2 * at + 2;
    }
    heap[at] = last;
    return first;
  }
}

function isEarlier(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
