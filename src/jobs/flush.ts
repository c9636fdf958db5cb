// One group of jobs becomes durable: rows and messages at the same time, each known to be taken or not.

import { within } from '../core/deadline.ts';
import type { Envelope } from '../core/envelope.ts';
import { ACCEPT_DEADLINE_MS, MESSAGE_HORIZON_SECONDS } from '../core/limits.ts';
import { DatabaseError, type Statement } from '../core/ports.ts';
import type { State } from '../core/states.ts';
import { insertJobs, markOwed, readStates, selectStates, type NewRow } from '../store/accept.ts';
import { query } from './database.ts';
import { handOut, messageFor, type Sending } from './hand-out.ts';
import { logError } from './log.ts';
import type { Runtime } from './runtime.ts';

/**
 * `new`: row and message at once. `again`: this id may have been accepted before, so the row comes first, and a
 * message follows only if this insert made the row or the database is silent.
 */
export interface Item {
  readonly envelope: Envelope;
  readonly mode: 'new' | 'again';
  /** `again`, and what it carries proves nothing: while the database is silent its message must not stand for the job. */
  readonly unproven?: true;
}

export interface Acceptance {
  /** The row or the message is durable. False means unknown: repeat under the same id. */
  readonly taken: boolean;
  /** This flush made the row, or, with the database silent, may have. */
  readonly created: boolean;
  /** Where the job stands, for one that was there already. */
  readonly known?: { readonly state: State; readonly dueAt: number };
}

type RowOutcome = 'created' | 'exists' | 'refused' | 'silent';

/** Commits items together. Waits at most 2.5 s for the database and the queue each; never rejects for either. */
export async function flush(rt: Runtime, items: readonly Item[]): Promise<readonly Acceptance[]> {
  const sentAt = rt.clock.now();
  const owners = ownerOfEachId(items);
  const owning = new Set(owners);
  const eager = new Set(owners.filter(({ envelope }) => hasMessageNow(rt, envelope, sentAt)));
  const insertThose = (those: readonly Item[]): Promise<Map<string, RowOutcome>> =>
    insertAll(
      rt,
      those.map((item) => ({ envelope: item.envelope, sentAt: eager.has(item) ? sentAt : null })),
      sentAt,
    );
  const fresh = owners.filter(({ mode }) => mode === 'new');
  const [made, { rows: found, known }, sent] = await Promise.all([
    insertThose(fresh),
    findOrInsert(
      rt,
      owners.filter(({ mode }) => mode === 'again'),
      insertThose,
    ),
    handOut(
      rt,
      fresh.filter((item) => eager.has(item)).map(({ envelope }) => messageFor(envelope, sentAt)),
    ),
  ]);
  const rows = new Map([...made, ...found]);
  const late = owners.filter((item) => needsLateMessage(item, eager.has(item), rows.get(item.envelope.id)));
  const sentLate = await handOut(
    rt,
    // One due later than the horizon is sent undelayed: its consumer makes the row and acks.
    late.map((item) => (eager.has(item) ? messageFor(item.envelope, sentAt) : { ...item, delaySeconds: 0 })),
  );
  const sendings = new Map([...sent, ...sentLate]);
  await oweFailed(rt, sendings, rows, sentAt);
  return items.map((item) => {
    const { id } = item.envelope;
    const row = rows.get(id) ?? 'silent';
    const stand = known.get(id);
    return {
      taken: row === 'created' || row === 'exists' || sendings.get(id) === 'sent',
      created: (row === 'created' || row === 'silent') && owning.has(item),
      ...(stand === undefined ? {} : { known: stand }),
    };
  });
}

type Known = ReadonlyMap<string, { state: State; dueAt: number }>;

/** Rows that may be there already are looked for first: nearly all are, and their inputs need not travel again. */
async function findOrInsert(
  rt: Runtime,
  items: readonly Item[],
  insertThose: (missing: readonly Item[]) => Promise<Map<string, RowOutcome>>,
): Promise<{ readonly rows: Map<string, RowOutcome>; readonly known: Known }> {
  if (items.length === 0) return { rows: new Map(), known: new Map() };
  const ids = items.map(({ envelope }) => envelope.id);
  const found = await quietly(rt, selectStates(ids));
  // Whoever does not answer a question takes no row either.
  if (found === undefined) return { rows: new Map(ids.map((id) => [id, 'silent'])), known: new Map() };
  const known = readStates(found);
  const inserted = await insertThose(items.filter(({ envelope }) => !known.has(envelope.id)));
  return { rows: new Map([...[...known.keys()].map((id) => [id, 'exists'] as const), ...inserted]), known };
}

// Copies of one request may meet in one group: one of them makes the row and sends, the one that is surely new if any.
function ownerOfEachId(items: readonly Item[]): readonly Item[] {
  const owners = new Map<string, Item>();
  for (const item of items) {
    if (item.mode === 'new' || !owners.has(item.envelope.id)) owners.set(item.envelope.id, item);
  }
  return [...owners.values()];
}

// A job due later than the horizon lives in its row alone, as does one whose queue has enough delayed messages.
function hasMessageNow(rt: Runtime, { dueAt, queue }: Envelope, now: number): boolean {
  if (dueAt <= now) return true;
  return dueAt - now <= MESSAGE_HORIZON_SECONDS * 1_000 && rt.isolate.delays.take(queue, now);
}

function needsLateMessage(item: Item, eager: boolean, row: RowOutcome | undefined): boolean {
  if (item.unproven === true && row === 'silent') return false;
  // Without a row the message is all there is; it comes at once, and its consumer makes the row.
  if (!eager) return row === 'silent';
  return item.mode === 'again' && (row === 'created' || row === 'silent');
}

async function insertAll(rt: Runtime, rows: readonly NewRow[], now: number): Promise<Map<string, RowOutcome>> {
  if (rows.length === 0) return new Map();
  const outcome = await insert(rt, rows, now);
  if (outcome !== 'refused') {
    return new Map(
      rows.map(({ envelope: { id } }) => [id, outcome === 'silent' ? outcome : outcome.has(id) ? 'created' : 'exists']),
    );
  }
  const [only] = rows;
  if (only !== undefined && rows.length === 1) return new Map([[only.envelope.id, 'refused']]);
  // One row the database will not have must not spoil the others: each by itself.
  const singly = await Promise.all(rows.map((row) => insertAll(rt, [row], now)));
  return new Map(singly.flatMap((each) => [...each]));
}

async function insert(rt: Runtime, rows: readonly NewRow[], now: number): Promise<Set<string> | 'refused' | 'silent'> {
  try {
    const answer = await within(rt.clock, ACCEPT_DEADLINE_MS, rt.db.run(insertJobs(rows, now)));
    if (!answer.inTime) return 'silent';
    return new Set(answer.value.rows.map(({ id }) => String(id)));
  } catch (error) {
    logError('accept.failed', error, { jobs: rows.length });
    return error instanceof DatabaseError && error.kind === 'refused' ? 'refused' : 'silent';
  }
}

async function oweFailed(
  rt: Runtime,
  sendings: ReadonlyMap<string, Sending>,
  rows: ReadonlyMap<string, RowOutcome>,
  sentAt: number,
): Promise<void> {
  const failed = [...sendings].filter(([id, sending]) => sending === 'failed' && rows.get(id) === 'created');
  if (failed.length === 0) return;
  // Where this fails too the row looks sent, and the sweep of suspects finds it.
  await quietly(
    rt,
    markOwed(
      failed.map(([id]) => id),
      sentAt,
    ),
  );
}

async function quietly(rt: Runtime, statement: Statement): Promise<readonly Record<string, unknown>[] | undefined> {
  try {
    return await query(rt, statement, ACCEPT_DEADLINE_MS);
  } catch (error) {
    logError('accept.followup_failed', error, { statement: statement.name });
    return undefined;
  }
}
