// Everybody outside: callers who try again, people who revoke, operators who requeue and pause, and whoever sends garbage.

import type { Enqueued } from '../../../src/jobs/enqueue.ts';
import { submit } from '../../../src/jobs/enqueue.ts';
import { findJob, revoke, runAgain } from '../../../src/jobs/inspect.ts';
import { readCall } from '../../../src/jobs/request.ts';
import { requeue } from '../../../src/jobs/requeue.ts';
import type { Runtime } from '../../../src/jobs/runtime.ts';
import { pause, resume } from '../../../src/jobs/queue-control.ts';
import type { QueueName } from '../../../src/queues.ts';
import { wakeResumed } from '../../../src/cron/resumed.ts';
import { isOver } from './ledger.ts';
import type { Prng } from './prng.ts';
import type { Plan } from './workload.ts';
import type { World } from './world.ts';

const CALLER = { owner: 'sim', source: 'api' };
const MOST_TRIES = 6;
const CONTROLLED = ['default', 'default', 'email', 'bulk', 'critical'] as const;

/** Starts everybody's doings of the whole seed. */
export function startClients(world: World): void {
  for (const plan of world.plans) {
    world.after(plan.at, () => submitUntilTaken(world, plan));
    for (const apart of plan.repeats) world.after(plan.at + apart, () => submitUntilTaken(world, plan));
    for (const { after, terminate } of plan.revokes) {
      world.after(plan.at + after, () => revokeAny(world, plan.n, terminate));
    }
  }
  operate(world);
  const random = world.random.fork();
  if (random.chance(0.4)) control(world, random);
}

async function submitUntilTaken(world: World, plan: Plan): Promise<void> {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const answer = await world.invoke('submit', world.machines.any(), (rt) => accept(rt, plan));
    if (answer.kind === 'failed') world.violate('internal', undefined, `submit threw ${String(answer.error)}`);
    if (answer.kind === 'answered' && answer.value.kind === 'accepted') {
      world.accepted(plan, answer.value.id);
      return;
    }
    if (answer.kind === 'answered' && answer.value.kind === 'conflict') {
      world.violate('idempotency', undefined, `the same call under key-${String(plan.n)} was called another`);
    }
    // Whoever has no key must not try again.
    if (!plan.keyed) return;
    await world.timeline.sleep(world.random.between(500, 20_000));
  }
}

async function accept(rt: Runtime, plan: Plan): Promise<Enqueued> {
  const request = readCall(rt.registry, plan.call);
  if (!request.ok) throw new Error(JSON.stringify(request.faults));
  return submit(rt, request.value, CALLER);
}

async function revokeAny(world: World, n: number, terminate: boolean): Promise<void> {
  const known = [...world.ledger.jobs.values()].find((each) => each.n === n);
  if (known === undefined) return;
  const { id } = known.row;
  const answer = await world.invoke('revoke', world.machines.any(), (rt) => revoke(rt, id, terminate));
  if (answer.kind !== 'answered') return;
  if (answer.value === undefined) world.violate('revoke', id, 'a job that is there was not found');
  if (answer.value?.state === 'REVOKED' && world.ledger.row(id)?.state !== 'REVOKED') {
    world.violate('revoke', id, `it was called revoked and is ${String(world.ledger.row(id)?.state)}`);
  }
}

/** Once a minute, while things go wrong: an operator looks at dead letters, and somebody sends garbage. */
function operate(world: World): void {
  world.after(60_000, () => {
    if (!world.faults.on) return;
    operate(world);
    if (world.random.chance(0.3)) requeueOne(world);
    if (world.random.chance(0.1)) world.after(0, () => repeatOne(world));
    if (world.faults.strikes('garbage')) {
      const body = world.random.pick(['"nonsense"', '{"v":1}', '[]', 'null', '{"v":1,"id":7,"task":"sim.job"}']);
      world.broker.put('default', body, 0);
    }
  });
}

/** While things go wrong somebody pauses queues, for a while or until further notice, and resumes them; in the end all. */
function control(world: World, random: Prng): void {
  world.after(random.between(10_000, 120_000), async () => {
    if (!world.faults.on) {
      // Longer than a pause that nobody was answered may still take to have its effect.
      await world.timeline.sleep(180_000);
      for (const queue of CONTROLLED) while (!(await resumeBy(world, queue, false)));
      return;
    }
    control(world, random);
    const queue = random.pick(CONTROLLED);
    const forMs = random.chance(0.5) ? random.between(2_000, 240_000) : undefined;
    if (random.chance(0.4)) await resumeBy(world, queue, true);
    else {
      await world.invoke('pause', world.machines.any(), (rt) =>
        pause(rt, queue, forMs === undefined ? null : rt.clock.now() + forMs, CALLER.owner),
      );
    }
  });
}

/** Without `waking` it is left to the tick to send what is parked. */
async function resumeBy(world: World, queue: QueueName, waking: boolean): Promise<boolean> {
  const answer = await world.invoke('resume', world.machines.any(), async (rt) => {
    await resume(rt, queue, CALLER.owner);
    if (waking) await wakeResumed(rt, [queue]);
  });
  return answer.kind === 'answered';
}

function requeueOne(world: World): void {
  const letters = [...world.ledger.letters.values()].filter((each) => each.job_id !== null);
  if (letters.length === 0) return;
  const { id } = world.random.pick(letters);
  const hands = world.random.between(1, 3);
  for (let hand = 0; hand < hands; hand += 1) {
    world.after(world.random.chance(0.5) ? 0 : world.random.between(0, 400), () => requeueBy(world, id));
  }
}

/** Somebody wants a finished job once more, whatever came of it. */
async function repeatOne(world: World): Promise<void> {
  const over = [...world.ledger.jobs.values()].filter(({ row }) => isOver(row.state));
  if (over.length === 0) return;
  const { n, row } = world.random.pick(over);
  const answer = await world.invoke('repeat', world.machines.any(), async (rt) => {
    const job = await findJob(rt, row.id);
    return job === undefined ? undefined : runAgain(rt, job);
  });
  if (answer.kind !== 'answered' || answer.value === undefined) return;
  if (answer.value.kind === 'refused') world.violate('internal', row.id, JSON.stringify(answer.value.faults));
  else if (answer.value.kind === 'accepted') world.acceptedIds.add(answer.value.id);
  else if (answer.value.kind === 'gone' && row.cleared_at === null) {
    const secret = world.ledger.jobs.get(row.id)?.secretFor !== undefined;
    if (!secret) world.violate('accepted', row.id, `the input of job ${String(n)} is gone`);
  }
}

async function requeueBy(world: World, letter: string): Promise<void> {
  const answer = await world.invoke('requeue', world.machines.any(), (rt) => requeue(rt, letter, undefined));
  if (answer.kind !== 'answered' || answer.value === undefined) return;
  if (answer.value.kind === 'silent') return;
  if (answer.value.kind === 'refused') {
    world.violate('requeue', undefined, `letter ${letter} was refused: ${JSON.stringify(answer.value.faults)}`);
  } else if (world.ledger.row(answer.value.jobId) === undefined) {
    world.violate('requeue', answer.value.jobId, 'its requeue was answered, and it has no row');
  }
}
