import { execFile, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NODE, ROOT, until } from './product.ts';

let folder: string;
let watching: ChildProcess;
let printed = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lovage-watch-'));
  await mkdir(join(folder, 'tasks'));
  await writeFile(join(folder, 'tasks/a.ts'), '1');
  const serve = JSON.stringify(pathToFileURL(join(ROOT, 'scripts/serve.mjs')).href);
  const program = `import { watchSources } from ${serve};
watchSources(async () => console.log('changed'), ${JSON.stringify(folder)});
console.log('watching');`;
  watching = execFile(NODE, ['--input-type=module', '--eval', program]);
  watching.stdout?.on('data', (text: string) => (printed += text));
  watching.stderr?.on('data', (text: string) => (printed += text));
  await untilPrinted('watching');
});

afterAll(async () => {
  watching.kill();
  await rm(folder, { recursive: true });
});

async function untilPrinted(word: string): Promise<void> {
  await until(`"${word}"`, 20_000, async () => Promise.resolve(printed.includes(word) ? true : undefined));
}

async function isSeen(change: () => Promise<unknown>): Promise<void> {
  // What is still to be said of the change before this one.
  await new Promise((quiet) => setTimeout(quiet, 1_000));
  printed = '';
  await change();
  await untilPrinted('changed');
}

/** As many editors and git do: whoever reads the file meanwhile sees the old one or the new one. */
async function replace(path: string, text: string): Promise<void> {
  await writeFile(`${folder}.new`, text);
  await rename(`${folder}.new`, path);
}

test('an edit is seen, also of a file that was replaced before, and in folders that are new or were there before', async () => {
  const file = join(folder, 'tasks/a.ts');
  await isSeen(() => writeFile(file, '2'));
  await isSeen(() => replace(file, '3'));
  await isSeen(() => writeFile(file, '4'));
  await isSeen(() => replace(file, '5'));
  expect(printed).not.toContain('not seen');
  await isSeen(() => mkdir(join(folder, 'mine/deep'), { recursive: true }));
  await isSeen(() => writeFile(join(folder, 'mine/deep/b.ts'), '1'));
  await isSeen(() => writeFile(join(folder, 'mine/deep/b.ts'), '2'));
  await isSeen(async () => {
    await rm(join(folder, 'mine'), { recursive: true });
    await mkdir(join(folder, 'mine/deep'), { recursive: true });
  });
  await isSeen(() => writeFile(join(folder, 'mine/deep/b.ts'), '3'));
});
