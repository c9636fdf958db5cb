// Statements of the audit log: who did what to many jobs at once. Nothing in it is ever changed.

import { z } from 'zod';
import type { Json } from '../core/json.ts';
import type { Row, Statement } from '../core/ports.ts';
import { guard } from '../core/states.ts';
import { openJobs } from './revoke.ts';
import { json } from './rows.ts';

const ROW_VERSION = 1;

export interface Deed {
  /** UUIDv7 of `at`. */
  readonly id: string;
  /** Epoch ms. */
  readonly at: number;
  /** Owner of the key. */
  readonly actor: string;
  readonly action:
    | 'queue.paused'
    | 'queue.resumed'
    | 'queue.purged'
    | 'jobs.revoked'
    | 'schedule.created'
    | 'schedule.changed'
    | 'schedule.paused'
    | 'schedule.resumed'
    | 'schedule.deleted'
    | 'schedule.backfilled';
  readonly target: string;
  readonly detail: Readonly<Record<string, Json>>;
}

/** Belongs into the transaction that does it. */
export function recordDeed(deed: Deed): Statement {
  return record(deed, `?7`, []);
}

/** Right after the statement that does it: nothing is recorded where that changed nothing. */
export function recordDeedIfDone(deed: Deed): Statement {
  return record(deed, `?7`, [], 'changes() > 0');
}

/** A purge and how much it found, in the transaction that begins it and before its first effect. */
export function recordPurge(deed: Deed): Statement {
  const found = `(SELECT json_object('waiting', waiting, 'running', running) FROM (${openJobs('?6', '?3')}))`;
  return record(deed, `json_patch(?7, ${found})`, []);
}

/** Which of the jobs that were found a revocation is about. */
export type Reach = Readonly<Record<'waiting' | 'running', boolean>>;

/** A revocation of these jobs and how many it reaches, in the transaction that does it and before its effect. */
export function recordRevocation(deed: Deed, ids: readonly string[], { waiting, running }: Reach): Statement {
  const found = `(SELECT json_object('waiting', count(*) FILTER (WHERE ?9 AND ${guard('revoke')}),
  'running', count(*) FILTER (WHERE ?10 AND ${guard('stop')}))
  FROM jobs WHERE id IN (SELECT value FROM json_each(?8)) AND finished_at IS NULL)`;
  return record(deed, `json_patch(?7, ${found})`, [JSON.stringify(ids), Number(waiting), Number(running)]);
}

function record(
  { id, at, actor, action, target, detail }: Deed,
  said: string,
  params: Statement['params'],
  condition = 'true',
): Statement {
  return {
    name: 'audit',
    sql: `INSERT INTO audit_log (id, v, at, actor, action, target, detail)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ${said} WHERE ${condition}`,
    params: [id, ROW_VERSION, at, actor, action, target, JSON.stringify(detail), ...params],
  };
}

/** Newest first. `before`: the cursor. */
export function selectDeeds(before: string | undefined, limit: number): Statement {
  return {
    name: 'audit',
    sql: `SELECT * FROM audit_log WHERE id < coalesce(?1, '~') ORDER BY id DESC LIMIT ?2`,
    params: [before ?? null, limit],
  };
}

const deedRow = z
  .object({
    v: z.literal(ROW_VERSION),
    id: z.string(),
    at: z.number(),
    actor: z.string(),
    action: z.string(),
    target: z.string(),
    detail: json,
  })
  .readonly();

export function readDeed(row: Row): z.infer<typeof deedRow> {
  return deedRow.parse(row);
}
