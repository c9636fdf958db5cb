// Measures one candidate and prints what it found as JSON; compare.mjs runs it in a process of its own, since some hang.

import { statSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import fc from 'fast-check';
import { somePattern } from '../../test/core/patterns.ts';
import { changesOf, duesInUtc, duesOf, EVERY_HOUR, ruleOf, walk } from '../../test/core/wall-clock.ts';
import { CANDIDATES } from './candidates.mjs';
import * as cases from './cases.mjs';

const { DAY_MS, HOUR_MS } = cases;
/** Some take a second for one time: what is not tried by then is counted as that. */
const DEADLINE_MS = 5 * 60_000;
const [, , name, part, pattern] = process.argv;
const candidate = CANDIDATES.find((one) => one.name === name);
const PARTS = { clocks, calendar, nonsense, rare, speed, size };
console.log(JSON.stringify(PARTS[part]()));

/** Due times in (from, to], until the candidate goes back or throws. */
function asked(find, from, to, most, counts) {
  const dues = [];
  for (let at = from; dues.length < most;) {
    const due = find(at);
    if (due === undefined || due > to) break;
    if (!(due > at)) {
      counts.notIncreasing += 1;
      break;
    }
    dues.push(due);
    at = due;
  }
  return dues;
}

function clocks() {
  const counts = { cases: 0, agree: 0, named: {}, everyHour: {}, notIncreasing: 0, exceptions: 0, untried: 0 };
  if (!candidate.zoned) return counts;
  for (const timezone of Intl.supportedValuesOf('timeZone')) {
    for (const change of changesOf(timezone, ...cases.YEARS)) {
      compareAll(counts, cases.PATTERNS, timezone, walk(timezone, change - 5 * HOUR_MS, change + 7 * HOUR_MS));
    }
  }
  for (const [timezone, night] of cases.FAMOUS) {
    const change = Date.parse(night);
    compareAll(counts, cases.PATTERNS, timezone, walk(timezone, change - 26 * HOUR_MS, change + 26 * HOUR_MS));
  }
  for (const [timezone, change] of distinctNights()) {
    const seen = walk(timezone, change - 3 * HOUR_MS, change + 3 * HOUR_MS, 1_000);
    compareAll(counts, cases.PATTERNS_WITH_SECONDS, timezone, seen);
  }
  return counts;
}

/** One zone for each moment and way in which clocks change in 2026. */
function distinctNights() {
  const nights = new Map();
  for (const timezone of Intl.supportedValuesOf('timeZone')) {
    for (const change of changesOf(timezone, Date.UTC(2026, 0, 1), Date.UTC(2027, 0, 1))) {
      const [before, after] = walk(timezone, change - 60_000, change).readings;
      nights.set([change, before.wall, after.wall].join(), [timezone, change]);
    }
  }
  return nights.values();
}

function compareAll(counts, patterns, timezone, seen) {
  const [from, to] = [seen.readings[0].at, seen.readings.at(-1).at];
  for (const cron of patterns) {
    counts.cases += 1;
    if (performance.now() > DEADLINE_MS) {
      counts.untried += 1;
      continue;
    }
    let dues;
    try {
      dues = String(asked(candidate.of(cron, timezone), from, to, 2_000, counts));
    } catch {
      counts.exceptions += 1;
      continue;
    }
    if (dues === String(duesOf(cron, seen))) {
      counts.agree += 1;
      continue;
    }
    const kind = ruleOf(cron) === EVERY_HOUR ? counts.everyHour : counts.named;
    const rule = otherRule(cron, seen, dues);
    kind[rule] = (kind[rule] ?? 0) + 1;
  }
}

/** Which of the rules that others have would give these times. */
function otherRule(cron, seen, dues) {
  for (const gap of ['end', 'shifted', 'skipped']) {
    for (const repeat of ['first', 'both', 'second']) {
      if (String(duesOf(cron, seen, { gap, repeat })) === dues) return `gap ${gap}, repeat ${repeat}`;
    }
  }
  return 'no rule';
}

/** Random patterns in UTC: what the fields say, without zones. */
function calendar() {
  const counts = {
    cases: 0,
    agree: 0,
    disagree: 0,
    star: 0,
    refused: { plain: 0, withLW: 0 },
    exceptions: 0,
    notIncreasing: 0,
    untried: 0,
  };
  const [from, to] = [Date.UTC(2026, 0, 1), Date.UTC(2026, 0, 1) + 3_000 * DAY_MS];
  for (const cron of fc.sample(somePattern, { seed: 20_260_101, numRuns: 2_000 })) {
    const expected = duesInUtc(cron, from, to, 20);
    if (expected.length === 0) continue;
    counts.cases += 1;
    if (performance.now() > DEADLINE_MS) {
      counts.untried += 1;
      continue;
    }
    let find;
    try {
      find = candidate.of(cron, 'UTC');
    } catch {
      counts.refused[/[LW#]/.test(cron.replace(/JUL|WED/g, '')) ? 'withLW' : 'plain'] += 1;
      continue;
    }
    try {
      const dues = asked(find, from, to, 20, counts);
      if (String(dues) === String(expected)) counts.agree += 1;
      else if (isStarRule(cron)) counts.star += 1;
      else counts.disagree += 1;
    } catch {
      counts.exceptions += 1;
    }
  }
  return counts;
}

/** Both fields of the day restricted, one of them beginning with a star or allowing all: crons differ here. */
function isStarRule(cron) {
  const [day, , weekday] = cron.split(' ').slice(-3);
  const isAll = (field) => field.includes('*') || /^(0-[67]|1-7|1-31)(\/1)?$/.test(field);
  return day !== '*' && weekday !== '*' && (isAll(day) || isAll(weekday));
}

function nonsense() {
  const taken = cases.NONSENSE.filter((cron) => {
    try {
      candidate.of(cron, 'UTC');
      return true;
    } catch {
      return false;
    }
  });
  return { taken };
}

function rare() {
  const begin = performance.now();
  let answer;
  try {
    const find = candidate.of(pattern, 'UTC');
    answer = 'says none';
    const due = find(Date.UTC(2026, 0, 1));
    if (due !== undefined) answer = `says ${new Date(due).toISOString()}`;
  } catch {
    answer = answer === undefined ? 'refused' : 'throws when asked';
  }
  return { answer, ms: Math.round(performance.now() - begin) };
}

function speed() {
  const zone = candidate.zoned ? 'Europe/Berlin' : 'UTC';
  const parse = timed(300, () => candidate.of('*/15 9-17 * * MON-FRI', zone));
  const each = (cron, timezone, times, goesOn = true) => {
    const find = candidate.of(cron, timezone);
    let at = Date.UTC(2026, 0, 1);
    return timed(times, () => {
      const due = find(at);
      if (goesOn) at = due;
    });
  };
  return {
    parse,
    utc: each('*/15 * * * *', 'UTC', 2_000),
    daily: candidate.zoned ? each('30 2 * * *', zone, 300) : undefined,
    quarter: candidate.zoned ? each('*/15 * * * *', zone, 2_000) : undefined,
    yearly: each('0 0 1 1 *', zone, 50, false),
  };
}

/** Microseconds for one, the middle of five rounds. */
function timed(times, run) {
  const rounds = Array.from({ length: 5 }, () => {
    const begin = performance.now();
    for (let time = 0; time < times; time += 1) run();
    return ((performance.now() - begin) / times) * 1_000;
  });
  return Number(rounds.sort((one, other) => one - other)[2].toPrecision(2));
}

function size() {
  if (name === 'ours') return {};
  const packages = withDependencies(name);
  const bundled = buildSync({
    stdin: { contents: `export * from '${name}'`, resolveDir: import.meta.dirname },
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'node',
  });
  return {
    dependencies: packages.slice(1),
    installedKb: Math.round(packages.reduce((sum, one) => sum + bytesOf(folderOf(one)), 0) / 1_000),
    bundledKb: Math.round(bundled.outputFiles[0].contents.length / 1_000),
    version: JSON.parse(readFileSync(join(folderOf(name), 'package.json'), 'utf8')).version,
  };
}

function withDependencies(one) {
  const { dependencies = {} } = JSON.parse(readFileSync(join(folderOf(one), 'package.json'), 'utf8'));
  return [...new Set([one, ...Object.keys(dependencies).flatMap(withDependencies)])];
}

function folderOf(one) {
  return join(import.meta.dirname, 'node_modules', one);
}

function bytesOf(folder) {
  return readdirSync(folder, { recursive: true }).reduce((sum, path) => {
    const found = statSync(join(folder, path));
    return found.isFile() ? sum + found.size : sum;
  }, 0);
}
