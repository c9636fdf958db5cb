// GitHub never delivers again by itself what failed. This asks it to, for what our own records do not know: what GitHub
// was answered says little, since an answer may be lost like anything else.

import { z } from 'zod';
import { derivedId, firstIdAt } from '../../core/ids.ts';
import { MAX_GROUP_ITEMS, SWEEP_PAGE } from '../../core/limits.ts';
import {
  DELIVERY_TIME_SLACK_MS,
  GITHUB_LOOK_BACK_MS,
  MAX_GITHUB_PAGES,
  MAX_MISSED,
  MAX_REDELIVERIES,
  REDELIVERY_PAUSE_MS,
  RECOVERY_HARD_SECONDS,
  RECOVERY_SOFT_SECONDS,
} from '../../core/limits-outside.ts';
import { logInfo } from '../../jobs/log.ts';
import { ConfigurationError, Discard } from '../../jobs/outcome.ts';
import { defineTask, type Job } from '../../jobs/task.ts';
import { GithubHooks, githubSettings, type DeliveryAttempt } from '../../providers/github.ts';
import { githubDeliveryToken } from '../../providers/identity.ts';
import {
  insertDeliveries,
  markRecovered,
  readMissed,
  readTaken,
  selectMissed,
  selectTaken,
} from '../../store/deliveries.ts';
import { acceptedJobs, portionsOf } from './accepted.ts';
import { isGivenUp, isOverdue, sentOf, type Sent } from './sent.ts';
import { Troubles } from './troubles.ts';

const PROVIDER = 'github';

export const recoverGithubDeliveries = defineTask({
  name: 'recover_github_deliveries',
  queue: 'maintenance',
  input: z.strictObject({}),
  timeLimit: { softSeconds: RECOVERY_SOFT_SECONDS, hardSeconds: RECOVERY_HARD_SECONDS },
  run: (_input, job) => recover(job),
});

/** What a hook has sent; `complete` is false where that is more than is read. */
interface Listing {
  readonly hook: string;
  readonly sent: readonly Sent[];
  readonly complete: boolean;
}

interface Counts {
  readonly looked_at: number;
  readonly missed: number;
  readonly asked: number;
  /** GitHub would not send them again. */
  readonly refused: number;
  readonly recovered: number;
  readonly gave_up: number;
}

type Report = Counts & { readonly hook: string; readonly complete: boolean };

async function recover(job: Job): Promise<{ hooks: readonly Report[]; totals: Counts }> {
  const settings = githubSettings(job.env);
  const github = new GithubHooks(job, settings);
  const troubles = new Troubles(job);
  const listings = await listAll(job, github, settings.hooks, troubles);
  const accepted = await acceptedGuids(
    job,
    listings.flatMap(({ sent }) => sent),
  );
  const recovered = await recordRecovered(job, accepted);
  const reports: Report[] = [];
  for (const [at, listing] of listings.entries()) {
    const missed = listing.sent.filter((each) => !accepted.has(each.guid) && isOverdue(each, job.clock.now()));
    await recordMissed(job, missed);
    // What a hook leaves of its share is there for those after it.
    const left = MAX_REDELIVERIES - reports.reduce((sum, { asked }) => sum + asked, 0);
    const share = Math.ceil(left / (listings.length - at));
    const wanted = missed.filter((each) => !isGivenUp(each)).slice(0, share);
    const counts = await askAll(job, github, listing.hook, wanted, troubles);
    reports.push(reportOf(listing, missed, recovered, counts));
  }
  troubles.throwAny();
  return { hooks: reports, totals: { ...totalsOf(reports), recovered: recovered.size } };
}

function reportOf(
  { hook, sent, complete }: Listing,
  missed: readonly Sent[],
  recovered: ReadonlySet<string>,
  counts: Pick<Counts, 'asked' | 'refused'>,
): Report {
  const report = {
    hook,
    complete,
    looked_at: sent.length,
    missed: missed.length,
    ...counts,
    recovered: sent.filter(({ guid }) => recovered.has(guid)).length,
    gave_up: missed.filter(isGivenUp).length,
  };
  if (report.missed > 0 || report.recovered > 0) logInfo('deliveries.missed', { provider: PROVIDER, ...report });
  return report;
}

async function listAll(
  job: Job,
  github: GithubHooks,
  hooks: readonly string[],
  troubles: Troubles,
): Promise<readonly Listing[]> {
  const listings: Listing[] = [];
  for (const hook of hooks) {
    const listing = troubles.mustWait ? undefined : await troubles.keep(() => list(job, github, hook));
    if (listing !== undefined) listings.push(listing);
  }
  return listings;
}

/** Reads pages, newest first, until they are older than anything that can still be done about. */
async function list(job: Job, github: GithubHooks, hook: string): Promise<Listing> {
  const since = job.clock.now() - GITHUB_LOOK_BACK_MS;
  const attempts: DeliveryAttempt[] = [];
  let page: URL | undefined;
  for (let pages = 1; pages <= MAX_GITHUB_PAGES; pages += 1) {
    const read = await github.deliveries(hook, page);
    attempts.push(...read.attempts.filter(({ deliveredAt }) => deliveredAt >= since));
    const old = read.attempts.some(({ deliveredAt }) => deliveredAt < since);
    page = read.next;
    if (old || page === undefined) return { hook, sent: sentOf(attempts), complete: true };
    job.progress(0, `${hook}: ${String(attempts.length)} deliveries listed`);
  }
  return { hook, sent: sentOf(attempts), complete: false };
}

/** The jobs of the events that were accepted, by their guid; of those sent, and of those recorded as missed. */
async function acceptedGuids(job: Job, sent: readonly Sent[]): Promise<ReadonlyMap<string, string>> {
  const missed = await missedRows(job);
  const guids = [...new Set([...sent.map(({ guid }) => guid), ...missed.map(({ event_id }) => event_id)])];
  const tokens = new Map(guids.map((guid) => [guid, githubDeliveryToken(guid).token]));
  const byToken = await acceptedJobs(job, PROVIDER, [...tokens.values()]);
  const accepted = new Map<string, string>();
  for (const [guid, token] of tokens) {
    const jobId = byToken.get(token);
    if (jobId !== undefined) accepted.set(guid, jobId);
  }
  await addTaken(
    job,
    sent.filter(({ guid }) => !accepted.has(guid)),
    accepted,
  );
  return accepted;
}

// The same bytes from another hook are the job of that hook's delivery, and the token of this one names no job at all;
// one taken in while the guard was silent has none either until it runs. Both were written down.
async function addTaken(job: Job, sent: readonly Sent[], accepted: Map<string, string>): Promise<void> {
  const windows = sent.flatMap(({ guid, attempts }) =>
    attempts.map(({ deliveredAt }) => ({
      eventId: guid,
      from: firstIdAt(deliveredAt - DELIVERY_TIME_SLACK_MS),
      until: firstIdAt(deliveredAt + DELIVERY_TIME_SLACK_MS),
    })),
  );
  for (const some of portionsOf(windows, SWEEP_PAGE)) {
    const { rows } = await job.db.run(selectTaken(PROVIDER, some));
    for (const { eventId, jobId } of rows.map(readTaken)) accepted.set(eventId, jobId);
  }
}

async function missedRows(job: Job): Promise<readonly { id: string; event_id: string }[]> {
  const { rows } = await job.db.run(selectMissed(PROVIDER, job.clock.now() - GITHUB_LOOK_BACK_MS, MAX_MISSED));
  return rows.map(readMissed);
}

/** Missed deliveries that have become jobs since: their guids. */
async function recordRecovered(job: Job, accepted: ReadonlyMap<string, string>): Promise<ReadonlySet<string>> {
  const found = (await missedRows(job)).flatMap(({ id, event_id: guid }) => {
    const jobId = accepted.get(guid);
    return jobId === undefined ? [] : [{ id, jobId, guid }];
  });
  for (const some of portionsOf(found, MAX_GROUP_ITEMS)) await job.db.run(markRecovered(some));
  return new Set(found.map(({ guid }) => guid));
}

async function recordMissed(job: Job, missed: readonly Sent[]): Promise<void> {
  const rows = missed.map(({ guid, event, firstAt }) => ({
    id: derivedId(firstAt, `missed ${PROVIDER} ${guid}`),
    provider: PROVIDER,
    event,
    event_id: guid,
    verdict: 'missed' as const,
    job_id: null,
    bytes: 0,
    latency_ms: 0,
    received_at: firstAt,
  }));
  for (const some of portionsOf(rows, MAX_GROUP_ITEMS)) await job.db.run(insertDeliveries(some));
}

/** Asks for each, oldest first and one a second: many at once are what GitHub's limits are there for. */
async function askAll(
  job: Job,
  github: GithubHooks,
  hook: string,
  wanted: readonly Sent[],
  troubles: Troubles,
): Promise<Pick<Counts, 'asked' | 'refused'>> {
  const counts = { asked: 0, refused: 0 };
  for (const { newest } of troubles.mustWait ? [] : wanted) {
    if (counts.asked + counts.refused > 0) await job.clock.sleep(REDELIVERY_PAUSE_MS, job.signal);
    const answer = await troubles.keep(() => redeliver(github, hook, newest.id));
    if (answer === undefined) break;
    counts[answer] += 1;
  }
  return counts;
}

async function redeliver(github: GithubHooks, hook: string, attemptId: string): Promise<'asked' | 'refused'> {
  try {
    await github.redeliver(hook, attemptId);
    return 'asked';
  } catch (error) {
    // This one attempt is not to be had; the hook is.
    if (error instanceof Discard && !(error instanceof ConfigurationError)) return 'refused';
    throw error;
  }
}

function totalsOf(reports: readonly Report[]): Counts {
  const total = (name: keyof Counts): number => reports.reduce((sum, report) => sum + report[name], 0);
  return {
    looked_at: total('looked_at'),
    missed: total('missed'),
    asked: total('asked'),
    refused: total('refused'),
    recovered: total('recovered'),
    gave_up: total('gave_up'),
  };
}
