// Mailgun's Events API as its documentation has it: a range of time, pages by opaque addresses, an empty page at the end.

export interface MailEvent {
  readonly id: string;
  readonly event: string;
  /** Unix seconds, with a fraction. */
  readonly timestamp: number;
  readonly [more: string]: unknown;
}

export class FakeMailgun {
  readonly key = 'key-fake';
  readonly #events = new Map<string, MailEvent[]>();
  /** What a domain answers instead. */
  readonly broken = new Map<string, () => Response>();
  readonly requests: string[] = [];
  /** Where the address of the next page points. */
  nextOrigin: string | undefined;

  constructor(...domains: string[]) {
    for (const domain of domains) this.#events.set(domain, []);
  }

  happened(domain: string, ...events: MailEvent[]): void {
    this.#events.get(domain)?.push(...events);
  }

  handle(request: Request): Response {
    const { pathname, search, origin, searchParams: query } = new URL(request.url);
    this.requests.push(`${request.method} ${pathname.slice(1)}${search}`);
    if (request.headers.get('authorization') !== `Basic ${btoa(`api:${this.key}`)}`) {
      return new Response('Forbidden', { status: 401 });
    }
    const [, domain = '', page] = /^\/v3\/([^/]+)\/events(?:\/(.+))?$/.exec(pathname) ?? [];
    const instead = this.broken.get(domain);
    if (instead !== undefined) return instead();
    const events = this.#events.get(domain);
    if (events === undefined) return Response.json({ message: 'Domain not found' }, { status: 404 });
    const asked = page === undefined ? Object.fromEntries(query) : (JSON.parse(atob(page)) as Record<string, string>);
    const { begin, end, event, limit, ascending, skip } = asked;
    if (ascending !== 'yes') return Response.json({ message: 'only ascending here' }, { status: 400 });
    const matching = events
      .filter((each) => each.event === event && each.timestamp >= Number(begin) && each.timestamp <= Number(end))
      .sort((a, b) => a.timestamp - b.timestamp);
    const from = Number(skip ?? 0);
    const until = from + Math.min(300, Number(limit));
    const items = matching.slice(from, until);
    const address = (at: number): string =>
      `${this.nextOrigin ?? origin}/v3/${domain}/events/${btoa(JSON.stringify({ ...asked, skip: String(at) }))}`;
    // There is always a next page; behind the last it is empty.
    return Response.json({ items, paging: { next: address(from + items.length), previous: address(0) } });
  }
}
