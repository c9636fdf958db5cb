// Clients that do not give up: a call without an answer is repeated under its key until it has one.

import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type Api } from '../flows/product.ts';
import { between, type Chance } from './chance.ts';
import { LONGEST_LIFE_MS } from './lives.ts';

const CLIENTS = 16;
const REPEAT_AFTER_MS = 50;
const JOBS = '/api/v1/jobs';

/** One job that a client wants, and what it was answered. */
export interface Call {
  /** Its Idempotency-Key, and the key of its effect. */
  readonly key: string;
  readonly task: 'debug.effect' | 'debug.sleep';
  readonly input: unknown;
  readonly options: { readonly queue?: string; readonly countdown?: number };
  /** Every id it was answered: one, however often it asked. */
  readonly ids: Set<string>;
  /** Requests that may have been taken, and whose answer nobody got. */
  unknown: number;
}

/** One in twenty is due later, one in twenty goes to another queue. */
export function effectCall(n: number, chance: Chance): Call {
  const key = `effect-${String(n)}`;
  const countdown = Math.round(between(chance, 1, 30));
  const kind = chance();
  const options = kind < 0.05 ? { countdown } : kind < 0.1 ? { queue: 'bulk' } : {};
  return { key, task: 'debug.effect', input: { key }, options, ids: new Set(), unknown: 0 };
}

/** Runs until it is killed. */
export function sleeperCall(n: number): Call {
  const key = `sleeper-${String(n)}`;
  // A queue that hands out at once, and not the one of the effects.
  const options = { queue: 'critical' };
  return {
    key,
    task: 'debug.sleep',
    input: { seconds: LONGEST_LIFE_MS / 1_000 + 1 },
    options,
    ids: new Set(),
    unknown: 0,
  };
}

export class Load {
  readonly #api: Api;
  readonly #over: AbortSignal;
  readonly #waiting: Call[] = [];
  readonly #clients: Promise<unknown>;
  #complete = false;
  /** What was answered that is neither an acceptance nor a 503. */
  readonly unexpected: string[] = [];

  constructor(api: Api, over: AbortSignal) {
    this.#api = api;
    this.#over = over;
    this.#clients = Promise.all(Array.from({ length: CLIENTS }, () => this.#client()));
  }

  add(calls: readonly Call[]): void {
    this.#waiting.push(...calls);
  }

  /** No more come: resolves when every call has its answer, or the time is over. */
  async finish(): Promise<void> {
    this.#complete = true;
    await this.#clients;
  }

  async #client(): Promise<void> {
    while (!this.#over.aborted) {
      const call = this.#waiting.shift();
      if (call !== undefined) await this.#askUntilAnswered(call);
      else if (this.#complete) return;
      else await sleep(10);
    }
  }

  async #askUntilAnswered(call: Call): Promise<void> {
    while (!this.#over.aborted) {
      if (await this.#ask(call)) return;
      await sleep(REPEAT_AFTER_MS);
    }
  }

  /** Whether there is nothing more to ask. */
  async #ask(call: Call): Promise<boolean> {
    const { key, task, input, options } = call;
    try {
      const { status, body } = await this.#api.post(JOBS, { task, input, options }, { 'idempotency-key': key });
      if (status === 200 || status === 202) {
        call.ids.add(z.looseObject({ id: z.string() }).parse(body).id);
        return true;
      }
      if (status !== 503) this.unexpected.push(`${key}: ${String(status)} ${JSON.stringify(body)}`);
      call.unknown += 1;
      return status !== 503;
    } catch (error) {
      // Who was refused the connection knows that nothing was taken.
      if (!wasRefused(error)) call.unknown += 1;
      return false;
    }
  }
}

function wasRefused(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED';
}
