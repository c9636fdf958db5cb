// Queues in. A batch of messages becomes deliveries of jobs; each message is acked or retried, once. Never throws.

import { parseMessage } from '../core/envelope.ts';
import { fingerprint } from '../core/fingerprint.ts';
import { derivedId } from '../core/ids.ts';
import { UNKNOWN_TASK_RETRY_SECONDS } from '../core/limits.ts';
import { transact } from '../jobs/database.ts';
import { executeBatch } from '../jobs/execute.ts';
import { logError, logInfo } from '../jobs/log.ts';
import { owe } from '../jobs/put-back.ts';
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
  const { deliveries, unparseable } = openMessages(batch.messages, settlements);
  try {
    if (role.kind === 'jobs') await executeBatch(rt, deliveries, settlements.settle);
    else await reviveJobs(rt, deliveries, settlements.settle);
    if (batch.messages.length < QUEUES[role.queue].batchSize) await repairIdle(rt);
  } catch (error) {
    logError('batch.failed', error, { queue: batch.queue, messages: batch.messages.length });
  }
  settlements.settleTheRest();
  await bury(rt, role.queue, unparseable);
}

// The platform gave up on these messages. The job did not: unless it is final, it is owed a fresh one.
async function reviveJobs(rt: Runtime, deliveries: readonly Delivery[], settle: Settle): Promise<void> {
  logInfo('dead_letter_queue.received', { messages: deliveries.length });
  await owe(rt, deliveries, settle);
}

interface Unparseable {
  readonly message: IncomingMessage;
  readonly problem: string;
}

function openMessages(
  messages: readonly IncomingMessage[],
  settlements: Settlements,
): { readonly deliveries: readonly Delivery[]; readonly unparseable: readonly Unparseable[] } {
  const deliveries: Delivery[] = [];
  const unparseable: Unparseable[] = [];
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
        unparseable.push({ message, problem: parsed.problem });
        break;
    }
  }
  return { deliveries, unparseable };
}

/** Dead letters for what nobody could read, all in one transaction, after the jobs of the batch. */
async function bury(rt: Runtime, queue: QueueName, unparseable: readonly Unparseable[]): Promise<void> {
  if (unparseable.length === 0) return;
  const at = rt.clock.now();
  const letters = unparseable.map(({ message, problem }) => {
    const error = { code: 'unparseable', message: problem, fingerprint: fingerprint('', 'unparseable', problem) };
    // Of its whole id, so that a second delivery makes no second letter, and no other message's letter is taken for it.
    return { id: derivedId(message.timestamp.getTime(), message.id), queue, body: textOf(message.body), error, at };
  });
  try {
    await transact(rt, letters.map(recordUnparseable));
    for (const { message } of unparseable) message.ack();
  } catch (failure) {
    logError('message.unburied', failure, { queue, messages: unparseable.length });
    for (const { message } of unparseable) answer(message, whileSilent(message.attempts));
  }
}

// Any producer may have sent it: it need not have a JSON form, nor let itself be asked for one.
function textOf(body: unknown): string {
  try {
    const text: unknown = JSON.stringify(body);
    return typeof text === 'string' ? text : 'null';
  } catch {
    return '"a body that has no JSON form"';
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
      message.retry({ delaySeconds: settlement.delaySeconds });
  }
}
