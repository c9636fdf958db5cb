// The product over HTTP, inside the test's own Worker: real routes, real queues, real time.

import { env, exports } from 'cloudflare:workers';
import type { Runtime } from '../../src/jobs/runtime.ts';
import { createApp } from '../../src/routes/app.ts';

export const ADMIN_KEY = 'test-admin-key';

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  // Whatever the contract says is there; a test that reads another name fails by comparing with undefined.
  readonly body: Readonly<Record<string, unknown>>;
}

// The pool knows the entry point as a plain service.
const worker = (exports as unknown as { default: { fetch(request: Request): Promise<Response> } }).default;

export async function send(request: Request): Promise<Reply> {
  const response = await worker.fetch(request);
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  const body = isJson ? (JSON.parse(text) as Record<string, unknown>) : { text };
  return { status: response.status, headers: response.headers, body };
}

export async function get(path: string, headers: Record<string, string> = {}): Promise<Reply> {
  return send(
    new Request(`http://lovage.test${path}`, { headers: { authorization: `Bearer ${ADMIN_KEY}`, ...headers } }),
  );
}

export async function post(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Reply> {
  return send(
    new Request(`http://lovage.test${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    }),
  );
}

export async function remove(path: string): Promise<Reply> {
  const headers = { authorization: `Bearer ${ADMIN_KEY}` };
  return send(new Request(`http://lovage.test${path}`, { method: 'DELETE', headers }));
}

/** Enqueues and waits for the end. */
export async function run(call: unknown): Promise<Reply['body']> {
  const accepted = await post('/api/v1/jobs', call);
  if (accepted.status !== 202) throw new Error(`${String(accepted.status)} ${JSON.stringify(accepted.body)}`);
  return (await get(`/api/v1/jobs/${String(accepted.body['id'])}?wait=20`)).body;
}

const context = { waitUntil: () => undefined, passThroughOnException: () => undefined, props: {} };

/** The product over HTTP on a runtime of the test's own: real routes; queues, time and faults are in the test's hands. */
export async function serve(rt: Runtime, request: Request, bindings: object = env): Promise<Response> {
  return createApp(() => rt).fetch(request, bindings, context);
}

/** The same, asked by an admin who sends JSON. */
export async function ask(rt: Runtime, path: string, init: RequestInit = {}): Promise<Response> {
  const request = new Request(`http://lovage.test${path}`, init);
  request.headers.set('authorization', `Bearer ${ADMIN_KEY}`);
  request.headers.set('content-type', 'application/json');
  return serve(rt, request);
}

/** The same, and what it is answered. */
export async function askJson(
  rt: Runtime,
  method: string,
  path: string,
  body?: unknown,
): Promise<Pick<Reply, 'status' | 'body'>> {
  const response = await ask(rt, path, body === undefined ? { method } : { method, body: JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

// A copy: what TextEncoder returns may share its memory, and a body may not.
export function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}
