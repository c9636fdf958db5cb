// Cron libraries and ours against a clock on the wall (test/core/wall-clock.ts), side by side. `npm run bench:cron`; takes
// some minutes. With names of candidates, only those.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { CANDIDATES } from './candidates.mjs';
import { NONSENSE, RARE } from './cases.mjs';

const RARE_DEADLINE_MS = 20_000;
const DEADLINE_MS = 20 * 60_000;

const chosen = process.argv.slice(2);
for (const { name, zoned } of CANDIDATES) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const size = measured(name, 'size');
  console.log(`\n## ${name} ${size.version ?? ''}`);
  if (size.version !== undefined) {
    const dependencies = size.dependencies.join(', ') || 'none';
    console.log(`size: ${size.installedKb} KB installed, ${size.bundledKb} KB bundled; dependencies: ${dependencies}`);
  }
  const { cases, agree, ...rest } = measured(name, 'calendar');
  console.log(`calendar in UTC: ${agree} of ${cases} random patterns agree; ${JSON.stringify(rest)}`);
  if (zoned) {
    const { cases, agree, named, everyHour, ...rest } = measured(name, 'clocks');
    console.log(`clocks that change: ${agree} of ${cases} cases agree; ${JSON.stringify(rest)}`);
    console.log(`  others, hours named: ${JSON.stringify(named)}`);
    console.log(`  others, every hour: ${JSON.stringify(everyHour)}`);
  }
  const { taken } = measured(name, 'nonsense');
  console.log(
    `nonsense: ${NONSENSE.length - taken.length} of ${NONSENSE.length} refused; taken: ${JSON.stringify(taken)}`,
  );
  for (const cron of RARE) {
    const { answer, ms } = measured(name, 'rare', cron);
    console.log(`rare (${cron}): ${answer}${ms === undefined ? '' : `, ${ms} ms`}`);
  }
  const speed = Object.entries(measured(name, 'speed')).map(([what, us]) => `${what} ${us}`);
  console.log(`µs: ${speed.join(', ')}`);
}

function measured(name, part, ...more) {
  const timeout = part === 'rare' ? RARE_DEADLINE_MS : DEADLINE_MS;
  const run = spawnSync(process.execPath, [join(import.meta.dirname, 'measure.mjs'), name, part, ...more], {
    env: { ...process.env, TZ: 'UTC' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout,
  });
  if (part === 'rare' && run.status !== 0) return { answer: `no answer within ${timeout / 1_000} s` };
  if (run.status !== 0) throw new Error(`${name} ${part}: ${run.signal ?? run.status}`);
  return JSON.parse(run.stdout);
}
