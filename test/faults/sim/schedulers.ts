// People who make schedules, change them, run them by hand and make good what was missed.

import { DatabaseError } from '../../../src/core/ports.ts';
import type { Runtime } from '../../../src/jobs/runtime.ts';
import { bodyOf, callOf, readDefinition } from '../../../src/jobs/schedule.ts';
import { backfill } from '../../../src/jobs/backfill.ts';
import {
  changeSchedule,
  createSchedule,
  findSchedule,
  removeSchedule,
  runNow,
} from '../../../src/jobs/schedule-control.ts';
import type { Definition, Schedule } from '../../../src/store/schedules.ts';
import type { Prng } from './prng.ts';
import type { Deed, Timetable } from './timetables.ts';
import type { World } from './world.ts';

const ACTOR = 'sim';
const MOST_TRIES = 4;
const A_DAY_SECONDS = 86_400;

/** Starts what everybody does to the schedules of the seed. */
export function startSchedulers(world: World, random: Prng): void {
  for (const timetable of world.timetables) {
    for (const { at, deed } of timetable.deeds) world.after(at, () => doUntilDone(world, random, timetable, deed));
  }
}

async function doUntilDone(world: World, random: Prng, timetable: Timetable, deed: Deed): Promise<void> {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const drawn = random.fork();
    const answer = await world.invoke(deed, world.machines.any(), (rt) => doOnce(world, rt, drawn, timetable, deed));
    if (answer.kind === 'failed') {
      const silent = answer.error instanceof DatabaseError && answer.error.kind === 'outage';
      if (!silent) world.violate('internal', undefined, `${deed} threw ${String(answer.error)}`);
    }
    if (answer.kind === 'answered' && answer.value) return;
    // Not everybody tries again what was not answered.
    if (deed !== 'create' && random.chance(0.3)) return;
    await world.timeline.sleep(random.between(200, 20_000));
  }
}

/** false: somebody else changed it at the same moment. */
async function doOnce(world: World, rt: Runtime, random: Prng, timetable: Timetable, deed: Deed): Promise<boolean> {
  const { name } = timetable;
  const found = await findSchedule(rt, name);
  if (deed === 'create') {
    if (found !== undefined) return true;
    const definition = definitionOf(rt, { ...timetable.body, ...callIn(timetable, world.agenda.nextEdition()) });
    const made = await createSchedule(rt, name, definition, { paused: random.chance(0.1), actor: ACTOR });
    if (made !== undefined) world.agenda.acknowledged(name, undefined, made.revision);
    return made !== undefined;
  }
  if (found === undefined) return true;
  switch (deed) {
    case 'delete':
      return removeSchedule(rt, found, ACTOR);
    case 'run':
      return runByHand(world, rt, found);
    case 'backfill':
      return backfillSome(world, rt, random, found);
    case 'pause':
    case 'resume':
    case 'edit':
    case 'move':
      return change(world, rt, random, found, timetable, deed);
  }
}

async function change(
  world: World,
  rt: Runtime,
  random: Prng,
  found: Schedule,
  timetable: Timetable,
  deed: 'pause' | 'resume' | 'edit' | 'move',
): Promise<boolean> {
  const isPaused = found.paused_at !== null;
  if (deed === 'pause' || deed === 'resume') {
    if (isPaused === (deed === 'pause')) return true;
    const done = await changeSchedule(rt, found, found, { paused: !isPaused, actor: ACTOR });
    if (done !== undefined) world.agenda.acknowledged(found.name, found.revision, done.revision);
    return done !== undefined;
  }
  const { cron, every, ...rest } = bodyOf(found);
  const times = deed === 'move' ? { every: random.pick(timetable.moves) } : { cron, every };
  const definition = definitionOf(rt, { ...rest, ...times, ...callIn(timetable, world.agenda.nextEdition()) });
  const done = await changeSchedule(rt, found, definition, { paused: isPaused, actor: ACTOR });
  if (done !== undefined) world.agenda.acknowledged(found.name, found.revision, done.revision);
  return done !== undefined;
}

function definitionOf(rt: Runtime, body: Readonly<Record<string, unknown>>): Definition {
  const definition = readDefinition(rt.registry, body);
  if (!definition.ok) throw new Error(JSON.stringify(definition.faults));
  return definition.value;
}

// How long results are kept tells which edition of the schedule made a run.
function callIn({ plan }: Timetable, edition: number): Record<string, unknown> {
  const { task, input, options } = plan.call as { task: string; input: object; options: object };
  return { task, input, options: { ...options, result_ttl: A_DAY_SECONDS + edition } };
}

async function runByHand(world: World, rt: Runtime, schedule: Schedule): Promise<boolean> {
  const call = callOf(rt.registry, schedule);
  if (!call.ok) throw new Error(JSON.stringify(call.faults));
  const enqueued = await runNow(rt, schedule, call.value, { owner: ACTOR });
  if (enqueued.kind === 'accepted') world.acceptedIds.add(enqueued.id);
  return enqueued.kind === 'accepted';
}

async function backfillSome(world: World, rt: Runtime, random: Prng, schedule: Schedule): Promise<boolean> {
  const now = rt.clock.now();
  const from = now - random.between(0, 600_000);
  const to = now - random.between(0, 60_000);
  const limit = random.pick([1_000, 1_000, 5]);
  const done = await backfill(rt, schedule, { from, to, limit, dryRun: false, actor: ACTOR });
  for (const { jobId } of done?.fired ?? []) if (jobId !== null) world.acceptedIds.add(jobId);
  return done !== undefined;
}
