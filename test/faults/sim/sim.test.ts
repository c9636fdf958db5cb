import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MUTANTS, withoutGuard } from './mutants.ts';

const ROOT = join(import.meta.dirname, '../../..');
const NODE = join(ROOT, 'node_modules/.bin/node');
const MINUTE_MS = 60_000;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** Runs the simulator's command to its end. */
function simulate(...args: string[]): Promise<Ended> {
  const child = spawn(NODE, [join(import.meta.dirname, 'main.ts'), ...args], { cwd: ROOT, timeout: 3 * MINUTE_MS });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      resolve({ code, output });
    });
  });
}

describe('the simulator', () => {
  it('gives the same trace for the same seed', { timeout: MINUTE_MS }, async () => {
    const runs = await Promise.all([simulate('--seed', '7', '--hash'), simulate('--seed', '7', '--hash')]);
    const hashes = runs.map(({ output }) => /^trace [0-9a-f]{64}$/m.exec(output)?.[0]);
    expect(hashes[0]).toBeDefined();
    expect(hashes[1]).toBe(hashes[0]);
  });

  it('finds no broken promise in 500 seeds', { timeout: 4 * MINUTE_MS }, async () => {
    const { code, output } = await simulate('--seeds', '500');
    process.stdout.write(output);
    expect(output).toContain('violations  0');
    expect(code).toBe(0);
  });

  it.each([
    'claim-takes-started',
    'claim-not-idempotent',
    'letter-not-guarded',
    'requeue-not-guarded',
    'no-lease-recovery',
    'claim-beside-another-run',
    'end-lets-nobody-run',
    'change-leaves-the-old',
  ])('turns red without a guard: %s', { timeout: 3 * MINUTE_MS }, async (mutant) => {
    const { code, output } = await simulate('--seeds', '300', '--lines', '0', '--mutant', mutant);
    expect(output).toMatch(/^seed \d+ broke /m);
    expect(code).toBe(1);
  });

  it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('has a guard to take out: %s', (_name, mutant) => {
    const text = readFileSync(join(ROOT, 'src', mutant.file), 'utf8');
    expect(withoutGuard(mutant, text)).not.toBe(text);
  });
});
