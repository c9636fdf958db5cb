// The platform around the Worker: it calls consumers and the cron trigger, and lets isolates die and stand still.

import { consume, type IncomingMessage } from '../../../src/consumers/batch.ts';
import { beatAndTick } from '../../../src/cron/watchdog.ts';
import { idOf } from './message.ts';
import { clock } from './trace.ts';
import type { World } from './world.ts';

/** The platform's own limit of one batch. */
const MAX_BATCH_MS = 15 * 60_000;

/** Calls a consumer with one batch. */
export async function deliver(
  world: World,
  queue: string,
  messages: readonly IncomingMessage[],
): Promise<'ended' | 'died'> {
  // Where killers are all that goes wrong, what shares no batch with one must not notice it.
  const isolate = world.faults.weather === 'killers' ? world.machines.fresh() : world.machines.any();
  const startedAt = world.timeline.now;
  const ended = await world.invoke('batch', isolate, (rt) => {
    world.note(
      () => messages.map(({ body }) => idOf(body) ?? ''),
      () => `${isolate.name} is given ${String(messages.length)} of ${queue}`,
    );
    return consume(rt, { queue, messages });
  });
  const took = world.timeline.now - startedAt;
  if (ended.kind === 'failed') world.violate('batch', undefined, `a batch threw ${String(ended.error)}`);
  if (ended.kind === 'answered' && took > MAX_BATCH_MS && isolate.frozenMs === 0) {
    world.violate('batch', undefined, `a batch took ${clock(took)}`);
  }
  return ended.kind === 'died' ? 'died' : 'ended';
}

/** Starts the cron trigger and, while things go wrong, whatever happens to isolates of itself. */
export function startPlatform(world: World): void {
  trigger(world, 1);
  trouble(world);
}

function trigger(world: World, minute: number): void {
  const { timeline, faults, random } = world;
  timeline.at(world.start + minute * 60_000 + random.between(0, 1_500), () => {
    trigger(world, minute + 1);
    const also = world.fateOfTick();
    if (faults.strikes('tick.missing') || also === 'missing') return;
    const late = faults.strikes('tick.late') ? random.between(1, 300) * 1_000 : 0;
    const times = faults.strikes('tick.doubled') || also === 'doubled' ? 2 : 1;
    for (let time = 0; time < times; time += 1) {
      timeline.after(late + time * random.between(0, 5_000), () => void callTick(world));
    }
  });
}

async function callTick(world: World): Promise<void> {
  if (world.watchdog.isAlone) return;
  const ended = await world.invoke('tick', world.machines.any(), (rt) => beatAndTick(rt, world.bootId));
  if (ended.kind === 'failed') world.violate('tick', undefined, `a tick threw ${String(ended.error)}`);
}

function trouble(world: World): void {
  const { timeline, faults, random } = world;
  timeline.after(60_000, () => {
    if (!faults.on) return;
    trouble(world);
    for (const kind of ['crash.anytime', 'machine.crash'] as const) {
      if (!faults.strikes(kind)) continue;
      timeline.after(random.between(0, 59_000), () => {
        world.machines.any().die();
      });
    }
    if (faults.strikes('freeze')) {
      const long = random.chance(0.5);
      world.machines.any().freeze((long ? random.between(80, 200) : random.between(2, 30)) * 1_000);
    }
  });
}
