// Telling a job's end to the URL its caller gave, as Standard Webhooks has it. At least once, and always under one id.

import { z } from 'zod';
import { base64Key, signHmac, messageOf, type Key } from '../../core/hmac.ts';
import { formatInstant } from '../../core/instant.ts';
import { CALLBACK_RETRY_SECONDS } from '../../core/limits-outside.ts';
import type { State } from '../../core/states.ts';
import type { Env } from '../../env.ts';
import { jobJson } from '../../jobs/job-json.ts';
import { ConfigurationError, Discard, Retry } from '../../jobs/outcome.ts';
import { payloadOfRow } from '../../jobs/payloads.ts';
import { defineTask, type Job } from '../../jobs/task.ts';
import { postOutside, type Reply } from '../../providers/outgoing.ts';
import { selectJob } from '../../store/reads.ts';
import { readJobRow, type JobRow } from '../../store/rows.ts';

/** Its rows are made by a trigger (migrations/0004_callbacks.sql), which repeats its queue, priority and retries. */
export const deliverCallback = defineTask({
  name: 'deliver_callback',
  queue: 'bulk',
  input: z.object({ job_id: z.string(), url: z.string() }),
  retry: { max: CALLBACK_RETRY_SECONDS.length, delays: { kind: 'delays', seconds: CALLBACK_RETRY_SECONDS } },
  async run({ job_id }, job) {
    const keys = signingKeys(job.env);
    const { callback, row } = await toldJob(job_id, job);
    const body = bodyOf(row, job.clock.now());
    const headers = await signedHeaders(`msg_${callback.id}`, body, keys, job.clock.now());
    const reply = await postOutside(job, { url: callback.url, headers, body });
    return { webhook_id: headers['webhook-id'], status: statusOf(reply, job) };
  },
});

/** The current key, and the one before the last rotation. */
function signingKeys(env: Env): readonly Key[] {
  const { CALLBACK_SIGNING_SECRET: current, CALLBACK_SIGNING_SECRET_PREVIOUS: previous } = env;
  const set = [current, previous].filter((secret) => secret !== undefined && secret !== '');
  if (current === undefined || current === '') throw new ConfigurationError('CALLBACK_SIGNING_SECRET is not set.');
  return set.map((secret) => {
    const key = base64Key(secret);
    if (key === undefined) throw new ConfigurationError('A CALLBACK_SIGNING_SECRET is not base64.');
    return key;
  });
}

// The row says where, not the input: who may enqueue a job may not have the end of any other told to himself.
async function toldJob(
  id: string,
  job: Job,
): Promise<{ readonly row: JobRow; readonly callback: { readonly id: string; readonly url: string } }> {
  const [found] = (await job.db.run(selectJob(id, job.clock.now()))).rows;
  if (found === undefined) throw new Discard('The job it tells of has left.', 'job_gone');
  const row = readJobRow(found);
  const { callback } = row.options;
  if (callback === undefined) throw new Discard('The job has no callback_url.', 'no_callback');
  return { row, callback };
}

function bodyOf(row: JobRow, now: number): string {
  const { input: _, ...payload } = payloadOfRow(row, now);
  const timestamp = row.finished_at;
  if (timestamp === null) throw new Discard('The job has not ended.', 'job_not_ended');
  return JSON.stringify({
    type: typeOf(row.state),
    timestamp: formatInstant(timestamp),
    data: jobJson(row, now, payload, true),
  });
}

function typeOf(state: State): string {
  switch (state) {
    case 'SUCCESS':
      return 'job.succeeded';
    case 'FAILURE':
      return 'job.failed';
    case 'REVOKED':
      return 'job.revoked';
    case 'PENDING':
    case 'SCHEDULED':
    case 'STARTED':
    case 'RETRY':
      throw new Discard('The job has not ended.', 'job_not_ended');
  }
}

async function signedHeaders(
  id: string,
  body: string,
  keys: readonly Key[],
  now: number,
): Promise<Record<'webhook-id' | 'webhook-timestamp' | 'webhook-signature' | 'content-type' | 'user-agent', string>> {
  const seconds = String(Math.floor(now / 1_000));
  const message = messageOf(`${id}.${seconds}.${body}`);
  const signatures = await Promise.all(keys.map((key) => signHmac(key, message)));
  return {
    'content-type': 'application/json',
    'user-agent': 'Lovage/1 (+callbacks)',
    'webhook-id': id,
    'webhook-timestamp': seconds,
    'webhook-signature': signatures.map((bytes) => `v1,${btoa(String.fromCharCode(...bytes))}`).join(' '),
  };
}

/** The status of a delivery that was taken. Throws for every other reply. */
function statusOf(reply: Reply, job: Job): number {
  switch (reply.kind) {
    case 'refused':
      throw new Discard(`Not requested: ${reply.reason}.`, 'callback_refused');
    case 'unreachable':
      job.signal.throwIfAborted();
      throw new Error(`Not delivered: ${reply.reason}.`);
    case 'answered': {
      const { status, complete, retryAfterSeconds } = reply;
      if (status === 410) throw new Discard('The receiver is gone (410).', 'gone');
      const taken = status >= 200 && status < 300;
      if (taken && complete) return status;
      // Who breaks off in the middle may not have taken it: once more, under the same id.
      const problem = taken ? 'The receiver broke off its answer.' : `The receiver answered ${String(status)}.`;
      if (taken || retryAfterSeconds === undefined) throw new Error(problem);
      throw new Retry(problem, { afterSeconds: retryAfterSeconds });
    }
  }
}
