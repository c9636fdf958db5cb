// npm start: the whole system on this machine. One command, nothing to install or set.
//   PORT (8787)   PERSIST_TO (.wrangler/state)   LOG_LEVEL (warn; info shows every job)   WATCH (1; 0: edits are not served)
//   and every name in .dev.vars: the environment wins over the file

import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { killStrays, leaveNothingBehind, makeSettings, readSettings, runWrangler, WranglerError } from './local.mjs';
import { bundle, serve, watchSources } from './serve.mjs';

const TICK_EVERY_MS = 10_000;
/** Longer than any tick takes. A new one is fired only when the last has answered, or will not any more. */
const TICK_WITHIN_MS = 280_000;
/** How long a migration has to end by itself. Whoever ends us may well kill us 5 s after asking. */
const END_WITHIN_MS = 3_000;

const port = process.env.PORT || '8787';
const state = resolve(process.env.PERSIST_TO || '.wrangler/state');
const logLevel = process.env.LOG_LEVEL || 'warn';
const address = `http://127.0.0.1:${port}`;

/** What a person can put right: said without a stack. */
class Refusal extends Error {}

/** The one command that should not be cut short. */
let migration;
let stopping = false;

process.on('exit', killStrays);
leaveNothingBehind();
// Asked twice, it does not wait for anybody.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => (stopping ? process.exit(0) : end(0)));
process.on('uncaughtException', fail);
endWithNpm();

await main().catch(fail);

async function main() {
  refuseOldNode();
  await refuseTakenPort();
  await makeSettings();
  const settings = await readSettings(process.env);
  await mkdir(state, { recursive: true });
  const folder = join(state, 'bundle');
  const [script] = await Promise.all([bundle(folder), migrate()]);
  if (stopping) return;
  // Its queues begin empty: the first tick of a new boot owes every open job a message.
  const bindings = { ...settings, BOOT_ID: randomUUID() };
  const server = await serve({ script, port: Number(port), state, settings: bindings, logLevel });
  await tick();
  if (stopping) return;
  announce(settings);
  if (process.env.WATCH !== '0') watchSources(() => reload(server, folder));
  await tickOnAndOn();
}

function migrate() {
  return runWrangler(['d1', 'migrations', 'apply', 'DB', '--local', '--persist-to', state], (child) => {
    migration = child;
    child.on('exit', () => (migration = undefined));
  });
}

function refuseOldNode() {
  const [major] = process.versions.node.split('.').map(Number);
  if (major < 22)
    throw new Refusal(`wrangler needs Node 22 or newer, this is ${process.version}; npm start brings its own.`);
}

async function refuseTakenPort() {
  const wanted = Number(port);
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > 65_535) {
    throw new Refusal(`PORT is ${JSON.stringify(port)}; it must be a number from 1 to 65535.`);
  }
  const probe = createServer();
  await new Promise((free, taken) => {
    probe.once('error', taken);
    probe.listen(wanted, '127.0.0.1', free);
  }).catch((error) => {
    const why =
      error.code === 'EADDRINUSE' ? 'is taken: something listens there already' : `cannot be used (${error.code})`;
    throw new Refusal(`Port ${port} ${why}. Choose another one, for example: PORT=${(wanted % 65_535) + 1} npm start`);
  });
  await new Promise((closed) => probe.close(closed));
}

async function reload(server, folder) {
  await bundle(folder);
  if (stopping) return;
  await server.restart();
  console.log('The sources changed: the Worker is a new one.');
}

async function tickOnAndOn() {
  for (let firedAt = Date.now(); !stopping; await tick()) {
    await sleep(firedAt + TICK_EVERY_MS - Date.now());
    firedAt = Date.now();
  }
}

// Locally a cron trigger never fires by itself.
async function tick() {
  if (stopping) return;
  const cron = encodeURIComponent('* * * * *');
  const problem = await ask(`/cdn-cgi/local/scheduled?cron=${cron}`, TICK_WITHIN_MS);
  if (problem !== undefined && !stopping) console.error(`The tick failed: ${problem}`);
}

/** What is wrong with the answer to a GET; undefined where it is good. */
async function ask(path, withinMs) {
  try {
    const answer = await fetch(`${address}${path}`, { signal: AbortSignal.timeout(withinMs) });
    const text = await answer.text();
    return answer.ok ? undefined : `HTTP ${answer.status}: ${text.slice(0, 500)}`;
  } catch (error) {
    return error.cause?.message ?? error.message;
  }
}

function announce({ ADMIN_API_KEY: key }) {
  console.log(`
Lovage is ready.
  API        ${address}/api/v1
  Health     ${address}/health
  Admin key  ${key}

  curl -X POST ${address}/api/v1/jobs -H "Authorization: Bearer ${key}" \\
    -H "Content-Type: application/json" -d '{"task": "debug_task", "input": {"hello": "world"}}'
`);
}

function fail(error) {
  // What breaks because we are ending is no news.
  if (stopping) return;
  console.error(error instanceof Refusal || error instanceof WranglerError ? error.message : error);
  end(1);
}

/** Ends with `code`. Everything started here dies with us; only the migration may bring itself to an end. */
function end(code) {
  stopping = true;
  if (migration === undefined) process.exit(code);
  migration.on('exit', () => process.exit(code));
  migration.kill('SIGTERM');
  setTimeout(() => process.exit(code), END_WITHIN_MS);
}

/** npm gives its signals to a shell, which dies of them and tells nobody: the sign is that our parent is another. */
function endWithNpm() {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || stopping || end(0), 250).unref();
}

function sleep(milliseconds) {
  return new Promise((wake) => setTimeout(wake, Math.max(0, milliseconds)));
}
