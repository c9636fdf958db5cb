// The local runner's pieces: its settings, its secrets, its database, and the wrangler it starts.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

// No outside world, and no trace store: it costs a third of the requests per second.
const QUIET = { WRANGLER_SEND_METRICS: 'false', CLOUDFLARE_CF_FETCH_ENABLED: 'false', X_LOCAL_OBSERVABILITY: 'false' };

const root = join(import.meta.dirname, '..');
const wrangler = join(root, 'node_modules', 'wrangler', 'bin', 'wrangler.js');

/** What `.dev.vars` holds, each with how a missing one is made. */
const SETTINGS = {
  ADMIN_API_KEY: () => `lovage_${randomBytes(24).toString('base64url')}`,
  GITHUB_WEBHOOK_SECRET: () => randomBytes(24).toString('base64url'),
  DEBUG_TASKS: () => '1',
};
/** Read from the environment where it has them, never made. */
const OPTIONAL = ['GITHUB_WEBHOOK_SECRET_PREVIOUS'];

/** Reads `.dev.vars`, adds what is missing, and lets the environment win. Returns every setting by name. */
export async function readSettings(environment) {
  const file = join(root, '.dev.vars');
  const text = await readFile(file, 'utf8').catch(() => '');
  const stored = parseVars(text);
  const missing = Object.entries(SETTINGS).filter(([name]) => stored[name] === undefined);
  if (missing.length > 0) {
    const lines = missing.map(([name, make]) => `${name}="${(stored[name] = make())}"`);
    const before = text === '' || text.endsWith('\n') ? text : `${text}\n`;
    await writeFile(file, `${before}${lines.join('\n')}\n`, { mode: 0o600 });
  }
  const known = new Set([...Object.keys(stored), ...Object.keys(SETTINGS), ...OPTIONAL]);
  const given = Object.fromEntries(
    [...known].filter((name) => environment[name]).map((name) => [name, environment[name]]),
  );
  return { ...stored, ...given };
}

function parseVars(text) {
  const lines = text.split('\n').map((line) => /^\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line));
  return Object.fromEntries(lines.filter((match) => match !== null).map(([, name, value]) => [name, unquote(value)]));
}

function unquote(value) {
  return /^(["']).*\1$/.test(value) ? value.slice(1, -1) : value;
}

/** Writes settings where only wrangler's own process reads them: not on its command line. */
export async function writeEnvFile(state, settings) {
  await mkdir(state, { recursive: true });
  const file = join(state, 'settings.env');
  const lines = Object.entries(settings).map(([name, value]) => `${name}="${value}"`);
  await writeFile(file, `${lines.join('\n')}\n`, { mode: 0o600 });
  await chmod(file, 0o600);
  return file;
}

/** Starts wrangler in this process group, on the Node that runs this. */
export function startWrangler(args, stdio) {
  const env = { ...process.env, ...QUIET };
  return spawn(process.execPath, [wrangler, ...args], { cwd: root, env, stdio });
}

/** Runs wrangler to its end; rejects with what it printed where it fails. */
export function runWrangler(args) {
  return new Promise((resolve, reject) => {
    const child = startWrangler(args, ['ignore', 'pipe', 'pipe']);
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('exit', (code) =>
      code === 0 ? resolve(output) : reject(new Error(`wrangler ${args.join(' ')} ended with ${code}:\n${output}`)),
    );
  });
}
