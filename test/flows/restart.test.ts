import { afterEach, expect, test } from 'vitest';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  countEffects,
  enqueue,
  freePort,
  listJobs,
  side,
  startProduct,
  startProgram,
  temporaryFolder,
  until,
  type Product,
} from './product.ts';

const started: { kill(): Promise<void> }[] = [];

afterEach(async () => {
  await Promise.all(started.splice(0).map((each) => each.kill()));
});

async function start(persistTo?: string): Promise<Product> {
  const product = await startProduct(persistTo === undefined ? {} : { persistTo });
  started.push(product);
  return product;
}

test('what ended before the machine died is not run again', async () => {
  const before = await start();
  const ids: string[] = [];
  await side(numbers(20), 8, async (n) => {
    ids.push(await enqueue(before, 'debug.effect', { key: `done-${String(n)}` }));
  });
  await until('all are final', 30_000, async () => {
    const jobs = await listJobs(before, 'state=SUCCESS');
    return jobs.length === ids.length ? true : undefined;
  });
  await before.kill();

  const after = await start(before.persistTo);
  const id = await enqueue(after, 'debug.effect', { key: 'done-after' });
  await until('the one after is final', 30_000, async () =>
    (await listJobs(after, 'state=SUCCESS')).some((job) => job.id === id) ? true : undefined,
  );
  const effects = await countEffects(after, 'done-');
  expect(effects.size).toBe(21);
  expect([...effects].filter(([, runs]) => runs !== 1)).toEqual([]);
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
  '%s ends it cleanly: exit code 0, and nobody of it is left',
  async (signal) => {
    const { group } = await start();
    expect(commands(group.living())).toContain('workerd');
    group.signal(signal);
    expect(await group.exited(10_000)).toBe(0);
    await expectNobody(group);
  },
);

test('SIGTERM in any moment of its start ends it cleanly too', async () => {
  for (const afterMs of [50, 300, 800, 1_500, 2_500, 4_000]) {
    const group = startProgram({ PORT: String(await freePort()), PERSIST_TO: await temporaryFolder() });
    started.push(group);
    await sleep(afterMs);
    group.signal('SIGTERM');
    const code = await group.exited(10_000);
    // Node itself dies of a signal that comes before our first line is read.
    expect({ afterMs, code: afterMs < 1_500 ? (code ?? 0) : code }).toEqual({ afterMs, code: 0 });
    await expectNobody(group);
    expect(group.output()).not.toMatch(/error/i);
  }
});

test('killed itself, it takes its workerd with it', async () => {
  const { group } = await start();
  group.signal('SIGKILL');
  expect(await group.exited(10_000)).toBe(null);
  await expectNobody(group);
});

test('a workerd that dies is replaced, and what it had in its queues is done', async () => {
  const product = await start();
  const { group } = product;
  const [workerd] = [...group.living()].find(([, command]) => command.includes('workerd')) ?? [];
  if (workerd === undefined) throw new Error('No workerd runs.');
  const ids = [
    await enqueue(product, 'debug.effect', { key: 'replaced-now' }),
    await enqueue(product, 'debug.effect', { key: 'replaced-later' }, { countdown: 5 }),
  ];
  process.kill(workerd, 'SIGKILL');
  await until('both are done', 60_000, async () => {
    const jobs = await listJobs(product, 'state=SUCCESS').catch(() => []);
    return jobs.length === ids.length ? true : undefined;
  });
  expect((await countEffects(product, 'replaced-')).size).toBe(2);
});

test('a port that is taken is said so, and nothing else happens', async () => {
  const { address, group: first } = await start();
  const port = new URL(address).port;
  const second = startProgram({ PORT: port, PERSIST_TO: await temporaryFolder() });
  started.push(second);
  expect(await second.exited(20_000)).toBe(1);
  await until('it says why', 2_000, () =>
    Promise.resolve(second.output().includes(`Port ${port} is taken`) || undefined),
  );
  expect(second.output()).not.toContain('    at ');
  await expectNobody(second);
  expect(commands(first.living())).toContain('workerd');
});

test('two instances live side by side, each with its own jobs', async () => {
  const [one, other] = await Promise.all([start(), start()]);
  await enqueue(one, 'debug.effect', { key: 'mine' });
  await enqueue(other, 'debug.effect', { key: 'theirs' });
  for (const [product, key] of [
    [one, 'mine'],
    [other, 'theirs'],
  ] as const) {
    const [job, ...more] = await until(`${key} is done`, 30_000, async () => {
      const jobs = await listJobs(product);
      return jobs.every(({ ready }) => ready) ? jobs : undefined;
    });
    expect(more).toEqual([]);
    expect(job).toMatchObject({ state: 'SUCCESS', input: { key } });
    expect([...(await countEffects(product, ''))]).toEqual([[key, 1]]);
  }
  expect(await one.stop()).toBe(0);
  expect((await other.get('/health')).status).toBe(200);
});

async function expectNobody(group: { living(): ReadonlyMap<number, string> }): Promise<void> {
  await until('nobody is left', 5_000, () => Promise.resolve(group.living().size === 0 || undefined)).catch(
    () => undefined,
  );
  expect([...group.living().values()]).toEqual([]);
}

function commands(living: ReadonlyMap<number, string>): string {
  return [...living.values()].join('\n');
}

function numbers(count: number): readonly number[] {
  return Array.from({ length: count }, (_, n) => n);
}
