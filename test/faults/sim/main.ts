// The simulator as a command:
//   node test/faults/sim/main.ts --seeds 500 [--from 1] [--threads 2] [--mutant NAME]
//   node test/faults/sim/main.ts --seed 17 [--trace] [--lines 60] [--mutant NAME]

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { installMutant } from './mutants.ts';
import { add, noTotals, textOf, totalsOf, type Totals } from './report.ts';
import type { Message, Share } from './thread.ts';
import { clock } from './trace.ts';
import type { Violation } from './violation.ts';

const TRACE_LINES = 60;

const { values: given } = parseArgs({
  options: {
    seeds: { type: 'string', default: '500' },
    from: { type: 'string', default: '1' },
    threads: { type: 'string', default: '2' },
    seed: { type: 'string' },
    lines: { type: 'string', default: String(TRACE_LINES) },
    trace: { type: 'boolean', default: false },
    hash: { type: 'boolean', default: false },
    mutant: { type: 'string' },
  },
});

interface Red {
  readonly seed: number;
  readonly violation: Violation;
}

async function main(): Promise<number> {
  const began = performance.now();
  const { seed, mutant } = given;
  if (seed !== undefined) return runOne(Number(seed), mutant);
  const from = Number(given.from);
  const { totals, red } = await runMany(from, from + Number(given.seeds) - 1, Number(given.threads), mutant);
  console.log(textOf(totals, (performance.now() - began) / 1_000));
  console.log(`violations  ${red === undefined ? '0' : '1 (the first stops everything)'}`);
  if (red === undefined) return 0;
  console.log(`\n${describe(red)}\n`);
  await runOne(red.seed, mutant);
  return 1;
}

/** Every thread takes each n-th seed; the first violation ends them all. */
async function runMany(
  from: number,
  to: number,
  threads: number,
  mutant: string | undefined,
): Promise<{ totals: Totals; red: Red | undefined }> {
  const totals = noTotals();
  const reds: Red[] = [];
  const workers = Array.from({ length: threads }, (_, at) => {
    const share: Share = { from: from + at, to, step: threads, mutant };
    return new Worker(join(import.meta.dirname, 'thread.ts'), { workerData: share });
  });
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          worker.on('error', reject);
          worker.on('exit', () => {
            resolve();
          });
          worker.on('message', (message: Message) => {
            if (message.kind === 'totals') add(totals, message.totals);
            else {
              reds.push({ seed: message.seed, violation: message.violation });
              for (const other of workers) if (other !== worker) void other.terminate();
            }
          });
        }),
    ),
  );
  return { totals, red: reds.sort((a, b) => a.seed - b.seed)[0] };
}

/** One seed in this thread, with its trace where it is asked for or something is wrong. */
async function runOne(seed: number, mutant: string | undefined): Promise<number> {
  if (mutant !== undefined) installMutant(mutant);
  const { runSeed } = await import('./seed.ts');
  const began = performance.now();
  const report = await runSeed(seed, { trace: given.trace ? Number.MAX_SAFE_INTEGER : Number(given.lines) });
  const { violation, trace } = report;
  if (given.trace || violation !== undefined) for (const line of trace?.lines ?? []) console.log(line);
  if (given.hash) console.log(`trace ${trace?.hash ?? ''}`);
  const totals = noTotals();
  add(totals, totalsOf(report));
  if (given.seed !== undefined) console.log(textOf(totals, (performance.now() - began) / 1_000));
  if (violation === undefined) return 0;
  console.log(`\n${describe({ seed, violation })}`);
  return 1;
}

function describe({ seed, violation }: Red): string {
  const { invariant, job, text, at } = violation;
  const mutant = given.mutant === undefined ? '' : ` --mutant ${given.mutant}`;
  return [
    `seed ${String(seed)} broke "${invariant}" at ${clock(at)}: ${text}`,
    `job ${job ?? '(none)'}`,
    `again: node test/faults/sim/main.ts --seed ${String(seed)} --trace${mutant}`,
  ].join('\n');
}

process.exitCode = await main();
