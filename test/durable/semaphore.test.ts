import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LockTable, type LeaseAsk } from '../../src/durable/lock-table.ts';
import type { SemaphoreObject } from '../../src/durable/semaphore.ts';
import type { Env } from '../../src/env.ts';

const NOW = Date.UTC(2040, 0, 2, 12);

type Semaphore = DurableObjectStub<SemaphoreObject>;

function semaphore(name: string): Semaphore {
  return (env as unknown as Env).SEMAPHORE.getByName(name);
}

/** Sets the clock of the object, which has its own. */
async function at(stub: Semaphore, now: number): Promise<void> {
  await runInDurableObject(stub, (instance: SemaphoreObject) => {
    instance.clock = { now: () => now };
  });
}

function ask(job: string, since = 0, priority = 5): LeaseAsk {
  return { job, since, priority };
}

async function kinds(stub: Semaphore, token: string, ...asks: readonly LeaseAsk[]): Promise<readonly string[]> {
  const { answers } = await stub.acquire(1, token, asks);
  return answers.map(({ kind }) => kind);
}

test('one job at a time has the lock, of a whole batch and of invocations that ask at once', async () => {
  const stub = semaphore('one');
  const all = await Promise.all(
    Array.from({ length: 20 }, (_, at) => kinds(stub, `t${String(at)}`, ask(`a${String(at)}`), ask(`b${String(at)}`))),
  );
  expect(all.flat().filter((kind) => kind === 'granted')).toHaveLength(1);
});

test('so many have it as its limit says, also when a later deployment says another', async () => {
  const stub = semaphore('limit');
  const jobs = ['a', 'b', 'c', 'd'].map((job) => ask(job));
  expect((await stub.acquire(2, 't', jobs)).answers.map(({ kind }) => kind)).toEqual([
    'granted',
    'granted',
    'wait',
    'wait',
  ]);
  const { answers, wake } = await stub.acquire(4, 'u', [ask('e')]);
  // The new room goes to those who wait already.
  expect(wake).toEqual(['c', 'd']);
  expect(answers.map(({ kind }) => kind)).toEqual(['wait']);
});

test('whoever waits is told who has it', async () => {
  const stub = semaphore('holders');
  await kinds(stub, 't', ask('a'));
  expect((await stub.acquire(1, 'u', [ask('b')])).answers).toEqual([{ job: 'b', kind: 'wait', holders: ['a'] }]);
  await kinds(stub, 'u', ask('c', 1));
  expect(await stub.standing('c')).toEqual({ holders: ['a'], ahead: 1 });
});

test('a lock that is freed goes to the highest priority, and of one priority to the oldest', async () => {
  const stub = semaphore('order');
  await kinds(stub, 't', ask('first'));
  await kinds(stub, 'u', ask('young', 3), ask('old', 1), ask('urgent', 2, 9));
  const order = [];
  for (let holder = 'first'; ;) {
    const [next] = await stub.release('t', [holder]);
    if (next === undefined) break;
    order.push(next);
    expect(await kinds(stub, 't', ask(next))).toEqual(['granted']);
    holder = next;
  }
  expect(order).toEqual(['urgent', 'old', 'young']);
});

test('nobody new takes the turn of whoever was woken for it', async () => {
  const stub = semaphore('turn');
  await kinds(stub, 't', ask('a'));
  await kinds(stub, 'u', ask('b'));
  expect(await stub.release('t', ['a'])).toEqual(['b']);
  expect(await kinds(stub, 'v', ask('new'))).toEqual(['wait']);
  expect(await kinds(stub, 'u', ask('b'))).toEqual(['granted']);
});

test('a turn that is not used in thirty seconds goes to the next; whoever comes late takes what nobody has', async () => {
  const stub = semaphore('missed');
  await at(stub, NOW);
  await kinds(stub, 't', ask('a'));
  await kinds(stub, 'u', ask('b', 1), ask('c', 2));
  expect(await stub.release('t', ['a'])).toEqual(['b']);
  await at(stub, NOW + 29_999);
  expect(await stub.leave([])).toEqual([]);
  await at(stub, NOW + 30_000);
  expect(await stub.leave([])).toEqual(['c']);
  // The message of b was only late, and that of c may be later still.
  expect(await kinds(stub, 'u', ask('b', 1))).toEqual(['granted']);
  expect(await kinds(stub, 'u', ask('c', 2))).toEqual(['wait']);
  expect(await stub.release('u', ['b'])).toEqual(['c']);
});

test('who misses one turn after the other is woken ever more rarely: each is a message in a queue that is behind', async () => {
  const stub = semaphore('behind');
  await at(stub, NOW);
  await kinds(stub, 't', ask('a'));
  await kinds(stub, 'u', ask('b'));
  await stub.release('t', ['a']);
  const woken = [];
  for (let seconds = 30; seconds <= 3_600; seconds += 30) {
    await at(stub, NOW + seconds * 1_000);
    if ((await stub.leave([])).length > 0) woken.push(seconds);
  }
  expect(woken).toEqual([30, 90, 210, 450, 930, 1_410, 1_890, 2_370, 2_850, 3_330]);
  expect(await kinds(stub, 'u', ask('b'))).toEqual(['granted']);
});

test('one that was woken and has ended makes room for the next', async () => {
  const stub = semaphore('ended');
  await kinds(stub, 't', ask('a'));
  await kinds(stub, 'u', ask('b', 1), ask('c', 2));
  expect(await stub.release('t', ['a'])).toEqual(['b']);
  expect(await stub.leave(['b'])).toEqual(['c']);
});

test('a lease lasts ninety seconds, and as long as it is renewed', async () => {
  const stub = semaphore('lease');
  await at(stub, NOW);
  await kinds(stub, 't', ask('a'));
  await at(stub, NOW + 89_999);
  expect(await stub.renew('t', ['a'])).toEqual([]);
  await at(stub, NOW + 179_998);
  expect(await kinds(stub, 'u', ask('b'))).toEqual(['wait']);
  await at(stub, NOW + 179_999);
  expect(await kinds(stub, 'u', ask('b'))).toEqual(['granted']);
  expect(await stub.renew('t', ['a'])).toEqual(['a']);
});

test('a second delivery of a running job neither takes its lease nor frees it', async () => {
  const stub = semaphore('elsewhere');
  await kinds(stub, 't', ask('a'));
  expect(await kinds(stub, 'second', ask('a'))).toEqual(['elsewhere']);
  await stub.release('second', ['a']);
  expect(await kinds(stub, 'u', ask('b'))).toEqual(['wait']);
  expect(await stub.renew('t', ['a'])).toEqual([]);
});

test('whoever has claimed the job takes its lease over, and the one before him can no longer free it', async () => {
  const stub = semaphore('taken');
  await kinds(stub, 'dead', ask('a'));
  expect(await stub.take(1, 'alive', ask('a'))).toBe(true);
  await stub.release('dead', ['a']);
  expect(await kinds(stub, 'u', ask('b'))).toEqual(['wait']);
  expect(await stub.take(1, 'late', ask('c'))).toBe(false);
});

test('an eviction forgets no lease and nobody who waits', async () => {
  const stub = semaphore('evicted');
  await kinds(stub, 't', ask('a'), ask('b'));
  await evictDurableObject(stub);
  expect(await kinds(stub, 'u', ask('c', 1))).toEqual(['wait']);
  await evictDurableObject(stub);
  expect(await stub.release('t', ['a'])).toEqual(['b']);
});

test('its alarm frees what has run out, and once nobody is left gives its storage back', async () => {
  const stub = semaphore('alarm');
  await at(stub, NOW);
  // No such jobs exist: whoever is woken has ended, and the next is woken instead, until none is left.
  await kinds(stub, 't', ask('a'), ask('b'), ask('c'));
  await at(stub, NOW + 90_000);
  await runDurableObjectAlarm(stub);
  await runInDurableObject(stub, (_instance: SemaphoreObject, state) => {
    expect([...state.storage.sql.exec(`SELECT name FROM sqlite_master WHERE name = 'leases'`)]).toEqual([]);
  });
  expect(await kinds(stub, 'u', ask('d'))).toEqual(['granted']);
});

test('who asks and frees reads a few rows, however many wait', async () => {
  await runInDurableObject(semaphore('crowd'), (_instance: SemaphoreObject, state) => {
    const cursors: SqlStorageCursor<Record<string, SqlStorageValue>>[] = [];
    const locks = new LockTable({
      exec: (sql, ...params) => {
        const cursor = state.storage.sql.exec(sql, ...params);
        cursors.push(cursor);
        return cursor;
      },
    });
    const crowd = Array.from({ length: 2_000 }, (_, job) => ask(`j${String(job)}`, job));
    locks.acquire(1, 't', crowd, NOW);
    cursors.splice(0);
    locks.acquire(1, 'u', [ask('new', 5_000)], NOW);
    locks.wakesAt(NOW);
    expect(locks.release('t', ['j0'], NOW)).toEqual(['j1']);
    locks.wakesAt(NOW);
    expect(locks.isEmpty).toBe(false);
    expect(cursors.reduce((sum, { rowsRead }) => sum + rowsRead, 0)).toBeLessThan(100);
  });
});

describe('whatever is asked, renewed, freed and forgotten, in any order', () => {
  const step = fc.record({
    what: fc.constantFrom('ask', 'ask', 'ask', 'release', 'crash', 'renew', 'pass'),
    job: fc.nat(12),
    ms: fc.integer({ min: 0, max: 40_000 }),
    size: fc.integer({ min: 1, max: 3 }),
  });

  test('never more than the limit hold a lease, and everybody who waits has his turn in the end', async () => {
    await runInDurableObject(semaphore('property'), (_instance: SemaphoreObject, state) => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 10, maxLength: 80 }), fc.integer({ min: 1, max: 3 }), (steps, size) => {
          for (const table of ['leases', 'waiters', 'size']) state.storage.sql.exec(`DROP TABLE IF EXISTS ${table}`);
          const locks = new LockTable(state.storage.sql);
          const held = new Map<string, number>();
          const waiting = new Set<string>();
          let now = NOW;
          const see = (job: string, token: string): void => {
            const { answers } = locks.acquire(size, token, [ask(job, Number(job.slice(1)))], now);
            if (answers[0]?.kind === 'granted') {
              held.set(job, now + 90_000);
              waiting.delete(job);
            } else if (answers[0]?.kind === 'wait') waiting.add(job);
          };
          for (const { what, job: number, ms } of steps) {
            const job = `j${String(number)}`;
            now += ms;
            for (const [each, until] of held) if (until <= now) held.delete(each);
            if (what === 'ask' && !held.has(job)) see(job, `t-${job}`);
            if (what === 'release' && held.delete(job)) locks.release(`t-${job}`, [job], now);
            if (what === 'renew' && held.has(job) && locks.renew(`t-${job}`, [job], now).length === 0)
              held.set(job, now + 90_000);
            // Who crashes is not heard of again: its lease runs out.
            expect(held.size).toBeLessThanOrEqual(size);
          }
          // From now on nothing goes wrong: who holds ends, who is woken comes.
          now += 90_000;
          for (let round = 0; waiting.size > 0 && round < 200; round += 1) {
            for (const job of locks.nextTurns(now)) {
              see(job, `t-${job}`);
              if (!waiting.has(job)) locks.release(`t-${job}`, [job], now);
            }
            now += 30_000;
          }
          expect([...waiting]).toEqual([]);
        }),
        { numRuns: 150 },
      );
    });
  });
});
