import { describe, expect, it, test } from 'vitest';
import { postOutside, type Reply } from '../../src/providers/outgoing.ts';
import { Bench, HeldClock, START } from '../worker/bench.ts';
import { callerOn, forbidden, OUTSIDE, receiver, untilSeen } from '../worker/receiver.ts';

const held = (): Bench => new Bench({ clock: new HeldClock(START), settings: OUTSIDE });

async function postTo(url: string, bench = held()): Promise<Reply> {
  return postOutside(callerOn(bench), { url, headers: { 'x-mark': 'a mark' }, body: '{"a":1}' });
}

const answered = (status: number): object => ({ kind: 'answered', status });

describe('a request to the outside', () => {
  it('is the POST that was asked for, and its answer comes back', async () => {
    const to = receiver({ status: 202, headers: { 'retry-after': '7' }, body: 'fine' });
    expect(await postTo(to.url)).toEqual({
      kind: 'answered',
      status: 202,
      retryAfterSeconds: 7,
      text: 'fine',
      complete: true,
    });
    expect(await to.seen()).toMatchObject([{ method: 'POST', headers: { 'x-mark': 'a mark' }, body: '{"a":1}' }]);
  });

  it.each(['ftp://example.com/', 'http://a:b@example.com/', 'http://localhost/', 'nonsense'])(
    'to %s is refused',
    async (url) => {
      expect(await postTo(url)).toMatchObject({ kind: 'refused' });
    },
  );

  it('to a host that is not allowed never gets there, however the host is written', async () => {
    const to = forbidden();
    const { port } = new URL(to.url);
    for (const host of ['127.0.0.1', '0x7f.1', '2130706433', '127.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]']) {
      expect(await postTo(to.url.replace(/127\.0\.0\.1:\d+/, `${host}:${port}`)), host).toMatchObject({
        kind: 'refused',
      });
    }
    expect(await to.seen()).toEqual([]);
  });
});

describe('a name', () => {
  it.each([
    ['4-10-0-0-1.outside.invalid', 'a private address'],
    ['4-127-0-0-1.outside.invalid', 'the loopback'],
    ['4-169-254-169-254.outside.invalid', 'the metadata service'],
    ['4-93-184-216-34.4-192-168-0-1.outside.invalid', 'a private address beside a public one'],
    ['4-93-184-216-34.6-fd00--1.outside.invalid', 'a private address of the other family'],
    ['6-64-ff9b--a00-1.outside.invalid', 'a private address behind NAT64'],
  ])('%s is refused: it has %s', async (name) => {
    expect(await postTo(`https://${name}/`)).toEqual({
      kind: 'refused',
      reason: 'its name has an address that is not public',
    });
  });

  it.each([
    ['unknown.outside.invalid', 'does not exist'],
    ['nothing.outside.invalid', 'has no address'],
    ['servfail.outside.invalid', 'could not be looked up'],
    ['servfail6.4-93-184-216-34.outside.invalid', 'could be looked up in one family only'],
  ])('%s is unreachable for now: it %s', async (name) => {
    expect(await postTo(`https://${name}/`)).toMatchObject({ kind: 'unreachable', reason: /^its name / });
  });

  it('whose every address is public is requested', async () => {
    // There is nobody by that name, and the request fails for that.
    expect(await postTo('http://4-93-184-216-34.6-2606-4700--1111.outside.invalid/')).toEqual({
      kind: 'unreachable',
      reason: 'the connection failed',
    });
  });

  it('is unreachable for now where the resolver does not answer as one', async () => {
    for (const body of ['', 'no JSON', '{}', '{"Status":0,"TC":true}', '{"Status":0,"Answer":[{"type":1}]}']) {
      const resolver = receiver({ body });
      const bench = new Bench({ clock: new HeldClock(START), settings: { ...OUTSIDE, DOH_URL: resolver.url } });
      expect(await postTo('https://example.invalid/', bench), body).toEqual({
        kind: 'unreachable',
        reason: 'its name could not be looked up',
      });
      expect(await resolver.seen()).not.toEqual([]);
    }
  });
});

describe('a redirect', () => {
  const redirect = (location: string, status = 307): { status: number; headers: { location: string } } => ({
    status,
    headers: { location },
  });

  it.each([301, 302, 307, 308])('with %i repeats the same POST', async (status) => {
    const to = receiver({});
    expect(await postTo(receiver(redirect(to.url, status)).url)).toMatchObject(answered(200));
    expect(await to.seen()).toMatchObject([{ method: 'POST', headers: { 'x-mark': 'a mark' }, body: '{"a":1}' }]);
  });

  it('is followed three times, and not a fourth', async () => {
    const end = receiver({});
    const three = [1, 2, 3].reduce((next) => receiver(redirect(next.url)), end);
    expect(await postTo(three.url)).toMatchObject(answered(200));
    expect(await end.seen()).toHaveLength(1);
    expect(await postTo(receiver(redirect(three.url)).url)).toMatchObject({ kind: 'unreachable' });
    expect(await end.seen()).toHaveLength(1);
  });

  it('with 303 is not followed', async () => {
    const to = receiver({});
    expect(await postTo(receiver(redirect(to.url, 303)).url)).toMatchObject({ kind: 'unreachable' });
    expect(await to.seen()).toEqual([]);
  });

  it('may be relative', async () => {
    const to = receiver({});
    const { pathname, search } = new URL(to.url);
    expect(await postTo(receiver(redirect(pathname + search)).url)).toMatchObject(answered(200));
    expect(await to.seen()).toHaveLength(1);
  });

  it('to what is not public is refused, and never requested', async () => {
    const to = forbidden();
    const { port } = new URL(to.url);
    const places = [
      to.url,
      `http://[::ffff:127.0.0.1]:${port}/`,
      'http://169.254.169.254/latest/meta-data/',
      'http://4-127-0-0-1.outside.invalid/',
      'ftp://example.com/',
      'http://a:b@example.com/',
    ];
    for (const place of places) {
      expect(await postTo(receiver(redirect(place)).url), place).toMatchObject({ kind: 'refused' });
      // Also behind another one.
      const behind = receiver(redirect(receiver(redirect(place)).url));
      expect(await postTo(behind.url), place).toMatchObject({ kind: 'refused' });
    }
    expect(await to.seen()).toEqual([]);
  });

  it('that leads nowhere is an answer like any other', async () => {
    expect(await postTo(receiver({ status: 302 }).url)).toMatchObject(answered(302));
  });
});

describe('an answer', () => {
  it('is read to 64 KiB and no further', async () => {
    const reply = await postTo(receiver({ act: 'flood' }).url);
    expect(reply).toMatchObject({ ...answered(200), complete: true });
    expect(reply.kind === 'answered' ? reply.text.length : 0).toBe(64 * 1024);
  });

  it('that breaks off says so, with its status', async () => {
    expect(await postTo(receiver({ act: 'break' }).url)).toMatchObject({ ...answered(200), complete: false });
  });

  it('that never comes because the connection ended is unreachable', async () => {
    expect(await postTo(receiver({ act: 'reset' }).url)).toEqual({
      kind: 'unreachable',
      reason: 'the connection failed',
    });
  });

  it.each(['the receiver', 'the resolver'])('is waited for 10 s in all where %s is silent', async (who) => {
    const silent = receiver({ act: 'hang' });
    const clock = new HeldClock(START);
    const url = who === 'the receiver' ? silent.url : 'https://example.invalid/';
    const DOH_URL = who === 'the receiver' ? OUTSIDE.DOH_URL : silent.url;
    const bench = new Bench({ clock, settings: { ...OUTSIDE, DOH_URL } });
    let reply: Reply | undefined;
    const posting = postTo(url, bench).then((given) => (reply = given));
    await untilSeen(silent, 1);
    await clock.advance(9_999);
    expect(reply).toBeUndefined();
    await clock.advance(1);
    await posting;
    expect(reply).toEqual({ kind: 'unreachable', reason: 'there was no answer in time' });
  });

  it('is not waited for once the job has to stop, and no time limit is left behind', async () => {
    const silent = receiver({ act: 'hang' });
    const clock = new HeldClock(START);
    const stop = new AbortController();
    const caller = callerOn(new Bench({ clock, settings: OUTSIDE }), stop.signal);
    const posting = postOutside(caller, { url: silent.url, headers: {}, body: '' });
    await untilSeen(silent, 1);
    stop.abort(new Error('Stop.'));
    expect(await posting).toMatchObject({ kind: 'unreachable' });
    expect(clock.sleeping).toBe(0);
  });
});

test('no reason repeats anything of the URL', async () => {
  const paths = ['http://localhost', 'http://10.0.0.1', 'http://servfail.outside.invalid', 'ftp://example.com', '::'];
  for (const path of paths) {
    const reply = await postTo(`${path}/T0123SECRET`);
    expect(JSON.stringify(reply)).not.toMatch(/SECRET|10\.0|localhost|outside|example/);
  }
});
