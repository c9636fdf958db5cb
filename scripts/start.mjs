// npm start: the whole system on this machine. One command, nothing to install or set.
//   PORT (8787)   PERSIST_TO (.wrangler/state)   LOG_LEVEL (warn; info shows every job)   and every name in .dev.vars: the environment wins over the file

import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { readSettings, runWrangler, startWrangler, writeEnvFile } from './local.mjs';

const TICK_EVERY_MS = 10_000;
const READY_WITHIN_MS = 90_000;

const port = process.env.PORT ?? '8787';
const state = resolve(process.env.PERSIST_TO ?? '.wrangler/state');
const address = `http://127.0.0.1:${port}`;

let stopping = false;
let server;

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop);

await main();

async function main() {
  const settings = await readSettings(process.env);
  // Its queues begin empty: the first tick of a new boot owes every open job a message.
  const envFile = await writeEnvFile(state, { ...settings, BOOT_ID: randomUUID() });
  await runWrangler(['d1', 'migrations', 'apply', 'DB', '--local', '--persist-to', state]);
  if (stopping) process.exit(0);
  server = startWrangler(
    [
      'dev',
      '--port',
      port,
      '--ip',
      '127.0.0.1',
      '--inspector-port',
      '0',
      '--persist-to',
      state,
      '--env-file',
      envFile,
    ].concat(['--log-level', process.env.LOG_LEVEL ?? 'warn', '--show-interactive-dev-session=false']),
    ['ignore', 'inherit', 'inherit'],
  );
  server.on('exit', (code) => process.exit(stopping ? 0 : (code ?? 1)));
  await untilReady();
  await tick();
  announce(settings);
  setInterval(tick, TICK_EVERY_MS);
}

async function untilReady() {
  const giveUpAt = Date.now() + READY_WITHIN_MS;
  while (!stopping) {
    const live = await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    if (live?.ok) return;
    if (Date.now() > giveUpAt) fail(`Nothing answers on ${address}.`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

// Locally a cron trigger never fires by itself.
async function tick() {
  const url = `${address}/cdn-cgi/local/scheduled?cron=${encodeURIComponent('* * * * *')}`;
  const fired = await fetch(url, { signal: AbortSignal.timeout(60_000) }).catch((error) => ({ ok: false, error }));
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

function stop() {
  if (stopping) return;
  stopping = true;
  if (server === undefined) process.exit(0);
  server.kill('SIGTERM');
}

function fail(message) {
  console.error(message);
  server?.kill('SIGTERM');
  process.exitCode = 1;
  stopping = true;
}
