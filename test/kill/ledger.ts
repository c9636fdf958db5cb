// Counts effects outside the Worker: what it proves does not rest on what is proved.

import { appendFileSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

const entryShape = z.strictObject({ key: z.string(), job_id: z.string(), attempt: z.int() });
/** One run of `debug.effect`. */
export type Entry = z.infer<typeof entryShape>;

/** As slow as the far side of an effect is: who is killed meanwhile is killed between its effect and its record. */
const ANSWERS_WITHIN_MS = 300;

export interface Ledger {
  readonly url: string;
  /** Every run of every key so far, as the file has them. */
  read(): ReadonlyMap<string, readonly Entry[]>;
  close(): Promise<void>;
}

/** A server on the loopback that appends each run it is told of to `file`, and only then answers. */
export async function openLedger(file: string): Promise<Ledger> {
  appendFileSync(file, '');
  const server = createServer((request, response) => {
    record(file, request, response).catch((error: unknown) => {
      // Whoever was killed in the middle of a call did not run: its handler waits for our answer.
      console.error('ledger:', String(error));
      response.destroy();
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The ledger has no port.');
  return {
    url: `http://127.0.0.1:${String(address.port)}/effects`,
    read: () => entriesOf(file),
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

async function record(file: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const entry = entryShape.parse(JSON.parse(await text(request)));
  appendFileSync(file, `${JSON.stringify(entry)}\n`);
  await sleep(Math.random() * ANSWERS_WITHIN_MS);
  response.writeHead(204).end();
}

function entriesOf(file: string): ReadonlyMap<string, readonly Entry[]> {
  const entries = new Map<string, Entry[]>();
  for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
    const entry = entryShape.parse(JSON.parse(line));
    const same = entries.get(entry.key);
    if (same === undefined) entries.set(entry.key, [entry]);
    else same.push(entry);
  }
  return entries;
}
