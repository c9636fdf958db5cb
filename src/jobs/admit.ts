// Before the claim: jobs that take from rate limits and locks ask them, locks first. Who may start is given a pass; who may
// not waits without having been claimed, for a time or until it is woken.

import type { Envelope } from '../core/envelope.ts';
import { LIMIT_SILENT_MS, NEAR_GRANT_MS } from '../core/limits.ts';
import type { LeaseAnswer } from '../durable/lock-table.ts';
import type { StartAnswer } from '../durable/rate-window.ts';
import { heldBy, locksOf, ratesOf, type Lock, type RateLimit } from './limits.ts';
import { logError } from './log.ts';
import { askOf, giveBack, inTime, leaveLines, wakeNext, type Grant, type Pass } from './passes.ts';
import type { Runtime } from './runtime.ts';
import type { Task } from './task.ts';
import type { Found } from './unwon.ts';

/** Why a job may not start now: until a time (epoch ms), or until a lock wakes it. */
export type Obstacle =
  | { readonly kind: 'until'; readonly at: number; readonly reason: string }
  | { readonly kind: 'lock'; readonly lock: string; readonly reason: string };

export interface Admission {
  readonly passes: ReadonlyMap<string, Pass>;
  readonly obstacles: ReadonlyMap<Found, Obstacle>;
}

/** Whether a job takes from any rate limit or lock. */
export function isLimited(task: Task, envelope: Envelope): boolean {
  return locksOf(task, envelope).length > 0 || ratesOf(task, envelope).length > 0;
}

/** Whether a pass is for all that a job takes from: what the job is may have changed since it was asked for. */
export function isPassFor(pass: Pass | undefined, task: Task, envelope: Envelope): boolean {
  const asked = new Set([...(pass?.locks ?? []), ...(pass?.elsewhere ?? [])].map(({ name }) => name));
  const granted = new Set((pass?.grants ?? []).map(({ limit }) => limit.name));
  const locks = locksOf(task, envelope).every(({ name }) => asked.has(name));
  return locks && ratesOf(task, envelope).every(({ name }) => granted.has(name));
}

/** A job on its way through its locks and limits. */
interface Candidate {
  readonly found: Found;
  /** What it is now, which its message may not know. */
  readonly envelope: Envelope;
  readonly locks: readonly Lock[];
  readonly rates: readonly RateLimit[];
  readonly held: Lock[];
  readonly elsewhere: Lock[];
  readonly grants: Grant[];
  obstacle: Obstacle | undefined;
}

/** Asks for jobs that could be claimed, one call a lock or limit. `token` is the invocation's. Never rejects. */
export async function admit(rt: Runtime, found: readonly Found[], token: string): Promise<Admission> {
  const askedAt = rt.clock.now();
  const candidates = found.flatMap((each) => candidateOf(rt, each));
  await inStages(
    candidates,
    ({ locks }) => locks,
    (lock, those) => askLock(rt, lock, those, token),
  );
  const lines = laterLines(candidates);
  if (lines.size > 0) rt.waitUntil(leaveLines(rt, lines));
  await inStages(
    candidates,
    ({ rates }) => rates,
    (limit, those) => askRate(rt, limit, those),
  );
  const passes = new Map<string, Pass>();
  const unused = new Map<string, Pass>();
  const obstacles = new Map<Found, Obstacle>();
  for (const { found: each, held: locks, elsewhere, grants, obstacle } of candidates) {
    const pass = { token, askedAt, locks, elsewhere, grants };
    (obstacle === undefined ? passes : unused).set(each.delivery.envelope.id, pass);
    if (obstacle !== undefined) obstacles.set(each, obstacle);
  }
  await giveBack(rt, unused);
  return { passes, obstacles };
}

function candidateOf(rt: Runtime, found: Found): readonly Candidate[] {
  const envelope = found.row.revision ?? found.delivery.envelope;
  const task = rt.registry.find(envelope.task);
  if (task === undefined) return [];
  const asked = { locks: locksOf(task, envelope), rates: ratesOf(task, envelope) };
  return [{ found, envelope, ...asked, held: [], elsewhere: [], grants: [], obstacle: undefined }];
}

// First the first of each job, then the second of those that go on; of one name all jobs at once.
async function inStages<T extends { readonly name: string }>(
  candidates: readonly Candidate[],
  wanted: (candidate: Candidate) => readonly T[],
  ask: (of: T, those: readonly Candidate[]) => Promise<void>,
): Promise<void> {
  const stages = Math.max(0, ...candidates.map((each) => wanted(each).length));
  for (let stage = 0; stage < stages; stage += 1) {
    const going = candidates.filter((each) => each.obstacle === undefined && wanted(each)[stage] !== undefined);
    const groups = Map.groupBy(going, (each) => wanted(each)[stage]?.name);
    await Promise.all(
      [...groups.values()].map(async (those) => {
        const [first] = those;
        const of = first === undefined ? undefined : wanted(first)[stage];
        if (of !== undefined) await ask(of, those);
      }),
    );
  }
}

async function askLock(rt: Runtime, lock: Lock, those: readonly Candidate[], token: string): Promise<void> {
  const asks = those.map(({ envelope }) => askOf(envelope));
  try {
    const { answers, wake } = await inTime(rt, rt.locks.acquire(lock.name, lock.limit, token, asks));
    const byJob = new Map(answers.map((answer) => [answer.job, answer]));
    for (const each of those) takeLease(each, lock, byJob.get(each.envelope.id));
    if (wake.length > 0) rt.waitUntil(wakeNext(rt, lock.name, wake));
  } catch (error) {
    silence(rt, those, lock.text, error);
  }
}

// Who waits for one lock may have been woken for one after it: his turn there is for others now.
function laterLines(candidates: readonly Candidate[]): ReadonlyMap<string, readonly string[]> {
  const lines = new Map<string, string[]>();
  for (const { envelope, locks, obstacle } of candidates) {
    if (obstacle?.kind !== 'lock') continue;
    const at = locks.findIndex(({ name }) => name === obstacle.lock);
    for (const { name } of locks.slice(at + 1)) lines.set(name, [...(lines.get(name) ?? []), envelope.id]);
  }
  return lines;
}

function takeLease(candidate: Candidate, lock: Lock, answer: LeaseAnswer | undefined): void {
  switch (answer?.kind) {
    case 'granted':
      candidate.held.push(lock);
      return;
    case 'elsewhere':
      candidate.elsewhere.push(lock);
      return;
    case 'wait':
    case undefined:
      candidate.obstacle = { kind: 'lock', lock: lock.name, reason: heldBy(lock, answer?.holders ?? []) };
  }
}

async function askRate(rt: Runtime, limit: RateLimit, those: readonly Candidate[]): Promise<void> {
  try {
    const near = await reserve(rt, limit, those);
    if (near.length === 0) return;
    // Messages know only whole seconds: who has less to wait waits here.
    await rt.clock.sleep(NEAR_GRANT_MS);
    for (const each of near) each.obstacle = undefined;
    await reserve(rt, limit, near);
  } catch (error) {
    silence(rt, those, limit.text, error);
  }
}

/** Returns those that have to wait only a little. */
async function reserve(rt: Runtime, limit: RateLimit, those: readonly Candidate[]): Promise<readonly Candidate[]> {
  const askedAt = rt.clock.now();
  const asks = those.map(({ found, envelope }) => ({ ...askOf(envelope), claim: found.row.claim }));
  const answers = await inTime(rt, rt.rates.reserve(limit.name, limit.rate, asks));
  const byJob = new Map(answers.map((answer) => [answer.job, answer]));
  return those.filter((each) => takeGrant(each, limit, byJob.get(each.envelope.id), askedAt));
}

// Counted from before the question: the grant is younger than that.
function takeGrant(candidate: Candidate, limit: RateLimit, answer: StartAnswer | undefined, askedAt: number): boolean {
  if (answer?.kind === 'granted') {
    candidate.grants.push({ limit, grant: answer.grant, startBy: askedAt + answer.validMs });
    return false;
  }
  const waitMs = answer?.waitMs ?? LIMIT_SILENT_MS;
  candidate.obstacle = { kind: 'until', at: askedAt + waitMs, reason: limit.text };
  return waitMs <= NEAR_GRANT_MS;
}

function silence(rt: Runtime, those: readonly Candidate[], text: string, error: unknown): void {
  logError('limit.silent', error, { jobs: those.length });
  for (const each of those) {
    each.obstacle ??= {
      kind: 'until',
      at: rt.clock.now() + LIMIT_SILENT_MS,
      reason: `${text}, which does not answer`,
    };
  }
}
