// The real product as a child process: `node scripts/start.mjs` on a free port with a database of its own.
// Whatever happens to the test, no process of it outlives the harness.

import { spawn, type ChildProcess } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';
import { z } from 'zod';

export const ROOT = join(import.meta.dirname, '..', '..');
export const NODE = join(ROOT, 'node_modules', '.bin', 'node');

const READY_WITHIN_MS = 110_000;
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 5_000;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed JSON, or the text of what is not JSON. */
  readonly body: unknown;
}

/** The API at an address, whoever serves it at the moment. */
export interface Api {
  get(path: string): Promise<Answer>;
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
}

export interface Product extends Api {
  readonly address: string;
  readonly key: string;
  readonly githubSecret: string;
  readonly persistTo: string;
  readonly group: Group;
  /** Asks it to end, then makes sure. Its exit code; null where it had to be killed. */
  stop(): Promise<number | null>;
  /** SIGKILL for every process of it, at once. */
  kill(): Promise<void>;
}

export interface StartOptions {
  /** A database to go on with; by default an empty one, which is gone when the test file ends. */
  readonly persistTo?: string;
  /** Settings in its environment beside those that every test product gets. */
  readonly env?: Record<string, string>;
}

/** Starts the product and waits until it says that it is ready, and is. */
export async function startProduct({ persistTo, env = {} }: StartOptions = {}): Promise<Product> {
  const state = persistTo ?? (await temporaryFolder());
  const port = String(await freePort());
  const key = env['ADMIN_API_KEY'] ?? `key_${randomUUID()}`;
  const githubSecret = env['GITHUB_WEBHOOK_SECRET'] ?? `secret_${randomUUID()}`;
  const settings = { ADMIN_API_KEY: key, GITHUB_WEBHOOK_SECRET: githubSecret, DEBUG_TASKS: '1' };
  const group = startProgram({ ...settings, ...env, PORT: port, PERSIST_TO: state });
  const address = `http://127.0.0.1:${port}`;
  try {
    await untilReady(group, address);
  } catch (error) {
    await group.kill();
    throw error;
  }
  return {
    address,
    key,
    githubSecret,
    persistTo: state,
    group,
    ...apiAt(address, key),
    stop: () => group.stop(),
    kill: () => group.kill(),
  };
}

export function apiAt(address: string, key: string): Api {
  return {
    get: (path) => call(address, key, path, { method: 'GET' }),
    post: (path, body, headers = {}) =>
      call(address, key, path, {
        method: 'POST',
        ...(body === undefined
          ? { headers }
          : { body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }),
      }),
  };
}

/** `node scripts/start.mjs` and nothing more: it may not come up, and nobody waits for it. */
export function startProgram(env: Record<string, string>): Group {
  // Whoever edits the sources meanwhile does not restart what is tested.
  return startGroup(NODE, ['scripts/start.mjs'], ROOT, { WATCH: '0', ...env });
}

async function untilReady(group: Group, address: string): Promise<void> {
  await group.untilSaid('Lovage is ready', READY_WITHIN_MS);
  const live = await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(10_000) });
  if (!live.ok) throw new Error(`/health/live answers ${String(live.status)}.`);
}

async function call(address: string, key: string, path: string, init: RequestInit): Promise<Answer> {
  const headers = new Headers(init.headers);
  headers.set('authorization', `Bearer ${key}`);
  const response = await fetch(`${address}${path}`, { ...init, headers, signal: AbortSignal.timeout(60_000) });
  return answerOf(response);
}

export async function answerOf(response: Response): Promise<Answer> {
  const text = await response.text();
  const json = response.headers.get('content-type')?.includes('json') === true;
  const body: unknown = json ? JSON.parse(text) : text;
  return { status: response.status, headers: response.headers, body };
}

export function signGithub(secret: string, body: Uint8Array): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}

/** Sends a webhook as GitHub does: signed over its bytes, unless `signature` says otherwise. */
export async function sendGithub(
  { address, githubSecret }: Product,
  event: string,
  body: Uint8Array<ArrayBuffer>,
  delivery: string,
  signature = signGithub(githubSecret, body),
): Promise<Answer> {
  const response = await fetch(`${address}/webhooks/github`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'user-agent': 'GitHub-Hookshot/044aadd',
      'x-github-event': event,
      'x-github-delivery': delivery,
      'x-hub-signature-256': signature,
    },
    body,
    signal: AbortSignal.timeout(60_000),
  });
  return answerOf(response);
}

const errorShape = z.object({ code: z.string(), message: z.string(), fingerprint: z.string() });

/** A job as the API shows it: what the tests look at. */
export const jobShape = z.looseObject({
  id: z.string(),
  task: z.string(),
  state: z.string(),
  ready: z.boolean(),
  input: z.unknown(),
  result: z.unknown(),
  error: errorShape.nullable(),
  attempt: z.int(),
  retry_of: z.string().nullable(),
  attempts: z.array(z.looseObject({ attempt: z.int(), outcome: z.string() })),
});
export type JobView = z.infer<typeof jobShape>;

/** The job, once it is final or `waitSeconds` are over. */
export async function readJob(product: Product, id: string, waitSeconds = 0): Promise<JobView> {
  const { status, body } = await product.get(`/api/v1/jobs/${id}?wait=${String(waitSeconds)}`);
  if (status !== 200) throw new Error(`job ${id}: ${String(status)} ${JSON.stringify(body)}`);
  return jobShape.parse(body);
}

/** Enqueues one job and returns its id; throws for anything but 202. */
export async function enqueue(
  product: Product,
  task: string,
  input: unknown,
  options: Record<string, unknown> = {},
): Promise<string> {
  const { status, body } = await product.post('/api/v1/jobs', { task, input, options });
  if (status !== 202) throw new Error(`${task}: ${String(status)} ${JSON.stringify(body)}`);
  return z.looseObject({ id: z.string() }).parse(body).id;
}

const pageShape = z.object({ items: z.array(jobShape), next_cursor: z.string().nullable() });

/** Every job that matches, newest first; `query` as in `state=PENDING&task=…`. */
export async function listJobs(product: Api, query = ''): Promise<readonly JobView[]> {
  const jobs: JobView[] = [];
  let cursor: string | null = '';
  for (let pages = 0; pages < 100; pages += 1) {
    const after: string = cursor === '' ? '' : `&cursor=${cursor}`;
    const { status, body } = await product.get(`/api/v1/jobs?limit=200&${query}${after}`);
    if (status !== 200) throw new Error(`list: ${String(status)} ${JSON.stringify(body)}`);
    const page = pageShape.parse(body);
    jobs.push(...page.items);
    cursor = page.next_cursor;
    if (cursor === null) return jobs;
  }
  throw new Error('The list of jobs does not end.');
}

/** How often each key of `debug.effect` below a prefix was written. */
export async function countEffects(product: Api, prefix: string): Promise<ReadonlyMap<string, number>> {
  const { body } = await product.get(`/api/v1/debug/effects?prefix=${encodeURIComponent(prefix)}`);
  return new Map(Object.entries(z.object({ counts: z.record(z.string(), z.int()) }).parse(body).counts));
}

/** How many statements of a name the database was sent since the isolate started. */
export async function countStatements(product: Product, name: string): Promise<number> {
  const { body } = await product.get('/api/v1/debug/statements');
  return z.record(z.string(), z.looseObject({ statements: z.int() })).parse(body)[name]?.statements ?? 0;
}

/** Looks again and again until `look` finds something; throws once the time is over. */
export async function until<T>(what: string, withinMs: number, look: () => Promise<T | undefined>): Promise<T> {
  const giveUpAt = Date.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > giveUpAt) throw new Error(`Not within ${String(withinMs / 1_000)} s: ${what}.`);
    await sleep(200);
  }
}

/** Runs `work` for every item, `width` of them at a time. */
export async function side<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items].reverse();
  const lane = async (): Promise<void> => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

const folders = new Set<string>();
// First registered, last called: whatever a file started has ended by then.
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** A folder of this test file alone, gone when it ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lovage-flow-'));
  folders.add(folder);
  return folder;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (address === null || typeof address === 'string') throw new Error('No port is free.');
  return address.port;
}

/** A program and all its children: one process group, ended as one. */
export interface Group {
  readonly pid: number;
  /** Everything it printed. */
  output(): string;
  untilSaid(text: string, withinMs: number): Promise<void>;
  /** The exit code of the program itself; null where a signal ended it. Rejects if it runs on. */
  exited(withinMs: number): Promise<number | null>;
  signal(name: NodeJS.Signals): void;
  /** Processes of the group that are alive: its commands by id. */
  living(): ReadonlyMap<number, string>;
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

/** Starts a program in a process group of its own, with nothing of ours in its environment but `env`. */
export function startGroup(command: string, args: readonly string[], cwd: string, env: Record<string, string>): Group {
  const child = spawn(command, args, {
    cwd,
    env: { ...surroundings(), ...env },
    // The group is what makes sure that all of it ends.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${command} does not start.`);
  let output = '';
  const listeners = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  const guard = guardGroup(pid);
  const exited = (withinMs: number): Promise<number | null> =>
    inTime(`${command} to end; it said:\n${output}`, withinMs, ended);
  const kill = async (): Promise<void> => {
    signalGroup(pid, 'SIGKILL');
    await ended;
    await until('the end of the process group', 20_000, () =>
      Promise.resolve(livingIn(pid).size === 0 ? true : undefined),
    );
    guard.kill('SIGKILL');
  };
  return {
    pid,
    output: () => output,
    exited,
    kill,
    untilSaid: async (text, withinMs) => {
      const said = new Promise<'said'>((resolve) => {
        const listen = (): void => {
          if (output.includes(text)) resolve('said');
        };
        listeners.add(listen);
        listen();
      });
      const first = await inTime(`${command} to say "${text}"`, withinMs, Promise.race([said, ended]));
      // What it said last may still be on its way.
      if (first !== 'said') await sleep(200);
      if (first !== 'said') throw new Error(`${command} ended with ${String(first)}; it said:\n${output}`);
    },
    signal: (name) => {
      child.kill(name);
    },
    living: () => livingIn(pid),
    stop: async () => {
      child.kill('SIGTERM');
      const code = await exited(GRACE_MS).catch(() => null);
      await kill();
      return code;
    },
  };
}

/** The environment of somebody at a prompt: without what vitest and npm put into ours. */
export function surroundings(): Record<string, string> {
  const kept = Object.entries(process.env).flatMap(([name, value]) =>
    value !== undefined && /^(HOME|USER|LANG|TMPDIR|CI|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|\w+_proxy)$/i.test(name)
      ? [[name, value] as const]
      : [],
  );
  const path = (process.env['PATH'] ?? '').split(':').filter((folder) => !folder.includes('node_modules'));
  return { ...Object.fromEntries(kept), PATH: path.join(':') };
}

// Dies after us, however we die: its input ends when we do, and then so does the group.
function guardGroup(group: number): ChildProcess {
  // Not `kill -KILL`: dash, which is /bin/sh on Debian, then takes `--` for a process.
  return spawn('/bin/sh', ['-c', `read _; kill -s KILL -- -${String(group)} 2>/dev/null`], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch {
    // Nobody of it is left.
  }
}

/** The dead that nobody has buried yet do not count. Where there is no /proc, a group that still is counts as one. */
function livingIn(group: number): ReadonlyMap<number, string> {
  if (process.platform !== 'linux') return groupExists(group) ? new Map([[group, 'unknown']]) : new Map();
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return new Map(
    pids.flatMap((pid) => {
      // pid (command, which may have anything in it) state parent group …
      const [, command, state, of] = /\((.*)\) (\S) \d+ (\d+) /s.exec(textOf(`/proc/${pid}/stat`)) ?? [];
      if (Number(of) !== group || state === 'Z' || state === 'X') return [];
      return [[Number(pid), textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ') || (command ?? '')] as const];
    }),
  );
}

function groupExists(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

async function inTime<T>(what: string, withinMs: number, wanted: Promise<T>): Promise<T> {
  const stop = new AbortController();
  const late = sleep(withinMs, undefined, { signal: stop.signal }).then(() => {
    throw new Error(`Waited ${String(withinMs / 1_000)} s for ${what}.`);
  });
  // Called off below; nobody listens then.
  late.catch(() => undefined);
  try {
    return await Promise.race([wanted, late]);
  } finally {
    stop.abort();
  }
}
