// Mailgun's Events API: what has happened to mail, whether or not a webhook told of it.
// https://documentation.mailgun.com/docs/mailgun/user-manual/events/

import { z } from 'zod';
import type { Json } from '../core/json.ts';
import { MAILGUN_PAGE } from '../core/limits-outside.ts';
import type { Env } from '../env.ts';
import { exchange, jsonOf, nextPage, type Asker } from './exchange.ts';
import { baseUrl, listOf, secret } from './settings.ts';

export interface MailgunSettings {
  readonly key: string;
  readonly domains: readonly string[];
  readonly base: URL;
}

const DOMAIN = /^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/i;

/** Throws a ConfigurationError that names what is missing or wrong. */
export function mailgunSettings(env: Env): MailgunSettings {
  return {
    key: secret('MAILGUN_API_KEY', env.MAILGUN_API_KEY),
    domains: listOf('MAILGUN_DOMAINS', env.MAILGUN_DOMAINS, DOMAIN, 'mg.example.com'),
    base: baseUrl('MAILGUN_BASE_URL', env.MAILGUN_BASE_URL, 'https://api.mailgun.net'),
  };
}

const answer = z.looseObject({
  items: z.array(z.custom<Readonly<Record<string, Json>>>((each) => each !== null && typeof each === 'object')),
  paging: z.looseObject({ next: z.string().optional() }).optional(),
});

export interface EventPage {
  readonly items: readonly Readonly<Record<string, Json>>[];
  readonly next: URL | undefined;
}

export class MailgunEvents {
  readonly #asker: Asker;
  readonly #settings: MailgunSettings;

  constructor(asker: Asker, settings: MailgunSettings) {
    this.#asker = asker;
    this.#settings = settings;
  }

  /** The first page of a kind of event between two instants (epoch ms), oldest first. */
  async first(domain: string, event: string, begin: number, end: number): Promise<EventPage> {
    const url = new URL(`v3/${domain}/events`, this.#settings.base);
    const seconds = (at: number): string => String(Math.floor(at / 1_000));
    const query = { event, begin: seconds(begin), end: seconds(end), ascending: 'yes', limit: String(MAILGUN_PAGE) };
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return this.page(domain, url);
  }

  async page(domain: string, url: URL): Promise<EventPage> {
    const { base, key } = this.#settings;
    const what = `Mailgun's events of ${domain}`;
    const { text } = await exchange(this.#asker, {
      what,
      url,
      method: 'GET',
      headers: { accept: 'application/json', authorization: `Basic ${btoa(`api:${key}`)}`, 'user-agent': 'lovage' },
      advice: `Does MAILGUN_API_KEY belong to ${domain}, and is it in the region of MAILGUN_BASE_URL (${base.host})?`,
    });
    const parsed = answer.safeParse(jsonOf(what, text));
    if (!parsed.success) throw new Error(`${what}: the answer is not a page of events`);
    const { items, paging } = parsed.data;
    return { items, next: paging?.next === undefined ? undefined : nextPage(what, base, paging.next) };
  }
}
