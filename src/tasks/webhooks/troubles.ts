// What went wrong with one of several places a task looks at: the others are looked at first, then the job fails.

import { ConfigurationError, Discard, Retry } from '../../jobs/outcome.ts';
import type { Job } from '../../jobs/task.ts';

export class Troubles {
  readonly #job: Pick<Job, 'signal'>;
  readonly #errors: Error[] = [];

  constructor(job: Pick<Job, 'signal'>) {
    this.#job = job;
  }

  /** Runs a part; undefined where it failed. Rejects only where the job was told to stop. */
  async keep<T>(part: () => Promise<T>): Promise<T | undefined> {
    try {
      return await part();
    } catch (error) {
      if (this.#job.signal.aborted) throw this.#job.signal.reason;
      this.#errors.push(error instanceof Error ? error : new Error(String(error)));
      return undefined;
    }
  }

  /** Whether the far side wants to be left alone: it would refuse the other parts as well. */
  get mustWait(): boolean {
    return this.#errors.some((error) => error instanceof Retry);
  }

  /** Throws what all of it comes to: to be tried again where any of it may go well then. */
  throwAny(): void {
    const [first] = this.#errors;
    if (first === undefined) return;
    const message = this.#errors.map((error) => error.message).join(' | ');
    const waits = this.#errors.flatMap((error) => (error instanceof Retry ? [error.afterSeconds] : []));
    if (waits.length > 0) throw new Retry(message, { afterSeconds: Math.max(...waits), cause: first });
    const discards = this.#errors.flatMap((error) => (error instanceof Discard ? [error] : []));
    if (discards.length < this.#errors.length) throw new Error(message, { cause: first });
    const other = discards.find(({ code }) => code !== 'not_configured');
    throw other === undefined ? new ConfigurationError(message) : new Discard(message, other.code);
  }
}
