// Unique jobs. The replay guard says which job a key names; a call is given that job, takes its place while it waits,
// or makes the next one. What nobody answers for is unknown, and may be repeated: nothing here is sent without its row.

import type { Envelope } from '../core/envelope.ts';
import { hexOf, newId } from '../core/ids.ts';
import { ACCEPT_DEADLINE_MS, ENVELOPE_LIFE_MS, MESSAGE_HORIZON_SECONDS, UNIQUE_LIFE_MS } from '../core/limits.ts';
import { isFinal, shownState } from '../core/states.ts';
import type { TokenAnswer } from '../durable/replay-guard.ts';
import { insertJobs, type NewRow } from '../store/accept.ts';
import { PAUSE } from '../store/queue-controls.ts';
import { revisedInputKey } from '../store/payloads.ts';
import { readNamed, readPlace, selectNamed, takePlace, type Named } from '../store/unique.ts';
import { query, transact } from './database.ts';
import type { Accepted, Enqueued, From } from './enqueue.ts';
import type { Item } from './flush.ts';
import { sendMarked } from './hand-out.ts';
import { locksOf } from './limits.ts';
import { logError } from './log.ts';
import { leaveLines } from './passes.ts';
import { setInputAside } from './payloads.ts';
import { claimToken, moveToken } from './replay.ts';
import { toEnvelope, type Request } from './request.ts';
import type { Runtime } from './runtime.ts';
import type { Unique } from './unique-key.ts';

/** How often the key may be moved by others while one call looks. */
const ROUNDS = 5;

/** One call, at one moment. */
interface Call {
  readonly unique: Unique;
  readonly now: number;
  envelope(id: string): Envelope;
}

/** Which job a key names, and since when. */
type Claim = Pick<TokenAnswer, 'jobId' | 'claimedAt'>;

/** What has to be committed for a unique call, or its answer where nothing has. Never rejects. */
export async function admitUnique(rt: Runtime, request: Request, unique: Unique, from: From): Promise<Item | Enqueued> {
  const now = rt.clock.now();
  // Due `for` after this call, which is the last one so far.
  const due = unique.on === 'debounce' ? { eta: { at: now + (unique.forMs ?? 0) } } : {};
  const timed = { ...request, options: { ...request.options, ...due } };
  const call: Call = { unique, now, envelope: (id) => toEnvelope(timed, { ...from, id, now }) };
  try {
    return await admit(rt, call, `unique:${request.task.name}`);
  } catch (error) {
    logError('unique.silent', error, { task: request.task.name });
    return { kind: 'unknown' };
  }
}

async function admit(rt: Runtime, call: Call, scope: string): Promise<Item | Enqueued> {
  const { unique, now } = call;
  const { token } = unique;
  const proposed = call.envelope(newId(now, rt.random.bytes(9)));
  const ttlMs = unique.forMs ?? Math.max(0, proposed.dueAt - now) + UNIQUE_LIFE_MS;
  // A later due time keeps the key for longer; `for` counts from the first call, unless it is to count from the last.
  const extend = unique.on === 'debounce' || unique.forMs === undefined;
  const claimed = await claimToken(rt, scope, { token, jobId: proposed.id, digest: '', ttlMs, now, extend });
  if (claimed.verdict === 'fresh') return { envelope: proposed, mode: 'new' };
  let named: Claim = claimed;
  for (let round = 0; round < ROUNDS; round += 1) {
    const taken = hasLapsed(call, named)
      ? undefined
      : await (unique.on === 'return' ? giveBack : replace)(rt, call, named);
    if (taken !== undefined) return taken;
    const move = { token, from: named.jobId, to: proposed.id, ttlMs, now };
    const moved = await moveToken(rt, scope, move);
    if (moved.moved) return { envelope: proposed, mode: 'new' };
    named = moved;
  }
  throw new Error('The key named another job each time.');
}

// Another call may have claimed it for longer than this one asks for.
function hasLapsed({ unique: { on, forMs }, now }: Call, { claimedAt }: Claim): boolean {
  return on !== 'debounce' && forMs !== undefined && claimedAt + forMs <= now;
}

/** The job that the key names; undefined where it has ended and the key names it no longer. */
async function giveBack(rt: Runtime, call: Call, named: Claim): Promise<Accepted | undefined> {
  const envelope = call.envelope(named.jobId);
  const [row] = await query(rt, selectNamed(envelope.id, envelope.dueAt, envelope.queue), ACCEPT_DEADLINE_MS);
  const found = row === undefined ? await makeMissing(rt, call, named, envelope) : readNamed(row);
  if (call.unique.forMs === undefined && (found === undefined || hasEnded(found, call.now))) return undefined;
  return accepted(rt, envelope, true, found);
}

function hasEnded({ state, expires_at: expiresAt, started_at: startedAt }: Named, now: number): boolean {
  // Past `expires` it will not start any more, whether or not the sweep has come by.
  return isFinal(state) || (startedAt === null && expiresAt !== null && expiresAt <= now);
}

/**
 * Whoever claimed the key may have died before the job was made, or not be there yet: this call makes it under the
 * claimed id. Undefined where the job was made and has been forgotten since.
 */
async function makeMissing(rt: Runtime, call: Call, named: Claim, missing: Envelope): Promise<Named | undefined> {
  if (isForgotten(call, named)) return undefined;
  const row = await rowOf(rt, call, missing);
  const { id, dueAt, queue } = missing;
  const statements = [insertJobs([row], call.now), selectNamed(id, dueAt, queue)];
  const [made, found] = await transact(rt, statements, ACCEPT_DEADLINE_MS);
  if (made?.rows.length === 1) await send(rt, row);
  else discard(rt, inputKeyOf(row));
  const [there] = found?.rows ?? [];
  if (there === undefined) throw new Error('A row that was just made is not there.');
  return readNamed(there);
}

/** The job that the key names, with this call in its place; undefined where it has started or ended. */
async function replace(rt: Runtime, call: Call, named: Claim): Promise<Accepted | undefined> {
  const envelope = call.envelope(named.jobId);
  const row = await rowOf(rt, call, envelope);
  const { id, dueAt, queue } = envelope;
  // Together, so that what it was before is what this call found.
  const statements = [selectNamed(id, dueAt, queue), takePlace(row, call.now, !isForgotten(call, named))];
  const [found, taken] = await transact(rt, statements, ACCEPT_DEADLINE_MS);
  const [place] = taken?.rows ?? [];
  if (place === undefined) {
    discard(rt, inputKeyOf(row));
    return undefined;
  }
  const [before] = (found?.rows ?? []).map(readNamed);
  if (before === undefined || before.wants_message === 1) await send(rt, row);
  discard(rt, before?.input_key);
  leaveOldLock(rt, envelope, before?.parked_for ?? null);
  return accepted(rt, envelope, false, readPlace(place));
}

// Whoever frees a lock that the job no longer wants would wake it for nothing, and keep its turn from others.
function leaveOldLock(rt: Runtime, envelope: Envelope, parkedFor: string | null): void {
  const task = rt.registry.find(envelope.task);
  if (parkedFor === null || parkedFor === PAUSE || task === undefined) return;
  if (locksOf(task, envelope).some(({ name }) => name === parkedFor)) return;
  rt.waitUntil(leaveLines(rt, new Map([[parkedFor, [envelope.id]]])));
}

/** No row younger than this is ever deleted: one that is not there was made, ended, and deleted. */
function isForgotten({ now }: Call, { claimedAt }: Claim): boolean {
  return now - claimedAt > ENVELOPE_LIFE_MS;
}

// A large input never goes where another call of the same job may have put its own.
async function rowOf(rt: Runtime, { now }: Call, envelope: Envelope): Promise<NewRow> {
  const kept = await setInputAside(rt, envelope, 'new', revisedInputKey(envelope.id, hexOf(rt.random.bytes(8))));
  const soon = envelope.dueAt - now <= MESSAGE_HORIZON_SECONDS * 1_000;
  return { envelope: kept, sentAt: soon ? now : null, revised: true };
}

function inputKeyOf({ envelope }: NewRow): string | undefined {
  return envelope.v === 1 ? undefined : envelope.inputKey;
}

/** Sends the message of a row that is marked as sent. Never rejects: the sweeps find one that has none. */
async function send(rt: Runtime, { envelope, sentAt }: NewRow): Promise<void> {
  if (sentAt === null) return;
  try {
    await sendMarked(rt, [envelope], sentAt);
  } catch (error) {
    logError('unique.unsent', error, { job: envelope.id });
  }
}

/** Removes an input that no row names any more, after the answer; the sweep of orphans finds what this misses. */
function discard(rt: Runtime, key: string | null | undefined): void {
  if (key === null || key === undefined) return;
  const removing = rt.inputs.remove([key]).catch((error: unknown) => {
    logError('unique.input_not_removed', error, { key });
  });
  rt.waitUntil(removing);
}

function accepted(
  rt: Runtime,
  { id, task, queue, dueAt }: Envelope,
  replayed: boolean,
  stand: Pick<Named, 'state' | 'due_at'> & Partial<Named> = { state: 'SCHEDULED', due_at: dueAt },
): Accepted {
  const state = shownState(stand.state, stand.due_at, rt.clock.now());
  return { kind: 'accepted', id, task, queue: stand.queue ?? queue, state, replayed };
}
