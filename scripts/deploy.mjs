// npm run deploy: migrations by binding name, then the Worker. What it needs is made by the first deploy.
// Arguments go on to `wrangler deploy`; with --dry-run nothing leaves this machine.

import { runWrangler, WranglerError } from './local.mjs';

const args = process.argv.slice(2);
const migrate = () => runWrangler(['d1', 'migrations', 'apply', 'DB', '--remote']);

try {
  await deploy();
} catch (error) {
  console.error(error instanceof WranglerError ? error.message : error);
  process.exitCode = 1;
}

async function deploy() {
  if (args.includes('--dry-run')) {
    console.log(await runWrangler(['deploy', ...args]));
    return;
  }
  const databases = JSON.parse(await runWrangler(['d1', 'list', '--json']));
  const exists = databases.some(({ name }) => name === 'lovage');
  // New code never runs on an old schema, except for the moment in which there is no database at all.
  if (exists) console.log(await migrate());
  console.log(await runWrangler(['deploy', ...args]));
  if (!exists) console.log(await migrate());
}
