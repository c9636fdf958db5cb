/** Uniform in [0, 1). */
export type Chance = () => number;

export function between(chance: Chance, from: number, to: number): number {
  return from + chance() * (to - from);
}
