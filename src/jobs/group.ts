// Group commit: enqueues in flight in one isolate at the same moment share one statement and one send per queue.
// The first request leads; the others await its promise and do no I/O after it.

import { FOLLOWER_DEADLINE_MS, GROUP_TERM_MS, MAX_BOUND_BYTES, MAX_GROUP_ITEMS } from '../core/limits.ts';
import { flush, type Acceptance, type Item } from './flush.ts';
import type { Runtime } from './runtime.ts';

/** What one request wants committed. */
interface Waiting {
  readonly items: readonly Item[];
  readonly bytes: number;
  readonly settle: (acceptances: readonly Acceptance[]) => void;
  readonly fail: (error: unknown) => void;
}

interface Term {
  readonly endsAt: number;
  readonly waiting: Waiting[];
}

export class Group {
  // Who comes while a term lasts joins it; who comes later leads a term of its own, beside a flush still under way.
  #term: Term | undefined;

  /**
   * Commits what one request brings together with all others of this moment; answers in the order of `items`, which
   * one statement must be able to carry (see {@link portions}).
   */
  async commit(rt: Runtime, items: readonly Item[]): Promise<readonly Acceptance[]> {
    const { promise, resolve: settle, reject: fail } = Promise.withResolvers<readonly Acceptance[]>();
    const waiting = { items, bytes: items.reduce((sum, item) => sum + sizeOf(item), 0), settle, fail };
    const now = rt.clock.now();
    if (this.#term === undefined || now >= this.#term.endsAt) {
      this.#term = { endsAt: now + GROUP_TERM_MS, waiting: [waiting] };
      rt.waitUntil(this.#lead(rt, this.#term));
      return promise;
    }
    this.#term.waiting.push(waiting);
    // Not even the timer is cleared on release: that would be I/O in whatever context released us.
    const late = rt.clock.sleep(FOLLOWER_DEADLINE_MS).then(() => undefined);
    // A leader that never answers is gone: the same ids again, by ourselves.
    return (await Promise.race([promise, late])) ?? flush(rt, items);
  }

  async #lead(rt: Runtime, term: Term): Promise<void> {
    while (term.waiting.length > 0) await commitTogether(rt, takeGroup(term.waiting));
    if (this.#term === term) this.#term = undefined;
  }
}

/** Cuts many items into what one statement can carry each. */
export function portions(items: readonly Item[]): readonly (readonly Item[])[] {
  const cut: Item[][] = [];
  let bytes = Infinity;
  for (const item of items) {
    const size = sizeOf(item);
    if (bytes + size > MAX_BOUND_BYTES || (cut.at(-1)?.length ?? 0) >= MAX_GROUP_ITEMS) {
      cut.push([]);
      bytes = 0;
    }
    cut.at(-1)?.push(item);
    bytes += size;
  }
  return cut;
}

// JSON text counted in UTF-16 units is doubled: the statement escapes it once more, and a unit may be three bytes.
function sizeOf({ envelope }: Item): number {
  return 2 * JSON.stringify(envelope).length;
}

/** Takes from the front what one statement can carry; at least one request. */
function takeGroup(waiting: Waiting[]): Waiting[] {
  let bytes = 0;
  let items = 0;
  const full = waiting.findIndex((each, at) => {
    bytes += each.bytes;
    items += each.items.length;
    return at > 0 && (bytes > MAX_BOUND_BYTES || items > MAX_GROUP_ITEMS);
  });
  return waiting.splice(0, full === -1 ? waiting.length : full);
}

async function commitTogether(rt: Runtime, group: readonly Waiting[]): Promise<void> {
  try {
    const acceptances = await flush(
      rt,
      group.flatMap(({ items }) => items),
    );
    let from = 0;
    for (const { items, settle } of group) settle(acceptances.slice(from, (from += items.length)));
  } catch (error) {
    for (const { fail } of group) fail(error);
  }
}
