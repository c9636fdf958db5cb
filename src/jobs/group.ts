// Group commit: enqueues in flight in one isolate at the same moment share one statement and one send per queue.
// The first request leads; the others await its promise and do no I/O after it.

import type { Envelope } from '../core/envelope.ts';
import { within } from '../core/deadline.ts';
import { FOLLOWER_DEADLINE_MS, GROUP_TERM_MS, MAX_BOUND_BYTES, MAX_GROUP_ITEMS } from '../core/limits.ts';
import { flush } from './flush.ts';
import type { Acceptance, Item } from './flush.ts';
import type { Runtime } from './runtime.ts';

interface Waiting {
  readonly item: Item;
  readonly bytes: number;
  readonly settle: (acceptance: Acceptance) => void;
  readonly fail: (error: unknown) => void;
}

interface Term {
  readonly endsAt: number;
  readonly waiting: Waiting[];
}

export class Group {
  // Who comes while a term lasts joins it; who comes later leads a term of its own, beside a flush still under way.
  #term: Term | undefined;

  /** Commits one job with all others of this moment. Rejects only where even a commit of its own failed. */
  async commit(rt: Runtime, item: Item): Promise<Acceptance> {
    const { promise, waiting } = enlist(item);
    const now = rt.clock.now();
    const joined = this.#term !== undefined && now < this.#term.endsAt;
    if (joined) this.#term?.waiting.push(waiting);
    else rt.waitUntil(this.#lead(rt, (this.#term = { endsAt: now + GROUP_TERM_MS, waiting: [waiting] })));
    const shared = await within(rt.clock, FOLLOWER_DEADLINE_MS, promise);
    if (shared.inTime) return shared.value;
    return alone(rt, item);
  }

  async #lead(rt: Runtime, term: Term): Promise<void> {
    while (term.waiting.length > 0) await commitTogether(rt, takeGroup(term.waiting));
    if (this.#term === term) this.#term = undefined;
  }
}

async function alone(rt: Runtime, item: Item): Promise<Acceptance> {
  const [acceptance] = await flush(rt, [item]);
  if (acceptance === undefined) throw new Error('A flush answered fewer items than it was given.');
  return acceptance;
}

function enlist(item: Item): { promise: Promise<Acceptance>; waiting: Waiting } {
  const { promise, resolve, reject } = Promise.withResolvers<Acceptance>();
  return { promise, waiting: { item, bytes: sizeOf(item.envelope), settle: resolve, fail: reject } };
}

// JSON text counted in UTF-16 units is doubled: the statement escapes it once more, and a unit may be three bytes.
function sizeOf(envelope: Envelope): number {
  return 2 * JSON.stringify(envelope).length;
}

/** Takes from the front what one statement can carry; at least one. */
function takeGroup(waiting: Waiting[]): Waiting[] {
  let bytes = 0;
  let count = 0;
  for (const each of waiting) {
    bytes += each.bytes;
    if (count > 0 && (bytes > MAX_BOUND_BYTES || count >= MAX_GROUP_ITEMS)) break;
    count += 1;
  }
  return waiting.splice(0, count);
}

async function commitTogether(rt: Runtime, group: readonly Waiting[]): Promise<void> {
  try {
    const acceptances = await flush(
      rt,
      group.map(({ item }) => item),
    );
    for (const [at, { settle }] of group.entries()) {
      const acceptance = acceptances[at];
      if (acceptance !== undefined) settle(acceptance);
    }
  } catch (error) {
    for (const { fail } of group) fail(error);
  }
}
