// The Worker on this machine: what a deploy would upload, on workerd, with the bindings of wrangler.toml.
//
// Not `wrangler dev`: that puts a proxy before the Worker, which ends the whole server when a client hangs up in the
// middle of an upload (https://github.com/cloudflare/workers-sdk/issues/15451), and costs two thirds of the requests per
// second. Both read wrangler.toml by the same function and keep the same state, so `wrangler d1 … --local` goes on working.

import { readdirSync, watch } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root, runWrangler, WranglerError } from './local.mjs';

const config = join(root, 'wrangler.toml');
/** From the first change of a file to the next bundle: editors save many at once. */
const SETTLE_MS = 200;

/** Bundles the Worker as a deploy does, into `folder`. */
export async function bundle(folder) {
  await runWrangler(['deploy', '--dry-run', '--outdir', folder]);
  return join(folder, 'index.js');
}

/**
 * Serves a bundle. `settings` are the Worker's secrets; `state` is what `--persist-to` is for wrangler.
 * Resolves when it listens. The runtime dies with this process.
 */
export async function serve({ script, port, state, settings, logLevel }) {
  process.env.WRANGLER_LOG ??= 'warn';
  // As late as this: they take a second to load, and put their own handlers of signals behind ours.
  const { unstable_getMiniflareWorkerOptions: workerOptions, unstable_readConfig: readConfig } =
    await import('wrangler');
  const { convertV4MiniflareOptions, Log, LogLevel, Miniflare } = require_('miniflare');
  const wranglerConfig = readConfig({ config }, { hideWarnings: true });
  const { modulesRules: _, ...worker } = workerOptions(wranglerConfig).workerOptions;
  // Made anew each time, because this is when the bundle is read.
  const options = () =>
    convertV4MiniflareOptions({
      ...worker,
      name: wranglerConfig.name,
      modules: [{ type: 'ESModule', path: script }],
      modulesRoot: join(script, '..'),
      bindings: { ...worker.bindings, ...settings },
      host: '127.0.0.1',
      port,
      // Where wrangler's own commands look for it.
      resourcePersistencePath: join(state, 'v3'),
      // GET /cdn-cgi/local/scheduled fires the cron trigger, as under `wrangler dev`.
      unsafeTriggerHandlers: true,
      telemetry: { enabled: false },
      logRequests: false,
      log: new Log(LogLevel.WARN),
      handleStructuredLogs: (entry) => print(entry, logLevel),
    });
  const miniflare = new Miniflare(options());
  await miniflare.ready;
  return {
    /** Starts the runtime anew, with what the bundle is now. Its queues begin empty. */
    restart: async () => {
      await miniflare.setOptions(options());
      await miniflare.ready;
    },
  };
}

// Miniflare is wrangler's: the very one, not another of the same name.
function require_(name) {
  const here = createRequire(import.meta.url);
  return createRequire(here.resolve('wrangler'))(name);
}

// As wrangler names them; what console.log says is `log`.
const LOUDNESS = { none: 0, error: 1, warn: 2, info: 3, log: 3, debug: 4 };

function print({ level, message }, logLevel) {
  if ((LOUDNESS[level] ?? 3) > (LOUDNESS[logLevel] ?? 2)) return;
  if (level === 'error' || level === 'warn') console.error(message);
  else console.log(message);
}

/** Calls `onChange` when the sources change, never twice at once; what changes meanwhile is seen by one more call. */
export function watchSources(onChange, folder = join(root, 'src')) {
  let changed = false;
  let busy = false;
  const look = async () => {
    if (busy) return;
    busy = true;
    while (changed) {
      changed = false;
      await new Promise((settled) => setTimeout(settled, SETTLE_MS));
      follow();
      await onChange().catch((error) => {
        console.error(error instanceof WranglerError ? error.message : error);
      });
    }
    busy = false;
  };
  const follow = watchTree(folder, () => {
    changed = true;
    void look();
  });
}

// On Linux Node's own recursive watch sees nothing more of a file once it was replaced, as editors and git do; the watch of
// a folder does. Returns what looks for folders that are new, or were made anew.
function watchTree(top, onEvent) {
  const byFolder = process.platform === 'linux';
  let watchers = [];
  const watchOne = (folder) => {
    try {
      const watcher = watch(folder, { recursive: !byFolder }, onEvent);
      watcher.on('error', (error) => console.error(`Changes in ${folder} are not seen any more: ${error.message}`));
      return [watcher];
    } catch (error) {
      // Gone meanwhile: the folder above says so.
      if (error.code !== 'ENOENT') console.error(`Changes in ${folder} are not seen: ${error.message}`);
      return [];
    }
  };
  const follow = () => {
    const folders = byFolder ? foldersIn(top) : [top];
    // One of them went while they were listed.
    if (folders === undefined) return onEvent();
    const before = watchers;
    watchers = folders.flatMap(watchOne);
    for (const watcher of before) watcher.close();
  };
  follow();
  return follow;
}

function foldersIn(top) {
  try {
    const entries = readdirSync(top, { recursive: true, withFileTypes: true });
    return [top, ...entries.filter((each) => each.isDirectory()).map(({ parentPath, name }) => join(parentPath, name))];
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}
