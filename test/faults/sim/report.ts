// What many seeds came to, as numbers that add up.

import { FAULT_KINDS, type FaultKind } from './faults.ts';
import type { SeedReport } from './seed.ts';

export interface Totals {
  seeds: number;
  jobs: number;
  runs: number;
  doubleRuns: number;
  blindStarts: number;
  killed: number;
  steps: number;
  slowestMs: number;
  readonly weathers: Record<string, number>;
  readonly faults: Partial<Record<FaultKind, number>>;
}

export function noTotals(): Totals {
  return {
    seeds: 0,
    jobs: 0,
    runs: 0,
    doubleRuns: 0,
    blindStarts: 0,
    killed: 0,
    steps: 0,
    slowestMs: 0,
    weathers: {},
    faults: {},
  };
}

export function totalsOf(report: SeedReport): Totals {
  const { weather, faults, convergedAfterMs, jobs, runs, doubleRuns, blindStarts, killed, steps } = report;
  return {
    seeds: 1,
    jobs,
    runs,
    doubleRuns,
    blindStarts,
    killed,
    steps,
    slowestMs: convergedAfterMs,
    weathers: { [weather]: 1 },
    faults: Object.fromEntries(faults),
  };
}

export function add(to: Totals, more: Totals): void {
  to.seeds += more.seeds;
  to.jobs += more.jobs;
  to.runs += more.runs;
  to.doubleRuns += more.doubleRuns;
  to.blindStarts += more.blindStarts;
  to.killed += more.killed;
  to.steps += more.steps;
  to.slowestMs = Math.max(to.slowestMs, more.slowestMs);
  for (const [weather, count] of Object.entries(more.weathers)) {
    to.weathers[weather] = (to.weathers[weather] ?? 0) + count;
  }
  for (const kind of FAULT_KINDS) {
    const count = more.faults[kind];
    if (count !== undefined) to.faults[kind] = (to.faults[kind] ?? 0) + count;
  }
}

export function textOf(totals: Totals, seconds: number): string {
  const per = (count: number, of: number): string => `${((100 * count) / Math.max(1, of)).toFixed(2)} %`;
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${String(count)}`)
      .join(', ');
  return [
    `seeds       ${String(totals.seeds)} in ${seconds.toFixed(1)} s (${(totals.seeds / seconds).toFixed(1)}/s): ${list(totals.weathers)}`,
    `jobs        ${String(totals.jobs)}, handlers started ${String(totals.runs)}, isolates ended by killers ${String(totals.killed)}`,
    `run twice   ${String(totals.doubleRuns)} jobs (${per(totals.doubleRuns, totals.jobs)}); started without a lease ${String(totals.blindStarts)}`,
    `all final   ${(totals.slowestMs / 60_000).toFixed(1)} virtual minutes after the last fault, in the slowest seed`,
    `faults      ${list(totals.faults)}`,
  ].join('\n');
}
