// What happened in a seed, line by line. Kept only where somebody wants to read it; the same seed gives the same lines.

import { createHash } from 'node:crypto';

interface Line {
  readonly text: string;
  readonly jobs: readonly string[];
}

export class Trace {
  readonly on: boolean;
  readonly #lines: Line[] = [];
  readonly #start: number;

  constructor(on: boolean, start: number) {
    this.on = on;
    this.#start = start;
  }

  /** `text` is only made where somebody reads it. */
  note(now: number, jobs: readonly string[], text: () => string): void {
    if (!this.on) return;
    this.#lines.push({ text: `${clock(now - this.#start)} ${text()}`, jobs });
  }

  /** The last lines that name a job, or the last of all. */
  tail(job: string | undefined, count: number): readonly string[] {
    const of = job === undefined ? this.#lines : this.#lines.filter(({ jobs }) => jobs.includes(job));
    return of.slice(-count).map(({ text }) => text);
  }

  hash(): string {
    const hash = createHash('sha256');
    for (const { text } of this.#lines) hash.update(text).update('\n');
    return hash.digest('hex');
  }
}

/** Virtual time since the seed began: `07:12.345`. */
export function clock(milliseconds: number): string {
  const minutes = String(Math.floor(milliseconds / 60_000)).padStart(2, '0');
  const seconds = ((milliseconds % 60_000) / 1_000).toFixed(3).padStart(6, '0');
  return `${minutes}:${seconds}`;
}
