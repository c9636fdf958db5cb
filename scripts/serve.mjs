// What `wrangler dev` does, by wrangler's own hands, but for one thing: it does not end because a client hung up.
// Started by start.mjs, which tells it by its environment where to listen and what to read.
//
// The proxy in front of the Worker reports every request that broke on its way as an error, and `wrangler dev` ends on
// any error (https://github.com/cloudflare/workers-sdk/issues/15451). Here such a request is that client's own affair.

import { join } from 'node:path';
import { unstable_DevEnv as DevEnv } from 'wrangler';

const root = join(import.meta.dirname, '..');
const { LOVAGE_PORT, LOVAGE_STATE, LOVAGE_ENV_FILE, WRANGLER_LOG, WRANGLER_REGISTRY_PATH } = process.env;

const server = new DevEnv();
let ending = false;

server.on('error', (event) => {
  if (ending || isBrokenRequest(event)) return;
  console.error(event.reason ?? '', event.cause ?? event);
  end(1);
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => end(0));

await server.startWorker({
  config: join(root, 'wrangler.toml'),
  envFiles: [LOVAGE_ENV_FILE],
  dev: {
    server: { hostname: '127.0.0.1', port: Number(LOVAGE_PORT) },
    inspector: false,
    persist: LOVAGE_STATE,
    registry: WRANGLER_REGISTRY_PATH,
    remote: false,
    watch: true,
    logLevel: WRANGLER_LOG,
  },
  build: { nodejsCompatMode: null },
});

function isBrokenRequest({ source, reason }) {
  return source === 'ProxyController' && reason === 'Error inside ProxyWorker';
}

async function end(code) {
  if (ending) return;
  ending = true;
  await server.teardown().catch((error) => console.error(error));
  process.exit(code);
}
