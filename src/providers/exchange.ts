// One request to an outside service and its whole answer: the waiting and the size have an end, and what goes wrong says
// how the job should go on. Nothing of a URL or a header gets into an error: either may hold a secret.

import { within } from '../core/deadline.ts';
import { parseJson, type Json } from '../core/json.ts';
import {
  MAX_PROVIDER_ANSWER_BYTES,
  MAX_RETRY_AFTER_SECONDS,
  PROVIDER_DEADLINE_MS,
  RATE_LIMIT_PAUSE_SECONDS,
} from '../core/limits-outside.ts';
import { parseRetryAfter } from '../core/retry-after.ts';
import { ConfigurationError, Discard, RateLimited, Retry } from '../jobs/outcome.ts';
import type { Job } from '../jobs/task.ts';

/** The job that asks: it may be told to stop, and its clock ends the waiting. */
export type Asker = Pick<Job, 'clock' | 'signal'>;

export interface Question {
  /** What errors call it. */
  readonly what: string;
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  /** What has to be done where it is refused to us: 401, 403, 404 or moved. */
  readonly advice: string;
}

export interface Reply {
  readonly headers: Headers;
  readonly text: string;
}

/**
 * Throws {@link Retry} where the service asks to wait, {@link RateLimited} where it is asked too often,
 * {@link ConfigurationError} where it does not let us in or does not know what we ask for, {@link Discard} where the
 * request is wrong, and any other error where it may go well later.
 */
export async function exchange(asker: Asker, question: Question): Promise<Reply> {
  const stop = new AbortController();
  const asking = ask(question, AbortSignal.any([asker.signal, stop.signal]));
  try {
    const reply = await within(asker.clock, PROVIDER_DEADLINE_MS, asking);
    if (!reply.inTime) throw new Error(`no answer within ${String(PROVIDER_DEADLINE_MS / 1_000)} s`);
    return checked(question, reply.value, asker.clock.now());
  } catch (error) {
    if (asker.signal.aborted) throw asker.signal.reason;
    if (error instanceof Discard || error instanceof Retry) throw error;
    throw new Error(`${question.what}: ${error instanceof Error ? error.message : 'no answer'}`, { cause: error });
  } finally {
    stop.abort();
  }
}

interface Answer extends Reply {
  readonly status: number;
}

async function ask({ url, method, headers }: Question, signal: AbortSignal): Promise<Answer> {
  // What is moved may be moved to somebody else, who would be handed the token.
  const response = await fetch(url, { method, headers, signal, redirect: 'manual' });
  return { status: response.status, headers: response.headers, text: await textOf(response) };
}

async function textOf(response: Response): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  let bytes = 0;
  let text = '';
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > MAX_PROVIDER_ANSWER_BYTES) throw new Error('the answer is larger than any that is read');
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function checked({ what, advice }: Question, answer: Answer, now: number): Reply {
  const { status } = answer;
  if (status >= 200 && status < 300) return answer;
  const said = `${what}: answered ${String(status)}`;
  const pause = pauseSeconds(answer, now);
  if (pause !== undefined) {
    const problem = `${said}, to be asked again in ${String(pause)} s`;
    throw status === 503
      ? new Retry(problem, { afterSeconds: pause })
      : new RateLimited(problem, { afterSeconds: pause });
  }
  const refused = status === 401 || status === 403 || status === 404 || (status >= 300 && status < 400);
  if (refused) throw new ConfigurationError(`${said}. ${advice}`);
  if (status === 408 || status >= 500) throw new Error(`answered ${String(status)}`);
  throw new Discard(said, 'provider_refused');
}

/** How long the service wants to be left alone; undefined where it says nothing of the kind. */
function pauseSeconds({ status, headers, text }: Answer, now: number): number | undefined {
  if (status !== 403 && status !== 429 && status !== 503) return undefined;
  const after = parseRetryAfter(headers.get('retry-after'), now);
  if (after !== undefined) return after;
  if (status === 503) return undefined;
  const reset = Number(headers.get('x-ratelimit-reset') ?? Number.NaN);
  if (headers.get('x-ratelimit-remaining') === '0' && reset > 0) {
    return Math.min(Math.max(0, Math.ceil(reset - now / 1_000)) + 1, MAX_RETRY_AFTER_SECONDS);
  }
  // GitHub's secondary limits may be a 403 that only its text tells from one for want of rights.
  return status === 429 || /rate limit/i.test(text) ? RATE_LIMIT_PAUSE_SECONDS : undefined;
}

/** The JSON of a reply. Throws where it is none. */
export function jsonOf(what: string, text: string): Json {
  const parsed = parseJson(text);
  if (parsed.ok) return parsed.value;
  throw new Error(`${what}: the answer is ${parsed.message}`);
}

/** The address of a next page. Throws {@link Discard} where it is not the service's own: it would be sent the token. */
export function nextPage(what: string, base: URL, address: string): URL {
  const next = URL.parse(address, base.href);
  if (next?.origin === base.origin) return next;
  throw new Discard(`${what}: its next page is on another host than ${base.host}, which is not asked`, 'foreign_page');
}
