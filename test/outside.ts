// The outside world, as a real HTTP server on the loopback: a receiver that answers as its URL says, and a resolver.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { open } from './fakes/listen.ts';

/** How one request is answered. `act` instead of an answer, or (`break`) in the middle of it. */
export interface Step {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** `hang`: never; `reset`: the connection ends; `break`: it ends after the head; `flood`: a body without end. */
  readonly act?: 'hang' | 'reset' | 'break' | 'flood';
}

export interface Seen {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface Outside {
  /** `127.0.0.1:1234` */
  readonly host: string;
  close(): Promise<void>;
}

/** A URL whose n-th request is answered by the n-th step, and every later one by the last. */
export function urlOf(host: string, key: string, steps: readonly Step[]): string {
  return `http://${host}/receive/${key}?steps=${encodeURIComponent(JSON.stringify(steps))}`;
}

/** Where {@link Outside} says what it was sent under a key, as JSON. */
export function seenUrl(host: string, key: string): string {
  return `http://${host}/seen/${key}`;
}

export async function openOutside(): Promise<Outside> {
  const seen = new Map<string, Seen[]>();
  const server = await open((request, response) => {
    const url = new URL(request.url ?? '/', 'http://outside');
    const [, place, key = ''] = url.pathname.split('/');
    if (place === 'dns') answerDns(url, request, response);
    else if (place === 'seen') json(response, seen.get(key) ?? []);
    else void receive(request, response, url, seen, key);
  });
  return { host: new URL(server.address).host, close: () => server.close() };
}

async function receive(
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  seen: Map<string, Seen[]>,
  key: string,
): Promise<void> {
  const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]));
  const before = seen.get(key) ?? [];
  seen.set(key, [...before, { method: request.method ?? '', headers, body: await text(request) }]);
  // Written by the tests themselves.
  const steps = JSON.parse(url.searchParams.get('steps') ?? '[{}]') as readonly Step[];
  const step = steps[Math.min(before.length, steps.length - 1)] ?? {};
  if (step.act === 'hang') return;
  if (step.act === 'reset') {
    request.socket.destroy();
    return;
  }
  response.writeHead(step.status ?? 200, step.headers);
  if (step.act === 'flood') flood(response);
  else if (step.act === 'break') response.write('…', () => request.socket.destroy());
  else response.end(step.body ?? '');
}

function flood(response: ServerResponse): void {
  const more = (): void => {
    if (!response.destroyed) response.write('x'.repeat(16_384), more);
  };
  more();
}

/**
 * Answers for a name as its labels say: `4-93-184-216-34` is an A record, `6-2606-4700--1111` an AAAA record, `servfail`
 * a failure, and `nothing` no record; anything else does not exist.
 */
function answerDns(url: URL, request: IncomingMessage, response: ServerResponse): void {
  const name = url.searchParams.get('name') ?? '';
  const wanted = url.searchParams.get('type') === 'AAAA' ? '6' : '4';
  if (request.headers.accept !== 'application/dns-json') {
    response.writeHead(415).end();
    return;
  }
  const labels = name.split('.');
  if (labels.includes(`servfail${wanted}`) || labels.includes('servfail')) {
    json(response, { Status: 2 });
    return;
  }
  const records = labels.flatMap((label) => {
    const [, family, address] = /^([46])-([0-9a-f-]+)$/.exec(label) ?? [];
    if (family !== wanted || address === undefined) return [];
    const data = family === '4' ? address.replaceAll('-', '.') : address.replaceAll('-', ':');
    return [{ name, type: family === '4' ? 1 : 28, TTL: 60, data }];
  });
  const exists = labels.some((label) => /^[46]-/.test(label) || label === 'nothing');
  const alias = { name, type: 5, TTL: 60, data: 'alias.example.net.' };
  json(response, { Status: exists ? 0 : 3, TC: false, ...(exists ? { Answer: [alias, ...records] } : {}) });
}

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
