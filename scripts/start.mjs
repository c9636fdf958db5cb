// npm start: the whole system on this machine. One command, nothing to install or set.
//   PORT (8787)   PERSIST_TO (.wrangler/state)   LOG_LEVEL (warn; info shows every job)   and every name in .dev.vars: the environment wins over the file

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import {
  killStrays,
  makeSettings,
  readSettings,
  runWrangler,
  startWrangler,
  WranglerError,
  writeEnvFile,
} from './local.mjs';

const TICK_EVERY_MS = 10_000;
const READY_WITHIN_MS = 90_000;
/** How long wrangler has to end by itself. Whoever ends us may well kill us 5 s after asking. */
const END_WITHIN_MS = 3_500;
/** Longer than any tick takes. A new one is fired only when the last has answered, or will not any more. */
const TICK_WITHIN_MS = 280_000;

const port = process.env.PORT || '8787';
const state = resolve(process.env.PERSIST_TO || '.wrangler/state');
const address = `http://127.0.0.1:${port}`;

/** What a person can put right: said without a stack. */
class Refusal extends Error {}

/** The wrangler that runs now: first the one that migrates, then the one that serves. */
let running;
let stopping = false;

process.on('exit', killStrays);
// Asked twice, it does not wait for anybody.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => (stopping ? process.exit(0) : end(0)));
process.on('uncaughtException', fail);

await main().catch(fail);

async function main() {
  await refuseTakenPort();
  await makeSettings();
  const settings = await readSettings(process.env);
  // Its queues begin empty: the first tick of a new boot owes every open job a message.
  const envFile = await writeEnvFile(state, { ...settings, BOOT_ID: randomUUID() });
  if (stopping) return;
  await runWrangler(
    ['d1', 'migrations', 'apply', 'DB', '--local', '--persist-to', state],
    (child) => (running = child),
  );
  if (stopping) return;
  serve(envFile);
  await untilReady();
  await tick();
  if (stopping) return;
  announce(settings);
  await tickOnAndOn();
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
      error.code === 'EADDRINUSE' ? 'is taken: something else listens there' : `cannot be used (${error.code})`;
    throw new Refusal(`Port ${port} ${why}. Choose another, for example: PORT=${(wanted % 65_535) + 1} npm start`);
  });
  await new Promise((closed) => probe.close(closed));
}

function serve(envFile) {
  const where = ['--port', port, '--ip', '127.0.0.1', '--inspector-port', '0', '--persist-to', state];
  const how = ['--env-file', envFile, '--log-level', process.env.LOG_LEVEL || 'warn'];
  // A registry of its own: two instances are two Workers of one name.
  const environment = { WRANGLER_REGISTRY_PATH: join(state, 'registry') };
  running = startWrangler(
    ['dev', ...where, ...how, '--show-interactive-dev-session=false'],
    ['ignore', 'inherit', 'inherit'],
    environment,
  );
  running.on('error', fail);
  running.on('exit', (code, signal) => {
    if (!stopping) fail(new Refusal(`wrangler ended by itself (${signal ?? code}); what it said is above.`));
  });
}

async function untilReady() {
  const giveUpAt = Date.now() + READY_WITHIN_MS;
  while (!stopping) {
    const live = await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    if (live?.ok) return;
    if (Date.now() > giveUpAt) throw new Refusal(`Nothing answers on ${address} after ${READY_WITHIN_MS / 1_000} s.`);
    await sleep(100);
  }
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
  const url = `${address}/cdn-cgi/local/scheduled?cron=${encodeURIComponent('* * * * *')}`;
  const fired = await fetch(url, { signal: AbortSignal.timeout(TICK_WITHIN_MS) }).catch((error) => ({ error }));
  await fired.body?.cancel();
  if (!fired.ok && !stopping) console.error(`The tick failed: ${fired.error?.message ?? `HTTP ${fired.status}`}`);
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

/** Ends with `code` as soon as wrangler has: what it leaves behind dies with us. */
function end(code) {
  stopping = true;
  if (running === undefined || running.exitCode !== null || running.signalCode !== null) process.exit(code);
  running.on('exit', () => process.exit(code));
  running.kill('SIGTERM');
  setTimeout(() => process.exit(code), END_WITHIN_MS);
}

function sleep(milliseconds) {
  return new Promise((wake) => setTimeout(wake, Math.max(0, milliseconds)));
}
