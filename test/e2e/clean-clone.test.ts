import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { freePort, ROOT, startGroup, surroundings, temporaryFolder, until, type Group } from '../flows/product.ts';

const INSTALL_WITHIN_MS = 240_000;
const SERVES_WITHIN_SECONDS = 90;

const run = promisify(execFile);
let group: Group | undefined;

afterAll(() => group?.kill());

test('a clone of this repository serves within 90 s of its install, with nothing set but a port', async () => {
  const clone = join(await temporaryFolder(), 'lovage');
  await run('git', ['clone', '--quiet', '--no-hardlinks', ROOT, clone], { env: surroundings(), timeout: 60_000 });
  expect(readFileSync(join(clone, 'README.md'), 'utf8')).toContain('npm ci && npm start');
  expect(existsSync(join(clone, '.dev.vars'))).toBe(false);

  const installing = startGroup('npm', ['ci'], clone, {});
  group = installing;
  const installFrom = Date.now();
  expect({ code: await installing.exited(INSTALL_WITHIN_MS), said: installing.output() }).toMatchObject({ code: 0 });
  await installing.kill();
  const installed = secondsSince(installFrom);

  const port = String(await freePort());
  const address = `http://127.0.0.1:${port}`;
  const startFrom = Date.now();
  const started = startGroup('npm', ['start'], clone, { PORT: port });
  group = started;
  await started.untilSaid('Lovage is ready', SERVES_WITHIN_SECONDS * 1_000);
  expect((await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(10_000) })).status).toBe(200);
  const served = secondsSince(startFrom);
  process.stdout.write(`clean clone: installed in ${String(installed)} s, served ${String(served)} s later\n`);
  expect(served).toBeLessThan(SERVES_WITHIN_SECONDS);

  // What it printed is all that is needed to use it.
  expect(started.output()).toContain(address);
  const smoke = await run('npm', ['run', 'smoke'], {
    cwd: clone,
    env: { ...surroundings(), PORT: port },
    timeout: 120_000,
  });
  expect(smoke.stdout).toContain('SUCCESS');
  expect(smoke.stdout).toContain('duplicate');

  // An edit is served at once; one that does not compile is said so, and what runs goes on.
  const source = join(clone, 'src/routes/app.ts');
  const text = readFileSync(source, 'utf8');
  const edit = async (edited: string, body: string): Promise<void> => {
    writeFileSync(source, edited);
    await until(`the answer is ${body}`, 30_000, async () => {
      const live = await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(10_000) }).catch(
        () => undefined,
      );
      return (await live?.text()) === body ? true : undefined;
    });
  };
  const before = await (await fetch(`${address}/health/live`)).text();
  await edit(text.replace("{ status: 'ok' }", "{ status: 'edited' }"), before.replace('ok', 'edited'));
  writeFileSync(source, `${text}\n)`);
  await started.untilSaid('Unexpected ")"', 30_000);
  expect((await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(10_000) })).status).toBe(200);
  await edit(text, before);

  const { stdout: changed } = await run('git', ['status', '--porcelain'], { cwd: clone, env: surroundings() });
  expect(changed).toBe('');

  started.signal('SIGTERM');
  await until('nobody of it is left', 15_000, () => Promise.resolve(started.living().size === 0 || undefined));
}, 600_000);

function secondsSince(from: number): number {
  return Math.round((Date.now() - from) / 100) / 10;
}
