// Statements of consumers and sweeps: each with an end to its waiting, repeated where that is safe.

import { within } from '../core/deadline.ts';
import { STATEMENT_DEADLINE_MS } from '../core/limits.ts';
import { DatabaseError, type Answer, type Statement } from '../core/ports.ts';
import type { Runtime } from './runtime.ts';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;

/** Runs a transaction. Rejects with a DatabaseError, of kind `outage` where there was no answer in time. */
export async function transact(
  rt: Runtime,
  statements: readonly Statement[],
  deadlineMs = STATEMENT_DEADLINE_MS,
): Promise<readonly Answer[]> {
  const [only] = statements;
  const running =
    only !== undefined && statements.length === 1
      ? rt.db.run(only).then((answer) => [answer])
      : rt.db.batch(statements);
  const answer = await within(rt.clock, deadlineMs, running);
  if (answer.inTime) return answer.value;
  throw new DatabaseError('outage', `${statements.map(({ name }) => name).join('+')}: no answer in time`);
}

/** One statement's rows. */
export async function query(rt: Runtime, statement: Statement, deadlineMs?: number): Promise<Answer['rows']> {
  const [answer] = await transact(rt, [statement], deadlineMs);
  return answer?.rows ?? [];
}

/** Repeats a transaction that is safe to repeat, through outages, until `giveUpAt` (epoch ms). */
export async function persist(
  rt: Runtime,
  statements: readonly Statement[],
  giveUpAt: number,
): Promise<readonly Answer[]> {
  return insist(rt, () => transact(rt, statements), giveUpAt);
}

/** Repeats what is safe to repeat until it succeeds, is refused by the database, or `giveUpAt` (epoch ms) has come. */
export async function insist<T>(rt: Runtime, run: () => Promise<T>, giveUpAt: number): Promise<T> {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, pause * 2)) {
    try {
      return await run();
    } catch (error) {
      const refused = error instanceof DatabaseError && error.kind === 'refused';
      if (refused || rt.clock.now() + pause >= giveUpAt) throw error;
      await rt.clock.sleep(pause * (0.5 + rt.random.fraction() / 2));
    }
  }
}
