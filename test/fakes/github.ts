// GitHub as its documentation has it: hooks that list what they sent, newest first and page by page, and send again what
// they are asked for. Answers requests; who carries them to it is the test's business.

export interface Attempt {
  readonly id: number;
  readonly guid: string;
  readonly delivered_at: string;
  readonly redelivery: boolean;
  readonly duration: number;
  readonly status: string;
  readonly status_code: number;
  readonly event: string;
  readonly action: string | null;
  readonly installation_id: null;
  readonly repository_id: number;
  readonly throttled_at: null;
}

export interface NewAttempt {
  readonly guid: string;
  /** Epoch ms. */
  readonly at: number;
  readonly event?: string;
  readonly redelivery?: boolean;
  readonly statusCode?: number;
}

export class FakeGithub {
  readonly token = 'ghp_fake-token';
  /** Of each hook every attempt, newest first. */
  readonly #hooks = new Map<string, Attempt[]>();
  /** What a hook answers instead. */
  readonly broken = new Map<string, () => Response>();
  /** Every request, as `GET repos/acme/site/hooks/1/deliveries?per_page=100`. */
  readonly requests: string[] = [];
  /** Sends an event to its receiver once more; the status it was answered. */
  send: (guid: string, event: string) => Promise<number> = () => Promise.resolve(502);
  now: () => number = () => Date.now();
  readonly #sending = new Set<Promise<void>>();
  #lastId = 20_000_000_000;

  constructor(...hooks: string[]) {
    for (const hook of hooks) this.#hooks.set(hook, []);
  }

  /** Adds what a hook has sent. Attempts are listed by their id, as GitHub does. */
  sent(hook: string, attempt: NewAttempt): void {
    const { guid, at, event = 'push', redelivery = false, statusCode = 503 } = attempt;
    this.#lastId += 7;
    this.#of(hook).unshift({
      id: this.#lastId,
      guid,
      delivered_at: new Date(at).toISOString().replace('.000Z', 'Z'),
      redelivery,
      duration: 0.27,
      status: statusCode === 200 ? 'OK' : 'failed to connect to host',
      status_code: statusCode,
      event,
      action: null,
      installation_id: null,
      repository_id: 456,
      throttled_at: null,
    });
  }

  attempts(hook: string): readonly Attempt[] {
    return this.#of(hook);
  }

  /** The guids it was asked to send again, in order. */
  get asked(): readonly string[] {
    return this.requests.flatMap((request) => {
      const id = /^POST .*\/deliveries\/(\d+)\/attempts$/.exec(request)?.[1];
      const all = [...this.#hooks.values()].flat();
      return id === undefined ? [] : [all.find((attempt) => String(attempt.id) === id)?.guid ?? 'unknown'];
    });
  }

  /** Resolves when everything it was asked for has been sent. */
  async settled(): Promise<void> {
    await Promise.all(this.#sending);
  }

  handle(request: Request): Response {
    const { pathname, search, origin, searchParams } = new URL(request.url);
    this.requests.push(`${request.method} ${pathname.slice(1)}${search}`);
    const { headers } = request;
    if (headers.get('authorization') !== `Bearer ${this.token}`) return json({ message: 'Bad credentials' }, 401);
    const described = headers.get('accept') === 'application/vnd.github+json' && headers.has('user-agent');
    if (!described || headers.get('x-github-api-version') !== '2022-11-28') return json({ message: 'Forbidden' }, 403);
    const [, hook = '', attempt] = /^\/(.*\/hooks\/\d+)\/deliveries(?:\/(\d+)\/attempts)?$/.exec(pathname) ?? [];
    const instead = this.broken.get(hook);
    if (instead !== undefined) return instead();
    if (!this.#hooks.has(hook)) return json({ message: 'Not Found' }, 404);
    if (request.method === 'POST') return this.#redeliver(hook, Number(attempt));
    return this.#list(hook, `${origin}${pathname}`, searchParams);
  }

  #list(hook: string, address: string, query: URLSearchParams): Response {
    const size = Math.min(100, Number(query.get('per_page') ?? 30));
    const from = Number((query.get('cursor') ?? 'v1_0').slice(3));
    const all = this.#of(hook);
    const more = from + size < all.length;
    const next = `${address}?per_page=${String(size)}&cursor=v1_${String(from + size)}`;
    const previous = `${address}?per_page=${String(size)}&cursor=v1_0`;
    const link = [...(from > 0 ? [`<${previous}>; rel="prev"`] : []), ...(more ? [`<${next}>; rel="next"`] : [])];
    return Response.json(all.slice(from, from + size), link.length === 0 ? {} : { headers: { link: link.join(', ') } });
  }

  #redeliver(hook: string, id: number): Response {
    const attempt = this.#of(hook).find((each) => each.id === id);
    if (attempt === undefined) return json({ message: 'Not Found' }, 404);
    const { guid, event } = attempt;
    const sending = this.send(guid, event).then((statusCode) => {
      this.sent(hook, { guid, event, at: this.now(), redelivery: true, statusCode });
    });
    this.#sending.add(sending);
    return json({}, 202);
  }

  #of(hook: string): Attempt[] {
    const attempts = this.#hooks.get(hook);
    if (attempts === undefined) throw new Error(`There is no hook ${hook}.`);
    return attempts;
  }
}

function json(body: unknown, status: number): Response {
  return Response.json(body, { status });
}
