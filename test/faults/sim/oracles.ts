// What has to be true when everything is over.

import { z } from 'zod';
import { isOver, parseResult, type Known } from './ledger.ts';
import type { World } from './world.ts';

/** A tick, and the time it takes. */
const CLEARED_WITHIN_MS = 90_000;

/** Attempts that have to vanish before a job has failed of it. */
const LOST_FOR_GOOD = 4;

/** What handlers of the simulator may fail of. */
const CODES = ['exception', 'time_limit', 'discarded', 'lost'];

const entriesOf = z.array(z.object({ attempt: z.int(), outcome: z.string() }));
const errorOf = z.object({ code: z.string() });

/** Tells the world of the first promise that was not kept. */
export function judge(world: World): void {
  judgeAcceptance(world);
  for (const known of world.ledger.jobs.values()) {
    judgeAttempts(world, known);
    judgeRuns(world, known);
    judgeLetters(world, known);
    judgeResult(world, known);
    judgeSecret(world, known);
  }
  judgeRequeues(world);
  world.agenda.judge();
  judgeAlert(world);
}

function judgeAlert(world: World): void {
  const wanted = world.watchdog.isAlone ? 1 : 0;
  if (world.openAlerts !== wanted)
    world.violate('alert', undefined, `${String(world.openAlerts)} alerts are open instead of ${String(wanted)}`);
}

function judgeAcceptance(world: World): void {
  for (const id of world.acceptedIds) {
    const row = world.ledger.row(id);
    if (row === undefined) world.violate('accepted', id, 'it was accepted and has no row');
    else if (!isOver(row.state)) world.violate('accepted', id, `it was accepted and is still ${row.state}`);
  }
  const firsts = new Map<number, string>();
  for (const { n, row } of world.ledger.jobs.values()) {
    if (row.retry_of !== null || row.schedule !== null) continue;
    const other = firsts.get(n);
    if (other !== undefined) world.violate('conservation', row.id, `job ${String(n)} has another row, ${other}`);
    firsts.set(n, row.id);
  }
}

function judgeAttempts(world: World, { row, maxRetries }: Known): void {
  const wrong = (text: string): void => {
    world.violate('attempts', row.id, text);
  };
  const entries = entriesOf.parse(JSON.parse(row.attempts));
  const retried = entries.filter(({ outcome }) => outcome === 'retry');
  const lost = entries.filter(({ outcome }) => outcome === 'lost').length;
  if (lost !== row.lost) wrong(`${String(lost)} lost attempts are written down, and ${String(row.lost)} counted`);
  if (retried.some(({ attempt }, at) => attempt !== at + 1)) wrong(`attempts are numbered ${JSON.stringify(retried)}`);
  const counted = row.attempt - retried.length;
  const ended = row.state === 'REVOKED' ? counted === 0 || counted === 1 : counted === 1;
  if (!ended)
    wrong(`${row.state} after attempt ${String(row.attempt)}, of which ${String(retried.length)} are retried`);
  const code = row.error === null ? undefined : errorOf.parse(JSON.parse(row.error)).code;
  if ((row.state === 'SUCCESS') !== (code === undefined)) wrong(`${row.state} with the error ${String(code)}`);
  if (row.state !== 'FAILURE') return;
  if ((code === 'lost') !== (row.lost === LOST_FOR_GOOD)) wrong(`${String(code)} after ${String(row.lost)} losses`);
  if (!CODES.includes(String(code))) wrong(`it failed with the code ${String(code)}`);
  const gaveUp = code === 'exception' || code === 'time_limit';
  if (gaveUp && row.attempt !== maxRetries + 1) wrong(`${code} for good after attempt ${String(row.attempt)}`);
  if (row.revoke_requested === 2) world.violate('revoke', row.id, 'it was to be terminated, and is FAILURE');
}

function judgeRuns(world: World, { row, n }: Known): void {
  const runs = world.ledger.leases.runsFor(row.id);
  const { behaviour, expected } = world.planOf(n);
  const { weather } = world.faults;
  if (runs.length > row.claim) {
    world.violate('attempts', row.id, `${String(runs.length)} handlers under ${String(row.claim)} claims`);
  }
  if (row.state === 'SUCCESS' && !runs.some(({ end }) => end === 'returned')) {
    world.violate('ran', row.id, 'it succeeded, and no handler ever returned');
  }
  if (weather === 'calm' && expected !== undefined) {
    const as = `${row.state} after ${String(runs.length)} runs`;
    if (row.state !== expected.state || runs.length !== expected.runs) {
      world.violate('ran', row.id, `${as}, and not ${expected.state} after ${String(expected.runs)}`);
    }
  }
  if (behaviour.kind === 'kill') judgeKiller(world, row, runs.length);
  else if (weather === 'killers' && row.lost > 1) {
    world.violate('killer', row.id, `it lost ${String(row.lost)} attempts to its neighbours`);
  }
}

function judgeKiller(world: World, row: Known['row'], runs: number): void {
  if (row.state === 'REVOKED' && row.started_at === null) return;
  if (row.state !== 'FAILURE' || row.lost !== LOST_FOR_GOOD) {
    world.violate('killer', row.id, `it ends its isolate each time, and is ${row.state} after ${String(row.lost)}`);
  }
  if (runs > LOST_FOR_GOOD || (world.faults.weather === 'killers' && runs !== LOST_FOR_GOOD)) {
    world.violate('killer', row.id, `it ended ${String(runs)} isolates`);
  }
}

function judgeLetters(world: World, { row }: Known): void {
  const letters = [...world.ledger.letters.values()].filter((each) => each.job_id === row.id);
  const wanted = row.state === 'FAILURE' ? 1 : 0;
  if (letters.length !== wanted) {
    world.violate('dead letter', row.id, `${row.state} with ${String(letters.length)} dead letters`);
  }
}

function judgeResult(world: World, { row, n }: Known): void {
  if (row.state !== 'SUCCESS' || row.result_key === null) return;
  const kept = world.stores.results.get(row.result_key);
  if (kept === undefined) world.violate('fencing', row.id, 'the result it refers to is not kept');
  else world.ledger.checkRun(row, n, parseResult(kept.text));
}

function judgeSecret(world: World, { row, secretFor }: Known): void {
  if (secretFor === undefined || row.finished_at === null) return;
  if (row.finished_at + secretFor + CLEARED_WITHIN_MS > world.timeline.now) return;
  const { inputs, results } = world.stores;
  const hasLetter = row.state === 'FAILURE';
  const kept = [
    ...(row.cleared_at === null || row.result !== null || row.result_key !== null ? ['row'] : []),
    ...(inputs.has(`inputs/${row.id}`) && !hasLetter ? ['inputs'] : []),
    ...[...results]
      .filter(([key, { until }]) => key.includes(row.id) && until > world.timeline.now)
      .map(([key]) => key),
  ];
  if (kept.length > 0) world.violate('secret', row.id, `its payload is still in ${kept.join(', ')}`);
}

function judgeRequeues(world: World): void {
  for (const letter of world.ledger.letters.values()) {
    const made = [...world.ledger.jobs.values()].filter(
      ({ row }) => row.source === 'requeue' && row.retry_of === letter.job_id,
    );
    if (made.length !== letter.requeues) {
      const text = `letter ${letter.id} was requeued ${String(letter.requeues)} times and has ${String(made.length)} jobs`;
      world.violate('requeue', letter.job_id ?? undefined, text);
    }
    if (letter.requeued_as !== null && world.ledger.row(letter.requeued_as) === undefined) {
      world.violate('requeue', letter.job_id ?? undefined, 'the job of its requeue has no row');
    }
  }
}
