// Who ticks: the cron trigger, or, where it has stopped, the watchdog in its place. Both do the same work.

import { answerWithin } from '../core/deadline.ts';
import { formatInstant } from '../core/instant.ts';
import { STATEMENT_DEADLINE_MS } from '../core/limits.ts';
import type { TakeOver } from '../durable/watchdog.ts';
import { raise, settle } from '../jobs/alerts.ts';
import { logError, logInfo } from '../jobs/log.ts';
import type { Runtime } from '../jobs/runtime.ts';
import type { Alert } from '../store/alerts.ts';
import { tick } from './tick.ts';

const KIND = 'cron_stopped';
/** The expression of the trigger in wrangler.toml. */
const TARGET = '* * * * *';

/** The cron trigger's own tick. What the watchdog does with it holds nothing up. Never throws. */
export async function beatAndTick(rt: Runtime, bootId: string | undefined): Promise<void> {
  await Promise.all([
    attempt('beat', () => beat(rt)),
    attempt('settle', () => settle(rt, KIND, TARGET)),
    tick(rt, bootId),
  ]);
}

async function beat(rt: Runtime): Promise<void> {
  const { silentSince } = await answerWithin(rt.clock, STATEMENT_DEADLINE_MS, rt.watchdog.beat(), 'The watchdog');
  if (silentSince === null) return;
  logInfo('cron.returned', { silent_since: formatInstant(silentSince) });
}

/** The watchdog's tick in the place of one that did not come. Never throws. */
export async function takeOver(
  rt: Runtime,
  bootId: string | undefined,
  { silentSince }: Parameters<TakeOver>[0],
): Promise<void> {
  await Promise.all([attempt('raise', () => raise(rt, alertOf(silentSince))), tick(rt, bootId)]);
}

function alertOf(silentSince: number): Alert {
  const since = formatInstant(silentSince);
  return {
    kind: KIND,
    target: TARGET,
    severity: 'critical',
    message:
      `The cron trigger has not ticked since ${since}. The watchdog does its work instead, once a minute, so that jobs go on; ` +
      `nothing watches the watchdog. Look at the Worker's cron trigger and its past events, at its latest deployment and at ` +
      `the platform's status; on one machine, at the process of npm start.`,
    detail: { silent_since: since },
  };
}

async function attempt(part: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    logError('watchdog.failed', error, { part });
  }
}
