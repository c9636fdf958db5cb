// Runs of a schedule that come while an earlier one has not ended: what their overlap policy makes of them.

import type { ScheduledRun } from '../core/envelope.ts';
import { cancelBefore, skipRuns, takeNextRuns, OVERLAP, type Ahead } from '../store/overlap.ts';
import { query, transact } from './database.ts';
import { sendTaken } from './hand-out.ts';
import { park, type Parking } from './park.ts';
import type { Runtime } from './runtime.ts';
import { ACK, retryIn, type Delivery, type Settle } from './settlement.ts';
import type { Found } from './unwon.ts';

/** Settles runs that may not begin yet; returns those whose way is free now. */
export async function settleOverlaps(
  rt: Runtime,
  behind: readonly Found[],
  settle: Settle,
): Promise<readonly Delivery[]> {
  if (behind.length === 0) return [];
  const byMeans = Map.groupBy(behind, ({ delivery, row }) => meansOf(delivery.envelope.options.schedule, row.ahead));
  const overtaking = byMeans.get('cancel') ?? [];
  await skip(rt, byMeans.get('skip') ?? [], settle);
  if (overtaking.length > 0) await transact(rt, cancelBefore(idsOf(overtaking), rt.clock.now()));
  const [waiting, free] = partition(overtaking, ({ row }) => (row.ahead?.running ?? 0) > 0);
  await park(rt, [...(byMeans.get('wait') ?? []), ...waiting].map(parkingOf), settle);
  return free.map(({ delivery }) => delivery);
}

/** Sends the messages of runs whose turn has come with an end just committed. Never rejects: those it misses are owed one. */
export async function sendNextRuns(rt: Runtime, schedules: readonly string[]): Promise<void> {
  const missed = { event: 'run.unsent', fields: { schedules: schedules.length } };
  await sendTaken(rt, (now) => takeNextRuns(schedules, now), missed);
}

function meansOf(run: ScheduledRun | undefined, ahead: Ahead | null): 'wait' | 'skip' | 'cancel' {
  if (run === undefined || ahead === null) return 'wait';
  const { running, making_good: makingGood, waiting } = ahead;
  // What makes good costs no regular run its own.
  if (running === makingGood && waiting === 0) return 'wait';
  switch (run.overlap) {
    case 'skip':
      return 'skip';
    case 'queue_one':
      return waiting > 0 && running + waiting > 1 ? 'skip' : 'wait';
    case 'cancel_previous':
      return 'cancel';
    case 'wait':
    case 'allow':
      return 'wait';
  }
}

async function skip(rt: Runtime, those: readonly Found[], settle: Settle): Promise<void> {
  if (those.length === 0) return;
  const rows = await query(rt, skipRuns(idsOf(those), rt.clock.now()));
  const skipped = new Set(rows.map(({ id }) => id));
  for (const id of idsOf(those)) settle(id, skipped.has(id) ? ACK : retryIn(1));
}

function parkingOf({ delivery, row }: Found): Parking {
  const name = delivery.envelope.options.schedule?.name ?? '';
  return { delivery, row, parkedFor: OVERLAP, reason: `the run before it of the schedule ${name}` };
}

function idsOf(those: readonly Found[]): readonly string[] {
  return those.map(({ delivery }) => delivery.envelope.id);
}

function partition<T>(all: readonly T[], is: (each: T) => boolean): readonly [readonly T[], readonly T[]] {
  return [all.filter(is), all.filter((each) => !is(each))];
}
