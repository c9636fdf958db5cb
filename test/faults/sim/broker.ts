// A queue that does everything it may: loses, doubles, delays and reorders messages, runs several consumers at once,
// forgets acks, and gives up on a message after a hundred retries.

import type { Backlog, Outgoing } from '../../../src/core/ports.ts';
import type { IncomingMessage } from '../../../src/consumers/batch.ts';
import { QUEUES, roleOf } from '../../../src/queues.ts';
import type { Faults } from './faults.ts';
import { idOf } from './message.ts';
import type { Prng } from './prng.ts';
import type { Timeline } from './timeline.ts';

/** Retries before a message goes to the dead-letter queue: max_retries of wrangler.toml. */
const MAX_RETRIES = 100;

interface Stored {
  readonly id: string;
  readonly body: string;
  /** Its job, where it has one. */
  readonly job: string | undefined;
  readonly sentAt: number;
  attempts: number;
}

type Answer = { readonly kind: 'ack' } | { readonly kind: 'retry'; readonly delaySeconds: number };

/** How a consumer is called: resolves when its handler has ended, or with `died`. */
export type Deliver = (queue: string, messages: readonly IncomingMessage[]) => Promise<'ended' | 'died'>;

export interface BrokerOptions {
  readonly deliver: Deliver;
  /** Whether a message may get lost: one whose job has no row yet is all there is of it, and queues are durable. */
  readonly mayLose: (job: string | undefined) => boolean;
  /** Consumers of one queue at the same time. */
  readonly concurrency: number;
  /** How long a queue waits for more messages before it makes a batch. */
  readonly gatherMs: number;
  /** Whether each answer counts as it is given, or all of them when the handler has ended. */
  readonly acksAtOnce: boolean;
}

export class Broker {
  readonly #timeline: Timeline;
  readonly #random: Prng;
  readonly #faults: Faults;
  readonly #options: BrokerOptions;
  readonly #ready = new Map<string, Stored[]>();
  readonly #busy = new Map<string, number>();
  readonly #gathering = new Set<string>();
  #made = 0;
  // Messages of an earlier one were lost with the machine.
  #generation = 0;

  constructor(timeline: Timeline, random: Prng, faults: Faults, options: BrokerOptions) {
    this.#timeline = timeline;
    this.#random = random;
    this.#faults = faults;
    this.#options = options;
  }

  send(queue: string, outgoing: readonly Outgoing[]): void {
    for (const { envelope, delaySeconds } of outgoing) this.put(queue, JSON.stringify(envelope), delaySeconds * 1_000);
  }

  put(queue: string, body: string, delayMs: number): void {
    this.#made += 1;
    const attempts = this.#faults.strikes('message.worn') ? this.#random.between(80, MAX_RETRIES) : 0;
    const job = idOf(JSON.parse(body));
    const message = { id: `message-${String(this.#made)}`, body, job, sentAt: this.#timeline.now, attempts };
    const late = this.#faults.strikes('message.late') ? this.#random.between(1, 240) * 1_000 : 0;
    const delay = delayMs + late + this.#random.between(1, 50);
    if (this.#faults.strikes('message.doubled')) {
      const apart = this.#random.chance(0.5) ? 0 : this.#random.between(0, 120_000);
      this.#readyAfter(queue, { ...message }, delay + apart);
    }
    this.#readyAfter(queue, message, delay);
  }

  /** What is ready and not in anybody's hands. */
  backlog(queue: string): Backlog {
    const waiting = this.#ready.get(queue) ?? [];
    if (waiting.length === 0) return { count: 0, oldestSentAt: undefined };
    return { count: waiting.length, oldestSentAt: Math.min(...waiting.map(({ sentAt }) => sentAt)) };
  }

  /** What a local restart does to every queue. */
  empty(): void {
    this.#generation += 1;
    this.#ready.clear();
  }

  #readyAfter(queue: string, message: Stored, milliseconds: number): void {
    const generation = this.#generation;
    this.#timeline.after(milliseconds, () => {
      if (generation !== this.#generation) return;
      if (this.#options.mayLose(message.job) && this.#faults.strikes('message.lost')) return;
      const waiting = this.#ready.get(queue);
      if (waiting === undefined) this.#ready.set(queue, [message]);
      else waiting.push(message);
      this.#gather(queue);
    });
  }

  #gather(queue: string): void {
    if (this.#gathering.has(queue)) return;
    this.#gathering.add(queue);
    this.#timeline.after(this.#random.between(0, this.#options.gatherMs), () => {
      this.#gathering.delete(queue);
      this.#pump(queue);
    });
  }

  #pump(queue: string): void {
    const role = roleOf(queue);
    const most = role?.kind === 'jobs' ? QUEUES[role.queue].batchSize : 10;
    for (;;) {
      const waiting = this.#ready.get(queue) ?? [];
      const busy = this.#busy.get(queue) ?? 0;
      if (waiting.length === 0 || busy >= this.#options.concurrency) return;
      const full = Math.min(most, waiting.length);
      const size = this.#random.chance(0.5) ? full : this.#random.between(1, full);
      this.#busy.set(queue, busy + 1);
      void this.#deliver(queue, this.#random.take(waiting, size));
    }
  }

  async #deliver(queue: string, messages: readonly Stored[]): Promise<void> {
    const generation = this.#generation;
    const answers = new Map<Stored, Answer>();
    for (const message of messages) message.attempts += 1;
    const incoming = messages.map((message): IncomingMessage => {
      const once = (answer: Answer): void => {
        if (!answers.has(message)) answers.set(message, answer);
      };
      return {
        id: message.id,
        timestamp: new Date(message.sentAt),
        body: JSON.parse(message.body) as unknown,
        attempts: message.attempts,
        ack: () => {
          once({ kind: 'ack' });
        },
        retry: (options) => {
          once({ kind: 'retry', delaySeconds: options?.delaySeconds ?? 0 });
        },
      };
    });
    const end = await this.#options.deliver(queue, incoming);
    this.#busy.set(queue, (this.#busy.get(queue) ?? 1) - 1);
    if (generation === this.#generation) {
      for (const message of messages) this.#settle(queue, message, this.#verdict(end, answers.get(message)));
    }
    this.#pump(queue);
  }

  #verdict(end: 'ended' | 'died', answer: Answer | undefined): Answer {
    const again: Answer = { kind: 'retry', delaySeconds: this.#random.between(0, 60) };
    if (end === 'died') return (this.#options.acksAtOnce ? answer : undefined) ?? again;
    // A message that nobody answered is acked when the handler has ended.
    if (answer === undefined || answer.kind === 'ack')
      return this.#faults.strikes('ack.lost') ? again : { kind: 'ack' };
    return answer;
  }

  #settle(queue: string, message: Stored, answer: Answer): void {
    if (answer.kind === 'ack') return;
    const dead = message.attempts > MAX_RETRIES && !queue.endsWith('-dlq');
    if (dead) this.#readyAfter(`${queue}-dlq`, { ...message, attempts: 0 }, this.#random.between(0, 1_000));
    else this.#readyAfter(queue, message, answer.delaySeconds * 1_000 + this.#random.between(0, 500));
  }
}
