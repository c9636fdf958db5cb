// One thread of the simulator: every n-th seed, one after another, until one is red.

import { parentPort, workerData } from 'node:worker_threads';
import { installMutant } from './mutants.ts';
import { add, noTotals, totalsOf, type Totals } from './report.ts';
import type { Violation } from './violation.ts';

export interface Share {
  readonly from: number;
  readonly to: number;
  readonly step: number;
  readonly mutant: string | undefined;
}

export type Message =
  | { readonly kind: 'totals'; readonly totals: Totals }
  | { readonly kind: 'violation'; readonly seed: number; readonly violation: Violation };

const EVERY = 20;

async function work({ from, to, step, mutant }: Share): Promise<void> {
  if (mutant !== undefined) installMutant(mutant);
  // Only now, so that the mutant is in place before anything of src/ is read.
  const { runSeed } = await import('./seed.ts');
  let totals = noTotals();
  const post = (message: Message): void => {
    parentPort?.postMessage(message);
  };
  for (let seed = from; seed <= to; seed += step) {
    const report = await runSeed(seed);
    add(totals, totalsOf(report));
    if (report.violation !== undefined) post({ kind: 'violation', seed, violation: report.violation });
    if (totals.seeds >= EVERY || seed + step > to || report.violation !== undefined) {
      post({ kind: 'totals', totals });
      totals = noTotals();
    }
    if (report.violation !== undefined) return;
  }
}

await work(workerData as Share);
