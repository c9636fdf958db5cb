// Slack's deferred answer to a command or an interaction. Its URL lets whoever has it write into the conversation, so it
// is a secret: no error and no log has it, and uses are counted without it. Jobs that were given it keep it, for 30 minutes of use.

import { sha256Hex } from '../core/digest.ts';
import { parseInstant } from '../core/instant.ts';
import type { Json } from '../core/json.ts';
import { MAX_SLACK_RESPONSES, SLACK_RESPONSE_MS } from '../core/limits-outside.ts';
import { Discard, RateLimited } from '../jobs/outcome.ts';
import type { Job } from '../jobs/task.ts';
import { countUse } from '../store/uses.ts';
import { postOutside, type Reply } from './outgoing.ts';

export interface SlackMessage {
  /** Who sees it; Slack's default is `ephemeral`. */
  readonly response_type?: 'ephemeral' | 'in_channel';
  readonly text?: string;
  readonly blocks?: readonly Json[];
  readonly replace_original?: boolean;
  readonly delete_original?: boolean;
  readonly thread_ts?: string;
}

export interface SlackAnswer {
  /** `response_url` of the request. */
  readonly responseUrl: string;
  /** When the request came: epoch ms, or ISO 8601 with a zone. */
  readonly receivedAt: number | string;
}

type Caller = Pick<Job, 'clock' | 'db' | 'env' | 'signal'>;

/**
 * Answers a Slack request from a job, up to five times within 30 minutes; every request counts, also one that fails.
 * Throws what ends the attempt rightly: `Discard` where no answer will be taken any more, `RateLimited` or an error else.
 */
export async function respondToSlack(
  job: Caller,
  { responseUrl, receivedAt }: SlackAnswer,
  message: SlackMessage,
): Promise<void> {
  const expiresAt = instantOf(receivedAt) + SLACK_RESPONSE_MS;
  if (job.clock.now() >= expiresAt) throw expired();
  // Before the request: one that is lost on the way has been used all the same.
  const counted = await job.db.run(countUse(sha256Hex(responseUrl), MAX_SLACK_RESPONSES, expiresAt));
  if (counted.rows.length === 0) throw usedUp();
  const headers = { 'content-type': 'application/json; charset=utf-8', 'user-agent': 'Lovage/1 (+slack)' };
  endOf(await postOutside(job, { url: responseUrl, headers, body: JSON.stringify(message) }), job);
}

function instantOf(receivedAt: number | string): number {
  const at = typeof receivedAt === 'number' ? receivedAt : parseInstant(receivedAt);
  if (at === undefined || !Number.isFinite(at)) throw new Discard('receivedAt is no instant.');
  return at;
}

function endOf(reply: Reply, job: Caller): void {
  switch (reply.kind) {
    case 'refused':
      throw new Discard(`Slack's response_url is not requested: ${reply.reason}.`, 'response_url_refused');
    case 'unreachable':
      job.signal.throwIfAborted();
      throw new Error(`Slack was not reached: ${reply.reason}.`);
    case 'answered': {
      const { status, text, retryAfterSeconds } = reply;
      if (text.includes('used_url')) throw usedUp();
      if (status === 404 || status === 410 || text.includes('expired_url')) throw expired();
      if (status >= 200 && status < 300) return;
      const problem = `Slack answered ${String(status)}.`;
      if (status !== 429 || retryAfterSeconds === undefined) throw new Error(problem);
      throw new RateLimited(problem, { afterSeconds: retryAfterSeconds });
    }
  }
}

function expired(): Discard {
  return new Discard('Slack takes no answer after 30 minutes.', 'response_url_expired');
}

function usedUp(): Discard {
  return new Discard('Slack takes no more than five answers.', 'response_url_used_up');
}
