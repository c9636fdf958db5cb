// When a seed is over: everything accepted has come to its end, and a while later that is still so.

import { isOver } from './ledger.ts';
import { clock } from './trace.ts';
import type { World } from './world.ts';

/**
 * Every job is final so long after the last fault. The slowest are killers that come late: four leases of 90 s, each found
 * out by a tick within a minute and run apart after up to 30 s more, are twelve minutes; one that shares a slow queue
 * waits for batches of up to four minutes in between. One that has a lock keeps others waiting for as long. Of some twenty
 * thousand seeds without locks the slowest took 24 minutes, of some thousands with them 29.
 */
const CONVERGE_MS = 40 * 60_000;
/** Then nothing more may happen, whatever is still on its way. */
const AFTERMATH_MS = 4 * 60_000;

/** Asked before each event: whether there is nothing left to see. Tells the world where that takes too long. */
export function untilConverged(world: World): () => boolean {
  let doneAt: number | undefined;
  return () => {
    const { now } = world.timeline;
    const { on, until } = world.faults;
    if (on) return false;
    if (isUnfinished(world)) {
      doneAt = undefined;
      if (now <= until + CONVERGE_MS) return false;
      const [late] = [...world.ledger.jobs.values()].filter(({ row }) => row.finished_at === null);
      world.violate('converge', late?.row.id, `not all is final ${clock(CONVERGE_MS)} after the last fault`);
      return true;
    }
    doneAt ??= now;
    world.convergedAfter = doneAt - until;
    return now > doneAt + AFTERMATH_MS;
  };
}

/** Whether anything is still to come of what was accepted. */
function isUnfinished(world: World): boolean {
  if (world.busy > 0 || world.ledger.open > 0 || world.agenda.isOpen) return true;
  for (const id of world.acceptedIds) {
    const row = world.ledger.row(id);
    if (row === undefined || !isOver(row.state)) return true;
  }
  return false;
}
