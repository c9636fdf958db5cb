import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { QUEUE_NAMES } from '../../src/queues.ts';

const run = promisify(execFile);
const environment = { ...process.env, WRANGLER_SEND_METRICS: 'false', CI: 'true' };

async function node(...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, args, { env: environment, timeout: 100_000 });
  return stdout;
}

test('INV-F61 deploy: the dry run passes, and binds every queue, dead-letter queue and store', async () => {
  const printed = await node('scripts/deploy.mjs', '--dry-run');
  for (const queue of QUEUE_NAMES) {
    const binding = queue.toUpperCase().replaceAll('-', '_');
    expect(printed).toContain(`env.QUEUE_${binding} (${queue})`);
    expect(printed).toContain(`env.DLQ_${binding} (${queue}-dlq)`);
  }
  for (const binding of ['DB', 'RESULTS', 'OBJECTS', 'REPLAY_GUARD', 'JOB_STREAM'])
    expect(printed).toContain(`env.${binding}`);
});

test('INV-F61 deploy: the migrations apply to an empty database, and once', async () => {
  const state = await mkdtemp(join(tmpdir(), 'lovage-migrations-'));
  const migrate = [
    'node_modules/wrangler/bin/wrangler.js',
    'd1',
    'migrations',
    'apply',
    'DB',
    '--local',
    '--persist-to',
    state,
  ];
  try {
    expect(await node(...migrate)).toContain('0001_jobs.sql');
    expect(await node(...migrate)).toContain('No migrations to apply');
  } finally {
    await rm(state, { recursive: true, force: true });
  }
});
