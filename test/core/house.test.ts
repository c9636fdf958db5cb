import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const SRC = join(import.meta.dirname, '../../src');

/** Path below src/ → text. */
type House = ReadonlyMap<string, string>;

const house: House = new Map(
  readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => [path.replaceAll('\\', '/'), readFileSync(join(SRC, path), 'utf8')]),
);

// Design section 2: a job moves down this list, and imports only ever point down it. env.ts stands beside queues.ts.
const PLACES = [
  'index',
  'routes',
  'consumers',
  'cron',
  'dashboard',
  'webhooks',
  'tasks',
  'providers',
  'jobs',
  'queues',
  'durable',
  'store',
  'core',
] as const;
type Place = (typeof PLACES)[number];

const SINGLE_FILES: Readonly<Record<string, Place>> = {
  'index.ts': 'index',
  'queues.ts': 'queues',
  'env.ts': 'queues',
};
const ENGINE: readonly Place[] = ['consumers', 'jobs', 'queues', 'durable', 'store', 'core'];
const DOMAINS: readonly Place[] = ['webhooks', 'tasks', 'providers'];
const FORBIDDEN_NAMES = ['utils', 'helpers', 'common', 'services', 'lib'];

function placeOf(path: string): Place | undefined {
  const [folder, ...below] = path.split('/');
  if (below.length === 0) return SINGLE_FILES[path];
  return PLACES.find((place) => place === folder && !Object.values(SINGLE_FILES).includes(place));
}

interface Import {
  readonly from: string;
  /** Path below src/, or the name of a package. */
  readonly to: string;
  readonly own: boolean;
}

/** Everything a file imports or re-exports, types included, wherever in the file. */
function importsOf(path: string, text: string): readonly Import[] {
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined): void => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return;
    const own = specifier.text.startsWith('.');
    found.push({ from: path, own, to: own ? join(path, '..', specifier.text) : specifier.text });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node.moduleSpecifier);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0]);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal);
    ts.forEachChild(node, visit);
  };
  visit(parse(path, text));
  return found;
}

function parse(path: string, text: string): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest);
}

function allImports(files: House): readonly Import[] {
  return [...files].flatMap(([path, text]) => importsOf(path, text));
}

const shown = ({ from, to }: Import): string => `${from} imports ${to}`;

function homeless(files: House): readonly string[] {
  return [...files.keys()].filter((path) => placeOf(path) === undefined);
}

function badlyNamed(files: House): readonly string[] {
  const named = (part: string): boolean => FORBIDDEN_NAMES.includes(part.replace(/\.ts$/, ''));
  return [...files.keys()].filter((path) => path.split('/').some(named));
}

function upward(files: House): readonly string[] {
  const rank = (path: string): number => PLACES.indexOf(placeOf(path) ?? 'core');
  return allImports(files)
    .filter(({ from, to, own }) => own && rank(to) < rank(from))
    .map(shown);
}

function outside(files: House): readonly string[] {
  return allImports(files)
    .filter(({ to, own }) => own && !files.has(to))
    .map(shown);
}

function engineKnowingDomains(files: House): readonly string[] {
  const within = (places: readonly Place[], path: string): boolean => places.some((place) => place === placeOf(path));
  return allImports(files)
    .filter(({ from, to, own }) => own && within(ENGINE, from) && within(DOMAINS, to))
    .map(shown);
}

function barrels(files: House): readonly string[] {
  const onlyPassesOn = (statement: ts.Statement): boolean =>
    ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement);
  return [...files]
    .filter(([path, text]) => path !== 'index.ts' && parse(path, text).statements.every(onlyPassesOn))
    .map(([path]) => path);
}

function longerThan(files: House, lines: number): readonly string[] {
  return [...files].filter(([, text]) => text.trimEnd().split('\n').length > lines).map(([path]) => path);
}

function impureCore(files: House): readonly string[] {
  return allImports(files)
    .filter(
      ({ from, to, own }) => placeOf(from) === 'core' && (own ? placeOf(to) !== 'core' : !CORE_PACKAGES.includes(to)),
    )
    .map(shown);
}
// croner is used as a calendar without zones, which is given its instants (docs/decisions/0009-cron.md).
const CORE_PACKAGES = ['zod', 'ipaddr.js', 'croner', 'node:crypto'];

/** Clocks, chance and the network: `core` is given what it needs to know of them. */
function worldlyCore(files: House): readonly string[] {
  const AMBIENT =
    /^(?:fetch|setTimeout|setInterval|performance|Date\.now|Math\.random|crypto\.(?:randomUUID|getRandomValues))$/;
  const found: string[] = [];
  for (const [path, text] of files) {
    if (placeOf(path) !== 'core') continue;
    const source = parse(path, text);
    const visit = (node: ts.Node): void => {
      const clock = ts.isNewExpression(node) && node.expression.getText(source) === 'Date' && !node.arguments?.length;
      const called = ts.isCallExpression(node) && AMBIENT.test(node.expression.getText(source));
      if (clock || called) found.push(`${path}: ${node.getText(source)}`);
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

describe('the house', () => {
  it('is not empty: its rules have something to look at', () => {
    expect(house.size).toBeGreaterThan(30);
    expect(allImports(house).length).toBeGreaterThan(100);
    for (const place of ['routes', 'consumers', 'cron', 'jobs', 'store', 'core']) {
      expect([...house.keys()].some((path) => path.startsWith(`${place}/`))).toBe(true);
    }
  });

  it('has a place for every file', () => {
    expect(homeless(house)).toEqual([]);
  });

  it('has no utils, helpers, common, services or lib', () => {
    expect(badlyNamed(house)).toEqual([]);
  });

  it('lets imports only ever point down, types included', () => {
    expect(upward(house)).toEqual([]);
  });

  it('imports nothing of its own that is not under src', () => {
    expect(outside(house)).toEqual([]);
  });

  it('has an engine that knows nothing of any domain', () => {
    expect(engineKnowingDomains(house)).toEqual([]);
  });

  it('has no barrels', () => {
    expect(barrels(house)).toEqual([]);
  });

  it('has an entry of at most 40 lines', () => {
    expect(house.get('index.ts')?.trimEnd().split('\n').length).toBeLessThanOrEqual(40);
  });

  it('has no file that is longer than a sitting of 250 lines', () => {
    expect(longerThan(house, 250)).toEqual([]);
  });

  it('has a core that imports only zod, ipaddr.js, croner, node:crypto and itself', () => {
    expect(impureCore(house)).toEqual([]);
  });

  it('has a core without a clock, chance or the network', () => {
    expect(worldlyCore(house)).toEqual([]);
  });
});

describe('the rules of the house', () => {
  const with1 = (path: string, text: string): House => new Map([...house, [path, text]]);

  it.each([
    ['a value from above', 'cron/x.ts', `import { consume } from '../consumers/batch.ts';`],
    ['a type from above', 'store/x.ts', `import type { Env } from '../env.ts';`],
    ['a type in line from above', 'core/x.ts', `export type X = import('../queues.ts').QueueName;`],
    ['a re-export from above', 'jobs/x.ts', `export { tasks } from '../tasks/index.ts'; export const x = 1;`],
    ['a dynamic import from above', 'jobs/x.ts', `export const x = () => import('../routes/app.ts');`],
    ['the index', 'routes/x.ts', `import worker from '../index.ts'; export const x = worker;`],
  ])('see %s', (_, path, text) => {
    expect(upward(with1(path, text))).toHaveLength(1);
  });

  it('let routes, consumers and cron import what is below them, and env.ts be read by jobs', () => {
    const files = new Map([
      ['consumers/x.ts', `import { repair } from '../cron/repair.ts';`],
      ['routes/x.ts', `import { consume } from '../consumers/batch.ts'; import { debugTasksOn } from '../env.ts';`],
      ['jobs/x.ts', `import type { Env } from '../env.ts'; import { QUEUES } from '../queues.ts';`],
      ['env.ts', `import type { ReplayGuard } from './durable/replay-guard.ts';`],
    ]);
    expect(upward(files)).toEqual([]);
  });

  it('see a consumer that knows a task, although tasks are below consumers', () => {
    const files = with1('consumers/x.ts', `import type { x } from '../tasks/index.ts';`);
    expect(upward(files)).toEqual([]);
    expect(engineKnowingDomains(files)).toEqual(['consumers/x.ts imports tasks/index.ts']);
  });

  it('see a file without a place, a bad name, a barrel, a long file and an import from beside src', () => {
    expect(homeless(with1('misc/x.ts', ''))).toEqual(['misc/x.ts']);
    expect(homeless(with1('queues/x.ts', ''))).toEqual(['queues/x.ts']);
    expect(homeless(with1('x.ts', ''))).toEqual(['x.ts']);
    expect(badlyNamed(with1('jobs/utils/x.ts', ''))).toEqual(['jobs/utils/x.ts']);
    expect(badlyNamed(with1('jobs/helpers.ts', ''))).toEqual(['jobs/helpers.ts']);
    expect(barrels(with1('jobs/x.ts', `export * from './a.ts'; export { b } from './b.ts';`))).toEqual(['jobs/x.ts']);
    expect(barrels(with1('jobs/x.ts', `import { a } from './a.ts'; export { a };`))).toEqual(['jobs/x.ts']);
    expect(longerThan(with1('jobs/x.ts', 'x;\n'.repeat(250)), 250)).toEqual([]);
    expect(longerThan(with1('jobs/x.ts', 'x;\n'.repeat(251)), 250)).toEqual(['jobs/x.ts']);
    expect(outside(with1('jobs/x.ts', `import { z } from '../../test/z.ts';`))).toHaveLength(1);
  });

  it('see a core that reaches out', () => {
    expect(impureCore(with1('core/x.ts', `import { Hono } from 'hono';`))).toEqual(['core/x.ts imports hono']);
    expect(impureCore(with1('core/x.ts', `import type { X } from '../store/rows.ts';`))).toHaveLength(1);
    const text = 'const a = new Date(); const b = Math.random(); const c = fetch("/"); const d = new Date(5);';
    expect(worldlyCore(with1('core/x.ts', text))).toHaveLength(3);
  });
});
