// Queues in. A batch of messages becomes deliveries of jobs; each message is acked or retried, once. Never throws.

import { z } from 'zod';
import { parseMessage } from '../core/envelope.ts';
import { fingerprint } from '../core/fingerprint.ts';
import { newId } from '../core/ids.ts';
import { UNKNOWN_TASK_RETRY_SECONDS } from '../core/limits.ts';
import { owe } from '../jobs/claim.ts';
import { transact } from '../jobs/database.ts';
import { executeBatch } from '../jobs/execute.ts';
import { logError, logInfo } from '../jobs/log.ts';
import { whileSilent, type Delivery, type Settle, type Settlement } from '../jobs/settlement.ts';
import type { Runtime } from '../jobs/runtime.ts';
import { repairIdle } from '../cron/repair.ts';
import { QUEUES, roleOf, type QueueName } from '../queues.ts';
import { recordUnparseable } from '../store/dead-letters.ts';

/** The part of a queue message that is used. */
export type IncomingMessage = Pick<Message, 'id' | 'timestamp' | 'body' | 'attempts' | 'ack' | 'retry'>;

export interface IncomingBatch {
  /** The platform's name of the queue: `email`, or `email-dlq`. */
  readonly queue: string;
  readonly messages: readonly IncomingMessage[];
}

/** Runs one batch of any queue. */
export async function consume(rt: Runtime, batch: IncomingBatch): Promise<void> {
  const role = roleOf(batch.queue);
  if (role === undefined) {
    logError('batch.unknown_queue', new Error('No such queue is configured.'), { queue: batch.queue });
    for (const message of batch.messages) message.retry({ delaySeconds: UNKNOWN_TASK_RETRY_SECONDS });
    return;
  }
  const settlements = new Settlements();
  const deliveries = await openMessages(rt, role.queue, batch.messages, settlements);
  try {
    if (role.kind === 'jobs') await executeBatch(rt, deliveries, settlements.settle);
    else await reviveJobs(rt, deliveries, settlements.settle);
    if (batch.messages.length < QUEUES[role.queue].batchSize) await repairIdle(rt);
  } catch (error) {
    logError('batch.failed', error, { queue: batch.queue, messages: batch.messages.length });
  } finally {
    settlements.settleTheRest();
  }
}

// The platform gave up on these messages. The job did not: unless it is final, it is owed a fresh one.
async function reviveJobs(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<void> {
  logInfo('dead_letter_queue.received', { messages: deliveries.length });
  await owe(rt, deliveries, settle);
}

async function openMessages(
  rt: Runtime,
  queue: QueueName,
  messages: readonly IncomingMessage[],
  settlements: Settlements,
): Promise<readonly Delivery[]> {
  const deliveries: Delivery[] = [];
  for (const message of messages) {
    const parsed = parseMessage(message.body);
    switch (parsed.kind) {
      case 'job':
        if (settlements.open(parsed.envelope.id, message)) {
          deliveries.push({ envelope: parsed.envelope, deliveries: message.attempts });
        }
        break;
      case 'newer':
        logInfo('message.newer', { job: parsed.id, version: parsed.version });
        message.retry({ delaySeconds: UNKNOWN_TASK_RETRY_SECONDS });
        break;
      case 'unparseable':
        await buryMessage(rt, queue, message, parsed.problem);
        break;
    }
  }
  return deliveries;
}

async function buryMessage(rt: Runtime, queue: QueueName, message: IncomingMessage, problem: string): Promise<void> {
  const error = { code: 'unparseable', message: problem, fingerprint: fingerprint('', 'unparseable', problem) };
  const body = JSON.stringify(z.json().catch(String(message.body)).parse(message.body));
  const id = newId(message.timestamp.getTime(), new TextEncoder().encode(message.id.padStart(9, '0').slice(-9)));
  try {
    await transact(rt, [recordUnparseable({ id, queue, body, error, at: rt.clock.now() })]);
    message.ack();
  } catch (failure) {
    logError('message.unburied', failure, { queue });
    message.retry(delayOf(whileSilent(message.attempts)));
  }
}

/** The messages of a batch by job; each is answered exactly once. */
class Settlements {
  readonly #open = new Map<string, IncomingMessage>();

  /** False for a second copy of a job in one batch: it is acked, the first one carries the job. */
  open(id: string, message: IncomingMessage): boolean {
    if (this.#open.has(id)) {
      message.ack();
      return false;
    }
    this.#open.set(id, message);
    return true;
  }

  readonly settle: Settle = (id, settlement) => {
    const message = this.#open.get(id);
    if (message === undefined) return;
    this.#open.delete(id);
    answer(message, settlement);
  };

  settleTheRest(): void {
    for (const [id, message] of this.#open) this.settle(id, whileSilent(message.attempts));
  }
}

function answer(message: IncomingMessage, settlement: Settlement): void {
  switch (settlement.kind) {
    case 'ack':
      message.ack();
      return;
    case 'retry':
      message.retry(delayOf(settlement));
  }
}

function delayOf(settlement: Settlement): { delaySeconds: number } {
  return { delaySeconds: settlement.kind === 'retry' ? settlement.delaySeconds : 0 };
}
