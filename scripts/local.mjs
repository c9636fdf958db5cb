// The local runner's pieces: its settings, its secrets, its database, and the wrangler it starts.

import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnv } from 'node:util';

// No outside world: the banner asks for newer versions, and Miniflare for what a request of the edge looks like.
const QUIET = {
  WRANGLER_SEND_METRICS: 'false',
  WRANGLER_SEND_ERROR_REPORTS: 'false',
  WRANGLER_HIDE_BANNER: 'true',
  CLOUDFLARE_CF_FETCH_ENABLED: 'false',
};

export const root = join(import.meta.dirname, '..');
const wrangler = join(root, 'node_modules', 'wrangler', 'bin', 'wrangler.js');
const varsFile = join(root, '.dev.vars');

/** What `.dev.vars` holds, each with how a missing one is made. */
const SETTINGS = {
  ADMIN_API_KEY: () => `lovage_${randomBytes(24).toString('base64url')}`,
  GITHUB_WEBHOOK_SECRET: () => randomBytes(24).toString('base64url'),
  MAILGUN_SIGNING_KEY: () => randomBytes(16).toString('hex'),
  SLACK_SIGNING_SECRET: () => randomBytes(16).toString('hex'),
  OPENPHONE_SIGNING_KEY: () => randomBytes(32).toString('base64'),
  CALLBACK_SIGNING_SECRET: () => `whsec_${randomBytes(32).toString('base64')}`,
  DEBUG_TASKS: () => '1',
};
/** Read from the environment where it has them, never made. */
const OPTIONAL = [
  'GITHUB_WEBHOOK_SECRET_PREVIOUS',
  'MAILGUN_SIGNING_KEY_PREVIOUS',
  'MAILGUN_WINDOW_HOURS',
  'SLACK_SIGNING_SECRET_PREVIOUS',
  'OPENPHONE_SIGNING_KEY_PREVIOUS',
  'OPENPHONE_WINDOW_SECONDS',
  'CALLBACK_SIGNING_SECRET_PREVIOUS',
  'CALLBACK_ALLOW_HOSTS',
  'DOH_URL',
  'DATABASE_LIMIT_MB',
  'DEBUG_EFFECTS_URL',
  'GITHUB_TOKEN',
  'GITHUB_HOOKS',
  'GITHUB_BASE_URL',
  'MAILGUN_API_KEY',
  'MAILGUN_DOMAINS',
  'MAILGUN_BASE_URL',
];

/** Every setting by name, as `.dev.vars` and the environment have it: the environment wins. Writes nothing. */
export async function readSettings(environment) {
  const stored = parseEnv(await readVars());
  const known = new Set([...Object.keys(stored), ...Object.keys(SETTINGS), ...OPTIONAL]);
  const given = [...known].filter((name) => environment[name] !== undefined).map((name) => [name, environment[name]]);
  return { ...stored, ...Object.fromEntries(given) };
}

/** Adds to `.dev.vars` what is missing there, so that the next start has the same. */
export async function makeSettings() {
  const text = await readVars();
  const stored = parseEnv(text);
  const missing = Object.entries(SETTINGS).filter(([name]) => stored[name] === undefined);
  if (missing.length === 0) return;
  const lines = missing.map(([name, make]) => `${name}="${make()}"`);
  const before = text === '' || text.endsWith('\n') ? text : `${text}\n`;
  await writeFile(varsFile, `${before}${lines.join('\n')}\n`, { mode: 0o600 });
}

async function readVars() {
  try {
    return await readFile(varsFile, 'utf8');
  } catch (error) {
    // Only a file that is not there is empty: one that cannot be read must not be written over.
    if (error.code === 'ENOENT') return '';
    throw error;
  }
}

/** In the environment of everything that is started here, and of nothing else on this machine. */
const [markName, markValue] = ['LOVAGE_STARTED_BY', randomUUID()];
const marked = `${markName}=${markValue}`;
Object.assign(process.env, QUIET, { [markName]: markValue });

/** Runs wrangler to its end, in this process group and on the Node that runs this: what it wrote to stdout, or a rejection with all it said. `onStart` gets the process. */
export function runWrangler(args, onStart = () => {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [wrangler, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    onStart(child);
    let output = '';
    let said = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
      said += chunk;
    });
    child.stderr.on('data', (chunk) => (said += chunk));
    child.on('error', reject);
    child.on('close', (code, signal) =>
      code === 0
        ? resolve(output)
        : reject(new WranglerError(`wrangler ${args.join(' ')} ended with ${signal ?? code}:\n${said}`)),
    );
  });
}

/** wrangler says itself what is wrong: no stack of ours makes that clearer. */
export class WranglerError extends Error {}

/**
 * Kills whatever was started here and still runs, also what lost its parent: a wrangler that is killed leaves its
 * workerd behind. Found by the mark in the environment, which Linux shows; elsewhere each has to end by itself.
 */
export function killStrays() {
  // One that was being born while we looked is found the next time round.
  for (let round = 0; round < 10; round += 1) {
    const strays = numbersIn('/proc').filter((pid) => pid !== process.pid && environmentOf(pid).includes(marked));
    if (strays.length === 0) return;
    strays.forEach(kill);
  }
}

/**
 * Lets a shell do the same once this process is gone, for when it is killed and can do nothing any more: a workerd that
 * lives on would keep the port, and work on the same database beside the next one.
 */
export function leaveNothingBehind() {
  const strays = `$(grep -lzx "${marked}" /proc/[0-9]*/environ)`;
  const script = `read _; for file in ${strays}; do pid=\${file#/proc/}; kill -9 "\${pid%/environ}"; done`;
  const guard = spawn('/bin/sh', ['-c', script], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { PATH: process.env.PATH },
  });
  guard.on('error', () => {
    // No shell, no guard.
  });
  guard.unref();
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself meanwhile.
  }
}

function numbersIn(folder) {
  try {
    return readdirSync(folder).map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

function environmentOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return '';
  }
}
