// Requests to URLs that somebody outside chose: nothing but the public Internet is asked, whatever the URL, its DNS
// or its redirects say. What happens is a value, and no reason in it repeats the URL, which may be a secret.

import { z } from 'zod';
import { destinationOf, isPublicAddress, parseHosts, type Destination } from '../core/address.ts';
import { MAX_ANSWER_BYTES, MAX_REDIRECTS, OUTGOING_DEADLINE_MS } from '../core/limits-outside.ts';
import { parseRetryAfter } from '../core/retry-after.ts';
import type { Job } from '../jobs/task.ts';

export interface Post {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** `refused`: it was not sent, and never will be. `unreachable`: another time it may be answered. */
export type Reply =
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly retryAfterSeconds: number | undefined;
      /** The first 64 KiB. */
      readonly text: string;
      /** Whether the answer came to its end, as far as it was wanted. */
      readonly complete: boolean;
    }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'unreachable'; readonly reason: string };

type Caller = Pick<Job, 'clock' | 'env' | 'signal'>;

const DOH_URL = 'https://cloudflare-dns.com/dns-query';

/** POSTs to a URL from outside within 10 s, and follows up to three redirects. Never rejects. */
export async function postOutside(job: Caller, post: Post): Promise<Reply> {
  const over = new AbortController();
  const late = new AbortController();
  void job.clock.sleep(OUTGOING_DEADLINE_MS, over.signal).then(() => {
    if (!over.signal.aborted) late.abort();
  });
  try {
    return await follow(job, post, AbortSignal.any([job.signal, late.signal]));
  } catch {
    // What the platform says of it may have the URL in it.
    return {
      kind: 'unreachable',
      reason: late.signal.aborted ? 'there was no answer in time' : 'the connection failed',
    };
  } finally {
    over.abort();
  }
}

async function follow(job: Caller, { url, headers, body }: Post, signal: AbortSignal): Promise<Reply> {
  let target = url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    // Anew for each hop: a public host may redirect anywhere.
    const checked = await check(job, target, signal);
    if (checked.kind !== 'allowed') return checked;
    const response = await fetch(checked.url.href, { method: 'POST', headers, body, redirect: 'manual', signal });
    const location = redirectOf(response);
    if (location === undefined) return answerOf(response, job.clock.now());
    await response.body?.cancel();
    if (response.status === 303) return { kind: 'unreachable', reason: 'it redirects to what is no POST (303)' };
    target = URL.parse(location, checked.url.href)?.href ?? location;
  }
  return { kind: 'unreachable', reason: `it redirects more than ${String(MAX_REDIRECTS)} times` };
}

function redirectOf({ status, headers }: Response): string | undefined {
  return [301, 302, 303, 307, 308].includes(status) ? (headers.get('location') ?? undefined) : undefined;
}

type Checked = Extract<Destination, { kind: 'allowed' | 'refused' }> | Extract<Reply, { kind: 'unreachable' }>;

async function check({ env }: Caller, url: string, signal: AbortSignal): Promise<Checked> {
  const destination = destinationOf(url, parseHosts(env.CALLBACK_ALLOW_HOSTS ?? ''));
  if (destination.kind !== 'resolve') return destination;
  const { name } = destination;
  const addresses = await resolve(env.DOH_URL ?? DOH_URL, name, signal);
  if (addresses === undefined) return { kind: 'unreachable', reason: 'its name could not be looked up' };
  if (addresses.length === 0) return { kind: 'unreachable', reason: 'its name has no address' };
  // Every one: which of them is taken is not for us to say.
  if (addresses.every(isPublicAddress)) return { kind: 'allowed', url: destination.url };
  return { kind: 'refused', reason: 'its name has an address that is not public' };
}

/** The addresses of a name, from both families; undefined where either could not be learned. */
async function resolve(dohUrl: string, name: string, signal: AbortSignal): Promise<readonly string[] | undefined> {
  try {
    const answers = await Promise.all(RECORDS.map((record) => lookUp(dohUrl, name, record, signal)));
    return answers.flat();
  } catch (error) {
    if (signal.aborted) throw error;
    return undefined;
  }
}

const RECORDS = [
  { type: 'A', number: 1 },
  { type: 'AAAA', number: 28 },
] as const;

// The JSON form that Cloudflare and Google speak. Status 3 is NXDOMAIN; any other but 0 says nothing about the name.
const dnsAnswer = z.object({
  Status: z.union([z.literal(0), z.literal(3)]),
  TC: z.literal(false).optional(),
  Answer: z.array(z.object({ type: z.int(), data: z.string() })).default([]),
});

async function lookUp(
  dohUrl: string,
  name: string,
  { type, number }: (typeof RECORDS)[number],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const url = new URL(dohUrl);
  url.searchParams.set('name', name);
  url.searchParams.set('type', type);
  const response = await fetch(url.href, { headers: { accept: 'application/dns-json' }, signal });
  const { text } = await read(response);
  if (!response.ok) throw new Error(`The resolver answers ${String(response.status)}.`);
  const { Answer } = dnsAnswer.parse(JSON.parse(text));
  return Answer.filter((record) => record.type === number).map(({ data }) => data);
}

async function answerOf(response: Response, now: number): Promise<Reply> {
  const retryAfterSeconds = parseRetryAfter(response.headers.get('retry-after'), now);
  return { kind: 'answered', status: response.status, retryAfterSeconds, ...(await read(response)) };
}

interface Body {
  readonly body: ReadableStream<Uint8Array> | null;
}

/** At most 64 KiB of a body; the rest is not taken. */
async function read({ body }: Body): Promise<{ readonly text: string; readonly complete: boolean }> {
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  try {
    for await (const chunk of body ?? []) {
      const wanted = chunk.subarray(0, MAX_ANSWER_BYTES - bytes);
      bytes += wanted.byteLength;
      text += decoder.decode(wanted, { stream: true });
      // Leaving the loop cancels the body.
      if (bytes >= MAX_ANSWER_BYTES) break;
    }
    return { text, complete: true };
  } catch {
    return { text, complete: false };
  }
}
