// Mailgun may send its `delivered` webhook once and never again. What did not come is read from its Events API and made
// a job here, under the very tokens that the webhook would have brought, should it come after all.

import { z } from 'zod';
import { derivedId } from '../../core/ids.ts';
import { formatInstant } from '../../core/instant.ts';
import { byteLength, type Json } from '../../core/json.ts';
import {
  MAILGUN_FIRST_LOOK_MS,
  MAILGUN_LOOK_BACK_MS,
  MAILGUN_OVERLAP_MS,
  MAILGUN_SETTLES_MS,
  MAX_MAILGUN_PAGES,
  MAX_RECOVERIES_AT_ONCE,
  RECOVERY_HARD_SECONDS,
  RECOVERY_SOFT_SECONDS,
} from '../../core/limits-outside.ts';
import type { IdentityToken } from '../../core/envelope.ts';
import { logInfo } from '../../jobs/log.ts';
import { defineTask, type Job } from '../../jobs/task.ts';
import { idOf, mailgunEventTokens } from '../../providers/identity.ts';
import { MailgunEvents, mailgunSettings, type EventPage } from '../../providers/mailgun.ts';
import { insertDeliveries, markRecovered } from '../../store/deliveries.ts';
import { readMark, writeMark } from '../../store/sweeps.ts';
import { acceptedJobs, portionsOf } from './accepted.ts';
import { processWebhook } from './process-webhook.ts';
import { Troubles } from './troubles.ts';

const PROVIDER = 'mailgun';
const EVENT = 'delivered';

export const reconcileMailgunEvents = defineTask({
  name: 'reconcile_mailgun_events',
  queue: 'maintenance',
  input: z.strictObject({}),
  timeLimit: { softSeconds: RECOVERY_SOFT_SECONDS, hardSeconds: RECOVERY_HARD_SECONDS },
  run: (_input, job) => reconcile(job),
});

interface Report {
  readonly domain: string;
  looked_at: number;
  recovered: number;
  up_to: string;
}

interface Reconciled {
  readonly domains: readonly Report[];
  readonly totals: Readonly<Record<'looked_at' | 'recovered', number>>;
}

async function reconcile(job: Job): Promise<Reconciled> {
  const settings = mailgunSettings(job.env);
  const mailgun = new MailgunEvents(job, settings);
  const troubles = new Troubles(job);
  const domains: Report[] = [];
  for (const domain of settings.domains) {
    const report = troubles.mustWait ? undefined : await troubles.keep(() => reconcileDomain(job, mailgun, domain));
    if (report === undefined) continue;
    domains.push(report);
    if (report.recovered > 0) logInfo('deliveries.missed', { provider: PROVIDER, ...report });
  }
  troubles.throwAny();
  const total = (name: 'looked_at' | 'recovered'): number => domains.reduce((sum, each) => sum + each[name], 0);
  return { domains, totals: { looked_at: total('looked_at'), recovered: total('recovered') } };
}

/** Reads from the mark to what has settled. The mark moves behind what is durable, so that whoever dies repeats it. */
async function reconcileDomain(job: Job, mailgun: MailgunEvents, domain: string): Promise<Report> {
  const now = job.clock.now();
  const end = now - MAILGUN_SETTLES_MS;
  const mark = `mailgun.events.${domain}`;
  const from = await readFrom(job, mark, now);
  const report = { domain, looked_at: 0, recovered: 0, up_to: formatInstant(from) };
  if (from >= end) return report;
  const reached = async (at: number): Promise<void> => {
    await job.db.run(writeMark(mark, String(at)));
    report.up_to = formatInstant(at);
  };
  let page = await mailgun.first(domain, EVENT, from - MAILGUN_OVERLAP_MS, end);
  for (let pages = 1; page.items.length > 0; pages += 1) {
    const events = eventsOf(page);
    report.looked_at += page.items.length;
    report.recovered += await recoverAll(job, events);
    const last = events.reduce((latest, { at }) => Math.max(latest, at), from);
    await reached(Math.min(last, end));
    if (pages === MAX_MAILGUN_PAGES) return report;
    if (page.next === undefined) break;
    page = await mailgun.page(domain, page.next);
    job.progress(0, `${domain}: ${String(report.looked_at)} events looked at`);
  }
  await reached(end);
  return report;
}

async function readFrom(job: Job, mark: string, now: number): Promise<number> {
  const { rows } = await job.db.run(readMark(mark));
  const at = Number(rows[0]?.['value'] ?? now - MAILGUN_FIRST_LOOK_MS);
  return Math.max(at, now - MAILGUN_LOOK_BACK_MS);
}

interface MailEvent {
  readonly id: string;
  readonly token: string;
  readonly tokens: readonly IdentityToken[];
  /** Epoch ms. */
  readonly at: number;
  readonly item: Readonly<Record<string, Json>>;
}

// One without an id or a time cannot be told from another.
function eventsOf({ items }: EventPage): readonly MailEvent[] {
  return items.flatMap((item) => {
    const tokens = mailgunEventTokens(item);
    const [first] = tokens;
    const at = Math.floor(Number(item['timestamp']) * 1_000);
    const id = idOf(item['id']);
    return first === undefined || id === null || !(at > 0) ? [] : [{ id, token: first.token, tokens, at, item }];
  });
}

/** Makes jobs of the events that are none yet; how many it made. Safe to repeat after any part of it. */
async function recoverAll(job: Job, events: readonly MailEvent[]): Promise<number> {
  const accepted = await acceptedJobs(
    job,
    PROVIDER,
    events.map(({ token }) => token),
  );
  const missed = events.filter(({ token }) => !accepted.has(token));
  // Before their jobs: whoever dies between the two finds the row, and has nothing left to do but to say so.
  if (missed.length > 0) await job.db.run(insertDeliveries(missed.map(missedRow)));
  const jobs = new Map(accepted);
  let made = 0;
  for (const some of portionsOf(missed, MAX_RECOVERIES_AT_ONCE)) {
    const children = await Promise.all(some.map((event) => enqueueEvent(job, event)));
    for (const [at, { token }] of some.entries()) jobs.set(token, children[at]?.id ?? '');
    made += children.filter(({ created }) => created).length;
  }
  const recovered = events.map((event) => ({ id: rowId(event), jobId: jobs.get(event.token) ?? '' }));
  if (recovered.length > 0) await job.db.run(markRecovered(recovered));
  return made;
}

function enqueueEvent(job: Job, { id, tokens, item }: MailEvent): ReturnType<Job['enqueue']> {
  const input = {
    webhook_type: PROVIDER,
    event: EVENT,
    event_id: id,
    received_at: formatInstant(job.clock.now()),
    bytes: byteLength(JSON.stringify(item)),
    raw_key: null,
    webhook_data: item,
  };
  const identity = { scope: PROVIDER, tokens: [...tokens] };
  return job.enqueue(processWebhook, input, {}, { identity, source: `webhook:${PROVIDER}` });
}

function missedRow(event: MailEvent): Parameters<typeof insertDeliveries>[0][number] {
  return {
    id: rowId(event),
    provider: PROVIDER,
    event: EVENT,
    event_id: event.id,
    verdict: 'missed',
    job_id: null,
    bytes: 0,
    latency_ms: 0,
    received_at: event.at,
  };
}

function rowId({ at, token }: MailEvent): string {
  return derivedId(at, `missed ${PROVIDER} ${token}`);
}
