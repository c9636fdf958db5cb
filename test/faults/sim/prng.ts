// The one source of chance of a simulated seed.

import type { Randomness } from '../../../src/core/ports.ts';
import { mulberry32 } from '../../mulberry32.ts';

/** The draws a simulator needs. */
export class Prng implements Randomness {
  readonly fraction: () => number;

  constructor(seed: number) {
    this.fraction = mulberry32(Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b);
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => Math.floor(this.fraction() * 256));
  }

  chance(probability: number): boolean {
    return probability > 0 && this.fraction() < probability;
  }

  /** A whole number, both ends included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.fraction() * (high - low + 1));
  }

  pick<T>(from: readonly T[]): T {
    const [picked] = from.slice(this.between(0, from.length - 1));
    if (picked === undefined) throw new Error('There is nothing to pick from.');
    return picked;
  }

  /** Takes `count` of them out, in an order of its own. */
  take<T>(from: T[], count: number): T[] {
    return Array.from({ length: count }, () => from.splice(this.between(0, from.length - 1), 1)).flat();
  }

  /** A generator of its own, so that what it decides does not hang on how often the others are asked. */
  fork(): Prng {
    return new Prng(Math.floor(this.fraction() * 4_294_967_296));
  }
}
