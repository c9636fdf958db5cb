// Brings the schedules of the code into the database: new and changed ones by the first tick of a deployment, and those
// whose task or settings are no longer there out of use. Never touches one that was made by the API.

import { sha256Hex } from '../core/digest.ts';
import { canonicalJson, type Json } from '../core/json.ts';
import type { Statement } from '../core/ports.ts';
import { raise, settle } from '../jobs/alerts.ts';
import { query, transact } from '../jobs/database.ts';
import { logError, logInfo } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { bodyOf, readDefinition, type CodeSchedule } from '../jobs/schedule.ts';
import { CHANGED, GONE, newRevision, replacement, startAt } from '../jobs/schedule-change.ts';
import { settleFailing } from '../store/failing.ts';
import { revokeFirings } from '../store/firings.ts';
import {
  deleteSchedule,
  insertSchedule,
  readSchedule,
  selectCodeSchedules,
  updateSchedule,
  type Definition,
  type Schedule,
} from '../store/schedules.ts';
import { readMark, writeMark } from '../store/sweeps.ts';

const MARK = 'schedules.code';

/** Does its work once for each deployment that differs. */
export async function syncSchedules(rt: Runtime, lines = rt.schedules): Promise<void> {
  const wanted = new Map(lines.flatMap((line) => definitionOf(rt, line)));
  const digest = sha256Hex(canonicalJson([lines.map(({ name }) => name), [...wanted].map(([, is]) => is)]));
  const [row] = await query(rt, readMark(MARK));
  const [mark, ...takenBefore] = typeof row?.['value'] === 'string' ? row['value'].split(' ') : [];
  if (mark === digest && takenBefore.length === 0) return;
  const now = rt.clock.now();
  const rows = await query(rt, selectCodeSchedules(lines.map(({ name }) => name)));
  const stored = new Map(rows.map(readSchedule).map((each) => [each.name, each]));
  const taken = [...wanted.keys()].filter((name) => stored.get(name)?.origin === 'api');
  const names = new Set([...lines.map(({ name }) => name), ...stored.keys()]);
  const steps: Statement[] = [];
  for (const name of names) {
    const listed = lines.some((line) => line.name === name);
    steps.push(...(await stepFor(rt, name, wanted.get(name), stored.get(name), listed, now)));
  }
  const answers = steps.length === 0 ? [] : await transact(rt, steps);
  await tellOfTaken(rt, taken, takenBefore);
  // A step for what somebody else has changed meanwhile did nothing: the next tick looks again.
  if (steps.some(({ name }, at) => name === 'schedule' && answers[at]?.rows.length !== 1)) return;
  // As long as a name is taken, each tick looks whether it has become free.
  await transact(rt, [writeMark(MARK, [digest, ...taken].join(' '))]);
  if (mark !== digest) logInfo('schedules.synced', { working: wanted.size, listed: lines.length });
}

const NAME_TAKEN = 'schedule_name_taken';

async function tellOfTaken(rt: Runtime, taken: readonly string[], takenBefore: readonly string[]): Promise<void> {
  for (const name of takenBefore.filter((each) => !taken.includes(each))) await settle(rt, NAME_TAKEN, name);
  for (const name of taken) {
    const message =
      `The schedule ${name} of the code is not run: one that was made by the API has its name. ` +
      'Delete that one, or rename the line in src/cron/schedules.ts.';
    await raise(rt, { kind: NAME_TAKEN, target: name, severity: 'warning', message, detail: {} });
  }
}

/** Why a schedule of the code is not run by this deployment; undefined where it is. */
export function whyNotRun(rt: Runtime, { name, task = name, needs = [] }: CodeSchedule): string | undefined {
  if (rt.registry.find(task) === undefined) return `there is no task ${JSON.stringify(task)} in this deployment`;
  const missing = needs.filter((setting) => !isSet(rt.env[setting]));
  return missing.length === 0 ? undefined : `not set: ${missing.join(', ')}`;
}

function isSet(value: unknown): boolean {
  return typeof value === 'string' && value.trim() !== '';
}

function definitionOf(rt: Runtime, line: CodeSchedule): readonly (readonly [string, Definition])[] {
  if (whyNotRun(rt, line) !== undefined) return [];
  const definition = readDefinition(rt.registry, bodyOfLine(line));
  if (definition.ok) return [[line.name, definition.value]];
  // A test reads every line: only a setting of this deployment can come to this.
  const faults = definition.faults.map(({ path, message }) => `${path}: ${message}`);
  logError('schedule.refused', new Error(faults.join('; ')), { schedule: line.name });
  return [];
}

/** A line of the code as a body says it. */
export function bodyOfLine({ name, needs: _, ...line }: CodeSchedule): Record<string, unknown> {
  return { task: name, ...line };
}

async function stepFor(
  rt: Runtime,
  name: string,
  wanted: Definition | undefined,
  stored: Schedule | undefined,
  listed: boolean,
  now: number,
): Promise<readonly Statement[]> {
  if (stored?.origin === 'api') return [];
  if (wanted === undefined) return stored === undefined ? [] : outOfUse(rt, stored, listed, now);
  if (stored === undefined) {
    return [insertSchedule(name, 'code', wanted, startAt(rt, wanted, { now, pausedAt: null }))];
  }
  const { paused_at: pausedAt } = stored;
  const inUse = stored.next_at !== null || pausedAt !== null;
  if (inUse && sameDefinition(stored, wanted)) return [];
  const { update, follow } = await replacement(rt, stored, wanted, { now, pausedAt, message: CHANGED, anew: !inUse });
  return [update, ...follow];
}

// One that is listed still is perhaps back with the next deployment: whether it is paused is kept.
function outOfUse(rt: Runtime, stored: Schedule, listed: boolean, now: number): readonly Statement[] {
  const { name, revision, paused_at: pausedAt } = stored;
  const start = { now, revision: newRevision(rt), since: now, nextAt: null, pausedAt };
  return [
    listed ? updateSchedule(name, revision, stored, start) : deleteSchedule(name, revision),
    ...revokeFirings(name, { revision: listed ? start.revision : null, now, message: GONE }),
    settleFailing([name], now),
  ];
}

function sameDefinition(one: Definition, other: Definition): boolean {
  return canonicalJson(bodyOf(one) as Json) === canonicalJson(bodyOf(other) as Json);
}
