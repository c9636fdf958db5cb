import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { raise, settle } from '../../src/jobs/alerts.ts';
import { tick } from '../../src/cron/tick.ts';
import type { Alert } from '../../src/store/alerts.ts';
import { Bench, emptyDatabase, FastClock, START } from '../worker/bench.ts';
import { askJson, get, serve } from '../worker/client.ts';

beforeEach(emptyDatabase);
afterEach(() => {
  vi.restoreAllMocks();
});

const DAY = 86_400_000;

type Body = Readonly<Record<string, unknown>>;

function trouble(more: Partial<Alert> = {}): Alert {
  return { kind: 'late', target: 'a', severity: 'warning', message: 'It is late.', detail: { by: 1 }, ...more };
}

/** A bench whose clock the test moves. */
function benchAt(now = START): { bench: Bench; clock: FastClock } {
  const clock = new FastClock(now);
  return { bench: new Bench({ clock }), clock };
}

async function list({ rt }: Bench, query = ''): Promise<{ items: readonly Body[]; next: string | null }> {
  const { status, body } = await askJson(rt, 'GET', `/api/v1/alerts${query}`);
  expect([status, body]).toEqual([200, { items: expect.any(Array) as unknown, next_cursor: body['next_cursor'] }]);
  return { items: body['items'] as readonly Body[], next: body['next_cursor'] as string | null };
}

async function targets(bench: Bench, query = ''): Promise<readonly unknown[]> {
  return (await list(bench, query)).items.map(({ target }) => target);
}

describe('an alert', () => {
  test('says what is wrong since when, and counts how often that was noticed, in the words of the last time', async () => {
    const { bench, clock } = benchAt();
    await raise(bench.rt, trouble());
    clock.set(START + 60_000);
    await raise(bench.rt, trouble({ severity: 'critical', message: 'It is very late.', detail: { by: 2 } }));
    expect((await list(bench)).items).toEqual([
      {
        id: expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown,
        kind: 'late',
        target: 'a',
        severity: 'critical',
        message: 'It is very late.',
        detail: { by: 2 },
        state: 'open',
        opened_at: '2040-01-02T12:00:00.000Z',
        seen_at: '2040-01-02T12:01:00.000Z',
        times: 2,
        resolved_at: null,
      },
    ]);
  });

  test('is one, however many Workers notice at once', async () => {
    const benches = Array.from({ length: 8 }, () => new Bench());
    await Promise.all(benches.flatMap(({ rt }) => [raise(rt, trouble()), raise(rt, trouble())]));
    expect((await list(new Bench())).items).toMatchObject([{ target: 'a', times: 16 }]);
  });

  test('is in the log when it is opened and when it is resolved, not each time it is noticed', async () => {
    const errors = vi.spyOn(console, 'error').mockReset();
    const infos = vi.spyOn(console, 'log').mockReset();
    const { bench } = benchAt();
    for (let time = 0; time < 3; time += 1) await raise(bench.rt, trouble());
    for (let time = 0; time < 2; time += 1) await settle(bench.rt, 'late', 'a');
    const about = { kind: 'late', target: 'a' };
    const opened = { event: 'alert.opened', error: 'Error: It is late.', ...about, severity: 'warning' };
    expect(errors.mock.calls).toEqual([[JSON.stringify(opened)]]);
    expect(infos.mock.calls).toEqual([[JSON.stringify({ event: 'alert.resolved', ...about })]]);
  });

  test('is another for another kind, and for another target', async () => {
    const { bench } = benchAt();
    for (const more of [{}, { target: 'b' }, { kind: 'lost' }]) await raise(bench.rt, trouble(more));
    const { items } = await list(bench);
    expect(items.map(({ times }) => times)).toEqual([1, 1, 1]);
  });

  test('is resolved once; the same trouble is then a new one', async () => {
    const { bench, clock } = benchAt();
    await raise(bench.rt, trouble());
    await raise(bench.rt, trouble({ target: 'b' }));
    clock.set(START + 1_000);
    await settle(bench.rt, 'late', 'a');
    clock.set(START + 2_000);
    await settle(bench.rt, 'late', 'a');
    await settle(bench.rt, 'late', 'nobody');
    await raise(bench.rt, trouble());
    expect((await list(bench)).items).toMatchObject([
      { target: 'a', state: 'open', times: 1, resolved_at: null, opened_at: '2040-01-02T12:00:02.000Z' },
      { target: 'b', state: 'open', resolved_at: null },
      { target: 'a', state: 'resolved', times: 1, resolved_at: '2040-01-02T12:00:01.000Z' },
    ]);
  });

  test('leaves thirty days after it was resolved, never while it is open', async () => {
    const { bench, clock } = benchAt();
    for (const target of ['open', 'late', 'early']) await raise(bench.rt, trouble({ target }));
    await settle(bench.rt, 'late', 'early');
    clock.set(START + DAY);
    await settle(bench.rt, 'late', 'late');
    clock.set(START + 30 * DAY + 1);
    await tick(bench.rt, undefined);
    expect(await targets(bench)).toEqual(['late', 'open']);
    clock.set(START + 300 * DAY);
    await tick(bench.rt, undefined);
    expect(await targets(bench)).toEqual(['open']);
  });
});

describe('the list of alerts', () => {
  /** Alerts `0` to `4`, a second apart; the odd ones are resolved. */
  async function five(): Promise<Bench> {
    const { bench, clock } = benchAt();
    for (let at = 0; at < 5; at += 1) {
      clock.set(START + at * 1_000);
      await raise(bench.rt, trouble({ kind: at < 3 ? 'late' : 'lost', target: String(at) }));
      if (at % 2 === 1) await settle(bench.rt, at < 3 ? 'late' : 'lost', String(at));
    }
    return bench;
  }

  test('goes newest first, and is narrowed by state and kind', async () => {
    const bench = await five();
    expect(await targets(bench)).toEqual(['4', '3', '2', '1', '0']);
    expect(await targets(bench, '?state=open')).toEqual(['4', '2', '0']);
    expect(await targets(bench, '?state=resolved')).toEqual(['3', '1']);
    expect(await targets(bench, '?kind=late')).toEqual(['2', '1', '0']);
    expect(await targets(bench, '?kind=late&state=open')).toEqual(['2', '0']);
    expect(await targets(bench, '?kind=late&state=resolved')).toEqual(['1']);
  });

  test.each(['', '&state=open', '&state=resolved'])('comes in pages that leave nothing out (%s)', async (filter) => {
    const bench = await five();
    const seen: unknown[] = [];
    let cursor = '';
    for (;;) {
      const { items, next } = await list(bench, `?limit=2${filter}${cursor}`);
      expect(items.length).toBeLessThanOrEqual(2);
      seen.push(...items.map(({ target }) => target));
      if (next === null) break;
      cursor = `&cursor=${next}`;
    }
    expect(seen).toEqual(await targets(bench, `?limit=200${filter}`));
  });

  test('shows what is open although thousands that are resolved came after it', async () => {
    const { bench } = benchAt();
    await raise(bench.rt, trouble());
    await env.DB.prepare(
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2499)
INSERT INTO alerts (id, v, kind, target, severity, message, detail, opened_at, seen_at, times, resolved_at)
SELECT printf('ffffffff-0000-7000-8000-%012x', i), 1, 'late', 'b', 'warning', '', '{}', 0, 0, 1, ?1 FROM n`,
    )
      .bind(START)
      .run();
    expect(await targets(bench, '?state=open')).toEqual(['a']);
    const { items, next } = await list(bench, '?kind=lost');
    expect(items).toEqual([]);
    expect(await list(bench, `?kind=lost&cursor=${String(next)}`)).toEqual({ items: [], next: null });
  });

  test('refuses what it does not know, and whoever has no key', async () => {
    const { bench } = benchAt();
    for (const query of ['?state=closed', '?limit=0', '?cursor=x', '?severity=critical', '?kind=a&kind=b']) {
      expect([query, (await askJson(bench.rt, 'GET', `/api/v1/alerts${query}`)).status]).toEqual([query, 422]);
    }
    expect((await serve(bench.rt, new Request('http://lovage.test/api/v1/alerts'))).status).toBe(401);
    expect((await get('/api/v1/alerts')).status).toBe(200);
  });
});
