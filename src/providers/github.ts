// GitHub's API of webhook deliveries: what it has sent, and asking it to send again.
// https://docs.github.com/en/rest/repos/webhooks https://docs.github.com/en/rest/orgs/webhooks

import { z } from 'zod';
import { parseInstant } from '../core/instant.ts';
import { GITHUB_PAGE } from '../core/limits-outside.ts';
import type { Env } from '../env.ts';
import { exchange, jsonOf, nextPage, type Asker, type Question } from './exchange.ts';
import { baseUrl, listOf, secret } from './settings.ts';

export interface GithubSettings {
  readonly token: string;
  /** API paths: `repos/acme/site/hooks/123`, `orgs/acme/hooks/9`. */
  readonly hooks: readonly string[];
  readonly base: URL;
}

const HOOK = /^(?:repos\/(?!\.{1,2}\/)[\w.-]+\/(?!\.{1,2}\/)[\w.-]+|orgs\/(?!\.{1,2}\/)[\w.-]+)\/hooks\/\d+$/;

/** Throws a ConfigurationError that names what is missing or wrong. */
export function githubSettings(env: Env): GithubSettings {
  return {
    token: secret('GITHUB_TOKEN', env.GITHUB_TOKEN),
    hooks: listOf('GITHUB_HOOKS', env.GITHUB_HOOKS, HOOK, 'repos/acme/site/hooks/123 or orgs/acme/hooks/9'),
    base: baseUrl('GITHUB_BASE_URL', env.GITHUB_BASE_URL, 'https://api.github.com'),
  };
}

const item = z
  .looseObject({
    id: z.union([z.string().regex(/^\d+$/), z.int()]).transform(String),
    guid: z.string().min(1),
    delivered_at: z.string(),
    redelivery: z.boolean().catch(false),
    event: z.string(),
  })
  .transform(({ id, guid, delivered_at, redelivery, event }, context) => {
    const deliveredAt = parseInstant(delivered_at);
    if (deliveredAt !== undefined) return { id, guid, deliveredAt, redelivery, event };
    context.addIssue({ code: 'custom', message: 'delivered_at is no instant' });
    return z.NEVER;
  });

/** One attempt of GitHub's to deliver an event; every attempt of one event has its guid. `deliveredAt` is epoch ms. */
export type DeliveryAttempt = z.infer<typeof item>;

export interface DeliveryPage {
  readonly attempts: readonly DeliveryAttempt[];
  readonly next: URL | undefined;
}

export class GithubHooks {
  readonly #asker: Asker;
  readonly #settings: GithubSettings;

  constructor(asker: Asker, settings: GithubSettings) {
    this.#asker = asker;
    this.#settings = settings;
  }

  /** Attempts of a hook, newest first: the first page, or the one at `page`. */
  async deliveries(hook: string, page?: URL): Promise<DeliveryPage> {
    const { base } = this.#settings;
    const url = page ?? new URL(`${hook}/deliveries?per_page=${String(GITHUB_PAGE)}`, base);
    const question = this.#question('GET', `GitHub's deliveries of ${hook}`, hook, url);
    const { headers, text } = await exchange(this.#asker, question);
    const items = z.array(z.unknown()).safeParse(jsonOf(question.what, exactIds(text)));
    if (!items.success) throw new Error(`${question.what}: the answer is no list`);
    const attempts = items.data.flatMap((each) => item.safeParse(each).data ?? []);
    // One that cannot be read must not hide the others; a page of them is another API than we know.
    if (attempts.length === 0 && items.data.length > 0) throw new Error(`${question.what}: nothing of it can be read`);
    const next = nextOf(headers.get('link'));
    return { attempts, next: next === undefined ? undefined : nextPage(question.what, base, next) };
  }

  /** Asks for an attempt to be made again; it comes when GitHub has time. */
  async redeliver(hook: string, attemptId: string): Promise<void> {
    const url = new URL(`${hook}/deliveries/${attemptId}/attempts`, this.#settings.base);
    await exchange(this.#asker, this.#question('POST', `Redelivery by ${hook}`, hook, url));
  }

  #question(method: Question['method'], what: string, hook: string, url: URL): Question {
    const [scope, right] = hook.startsWith('orgs/')
      ? ['admin:org_hook', 'the organization permission "Webhooks: write"']
      : ['admin:repo_hook', 'the repository permission "Webhooks: write"'];
    return {
      what,
      url,
      method,
      headers: {
        accept: 'application/vnd.github+json',
        'x-github-api-version': '2022-11-28',
        authorization: `Bearer ${this.#settings.token}`,
        'user-agent': 'lovage',
      },
      advice: `Is GITHUB_HOOKS right about ${hook}? GITHUB_TOKEN needs the scope ${scope}, or ${right}.`,
    };
  }
}

/** Ids are 64 bits; as numbers of JavaScript's the longest would name other deliveries. */
function exactIds(text: string): string {
  return text.replaceAll(/"id"\s*:\s*(\d{16,})/g, '"id":"$1"');
}

/** The address that a `Link` header calls next. */
export function nextOf(link: string | null): string | undefined {
  for (const part of (link ?? '').split(/,(?=\s*<)/)) {
    const [, address, rest = ''] = /^\s*<([^>]*)>(.*)$/.exec(part) ?? [];
    if (address !== undefined && /;\s*rel="?next"?\s*(?:;|$)/i.test(rest)) return address;
  }
  return undefined;
}
