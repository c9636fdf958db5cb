// Runs one seed and says what came of it.

import { Sqlite } from './sqlite.ts';
import type { FaultKind, Weather } from './faults.ts';
import type { Violation } from './violation.ts';
import { World } from './world.ts';

export interface SeedReport {
  readonly seed: number;
  readonly weather: Weather;
  readonly violation: Violation | undefined;
  readonly jobs: number;
  readonly runs: number;
  /** Jobs, killers left out, whose handler was started more than once for one attempt. */
  readonly doubleRuns: number;
  readonly blindStarts: number;
  readonly killed: number;
  readonly convergedAfterMs: number;
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly steps: number;
  /** Only where it was asked for. */
  readonly trace: { readonly hash: string; readonly lines: readonly string[] } | undefined;
}

let sqlite: Sqlite | undefined;

export async function runSeed(seed: number, options: { readonly trace?: number } = {}): Promise<SeedReport> {
  sqlite ??= new Sqlite();
  const world = new World(seed, sqlite, options.trace !== undefined);
  const { log, error } = console;
  const keep = (line: unknown): void => {
    world.note(
      () => String(line).match(/[0-9a-f]{8}-[0-9a-f-]{27}/g) ?? [],
      () => `    log ${String(line)}`,
    );
  };
  console.log = keep;
  console.error = keep;
  try {
    await world.run();
  } finally {
    console.log = log;
    console.error = error;
  }
  return reportOf(seed, world, options.trace);
}

function reportOf(seed: number, world: World, lines: number | undefined): SeedReport {
  const { ledger, violation, faults } = world;
  const jobs = [...ledger.jobs.values()];
  return {
    seed,
    weather: faults.weather,
    violation,
    jobs: jobs.length,
    runs: ledger.leases.runs.length,
    doubleRuns: jobs.filter(({ row, n }) => world.planOf(n).behaviour.kind !== 'kill' && ranTwice(world, row.id))
      .length,
    blindStarts: ledger.leases.blindStarts,
    killed: world.killed,
    convergedAfterMs: world.convergedAfter,
    faults: faults.counts,
    steps: world.timeline.steps,
    trace:
      lines === undefined ? undefined : { hash: world.trace.hash(), lines: world.trace.tail(violation?.job, lines) },
  };
}

function ranTwice(world: World, job: string): boolean {
  const attempts = world.ledger.leases
    .runsFor(job)
    .filter(({ end }) => end !== 'deferred')
    .map(({ attempt }) => attempt);
  return new Set(attempts).size < attempts.length;
}
