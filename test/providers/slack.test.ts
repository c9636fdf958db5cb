import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { sha256Hex } from '../../src/core/digest.ts';
import { SLACK_RESPONSE_MS } from '../../src/core/limits-outside.ts';
import { tick } from '../../src/cron/tick.ts';
import { Discard, Retry } from '../../src/jobs/outcome.ts';
import { defineTask } from '../../src/jobs/task.ts';
import { respondToSlack, type SlackMessage } from '../../src/providers/slack.ts';
import { Bench, emptyDatabase, HeldClock, START } from '../worker/bench.ts';
import { callerOn, forbidden, OUTSIDE, receiver, type Receiver } from '../worker/receiver.ts';

beforeEach(emptyDatabase);

interface Stage {
  readonly bench: Bench;
  readonly clock: HeldClock;
}

const answer = defineTask({
  name: 'answer_slack',
  queue: 'default',
  input: z.object({ responseUrl: z.string(), receivedAt: z.number() }),
  retry: { max: 5, delays: { kind: 'delays', seconds: [120] } },
  run: (input, job) => respondToSlack(job, input, { text: 'done' }),
});

function stage(): Stage {
  const clock = new HeldClock(START);
  return { clock, bench: new Bench({ clock, tasks: [answer], settings: OUTSIDE }) };
}

async function respond(
  { bench }: Stage,
  { url }: Pick<Receiver, 'url'>,
  message: SlackMessage = { text: 'done' },
  receivedAt: number | string = START,
): Promise<unknown> {
  try {
    await respondToSlack(callerOn(bench), { responseUrl: url, receivedAt }, message);
    return 'sent';
  } catch (error) {
    return error;
  }
}

const usedUp = expect.objectContaining({ name: 'Discard', code: 'response_url_used_up' }) as unknown;
const expired = expect.objectContaining({ name: 'Discard', code: 'response_url_expired' }) as unknown;

describe("Slack's response_url", () => {
  it('is sent the message as JSON', async () => {
    const to = receiver({ body: 'ok' });
    const message = { response_type: 'in_channel', text: 'Hé', replace_original: true } as const;
    expect(await respond(stage(), to, message)).toBe('sent');
    expect(await to.seen()).toMatchObject([
      { method: 'POST', headers: { 'content-type': 'application/json; charset=utf-8' }, body: JSON.stringify(message) },
    ]);
  });

  it('takes five answers and not a sixth, whoever gives them, and however they end', async () => {
    const on = stage();
    const to = receiver({}, { status: 500 }, {}, { act: 'reset' }, {});
    const ends = [];
    for (let use = 0; use < 5; use += 1) ends.push((await respond(on, to)) === 'sent');
    expect(ends).toEqual([true, false, true, false, true]);
    expect(await respond(on, to)).toEqual(usedUp);
    expect(await respond(stage(), to)).toEqual(usedUp);
    expect(await to.seen()).toHaveLength(5);
    // Another URL has five of its own.
    expect(await respond(on, receiver({}))).toBe('sent');
  });

  it('takes five of ten answers of one moment', async () => {
    const on = stage();
    const to = receiver({});
    const ends = await Promise.all(Array.from({ length: 10 }, () => respond(on, to)));
    expect(ends.filter((end) => end === 'sent')).toHaveLength(5);
    expect(await to.seen()).toHaveLength(5);
  });

  it('counts its uses across jobs and attempts', async () => {
    const on = stage();
    const to = receiver({ status: 500 });
    const input = { responseUrl: to.url, receivedAt: START };
    const ids = [];
    for (let job = 0; job < 3; job += 1) ids.push((await on.bench.enqueue({ task: 'answer_slack', input })).id);
    for (let round = 0; round < 2; round += 1) {
      for (const { envelope } of on.bench.queues.take()) await on.bench.deliver([envelope]);
      await on.clock.advance(120_000);
      await tick(on.bench.rt, undefined);
    }
    const jobs = await Promise.all(ids.map((id) => on.bench.job(id)));
    expect(jobs.map(({ state }) => state).sort()).toEqual(['FAILURE', 'RETRY', 'RETRY']);
    expect(jobs.flatMap(({ error }) => error?.code ?? []).sort()).toEqual([
      'exception',
      'exception',
      'response_url_used_up',
    ]);
    expect(await to.seen()).toHaveLength(5);
  });

  it.each([START, new Date(START).toISOString()])('takes answers for 30 minutes after %s', async (receivedAt) => {
    const on = stage();
    const to = receiver({});
    await on.clock.advance(SLACK_RESPONSE_MS - 1);
    expect(await respond(on, to, { text: 'just in time' }, receivedAt)).toBe('sent');
    await on.clock.advance(1);
    expect(await respond(on, to, { text: 'too late' }, receivedAt)).toEqual(expired);
    expect(await to.seen()).toHaveLength(1);
  });

  it('without an instant it came at is not called', async () => {
    const to = receiver({});
    for (const receivedAt of ['2040-01-02', 'yesterday', Number.NaN]) {
      expect(await respond(stage(), to, { text: '' }, receivedAt)).toBeInstanceOf(Discard);
    }
    expect(await to.seen()).toEqual([]);
  });

  it('that is not public is never called', async () => {
    const to = forbidden();
    const redirecting = receiver({ status: 308, headers: { location: to.url } });
    const places = [to.url, 'http://169.254.169.254/', 'http://4-10-0-0-1.outside.invalid/', redirecting.url];
    for (const url of places) {
      expect(await respond(stage(), { url })).toMatchObject({ name: 'Discard', code: 'response_url_refused' });
    }
    expect(await to.seen()).toEqual([]);
  });

  it.each([
    [{ status: 404 }, expired],
    [{ status: 410 }, expired],
    [{ status: 404, body: 'expired_url' }, expired],
    [{ status: 200, body: '{"ok":false,"error":"expired_url"}' }, expired],
    [{ status: 404, body: 'used_url' }, usedUp],
    [{ status: 400, body: '{"ok":false,"error":"used_url"}' }, usedUp],
  ])('that answers %j is given up', async (step, error) => {
    expect(await respond(stage(), receiver(step))).toEqual(error);
  });

  it('that answers 429 is called again when it says, and after any other failure by the policy', async () => {
    const limited = await respond(stage(), receiver({ status: 429, headers: { 'retry-after': '7' } }));
    expect(limited).toBeInstanceOf(Retry);
    expect(limited).toMatchObject({ afterSeconds: 7 });
    for (const step of [{ status: 429 }, { status: 500 }, { status: 403 }, { act: 'reset' }] as const) {
      const failed = await respond(stage(), receiver(step));
      expect(failed).toBeInstanceOf(Error);
      expect(failed).not.toBeInstanceOf(Discard);
      expect(failed).not.toBeInstanceOf(Retry);
    }
  });

  it('is in no error and in no table', async () => {
    const on = stage();
    const secret = 'T012SECRET';
    const steps = [{ status: 500 }, { status: 429 }, { status: 404 }, { act: 'reset' }] as const;
    const urls = [...steps.map((step) => `${receiver(step).url}&token=${secret}`), `http://10.0.0.1/${secret}`];
    for (const url of urls) {
      const error = await respond(on, { url });
      expect(String(error) + JSON.stringify(error)).not.toContain(secret);
      expect(String((error as Error).stack)).not.toContain(secret);
    }
    const { results } = await env.DB.prepare(`SELECT * FROM uses`).all();
    expect(results).toHaveLength(5);
    expect(JSON.stringify(results)).not.toContain(secret);
    expect(results.map(({ name }) => name)).toContain(sha256Hex(urls[0] ?? ''));
  });

  it('is forgotten by the tick once it takes nothing any more, and not before', async () => {
    const on = stage();
    await respond(on, receiver({}));
    await on.clock.advance(SLACK_RESPONSE_MS - 1);
    await tick(on.bench.rt, undefined);
    expect(await env.DB.prepare(`SELECT count(*) AS n FROM uses`).first('n')).toBe(1);
    await on.clock.advance(1);
    await tick(on.bench.rt, undefined);
    expect(await env.DB.prepare(`SELECT count(*) AS n FROM uses`).first('n')).toBe(0);
  });
});
