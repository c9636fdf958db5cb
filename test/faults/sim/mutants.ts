// Guards taken out of the code one at a time, in memory only. The simulator is worth what it notices: each of them has to
// turn it red.

import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MIGRATIONS, SCHEDULE_MUTANTS } from './schedule-mutants.ts';

export interface Mutant {
  readonly name: string;
  /** Below src/, or a migration. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const SRC = join(import.meta.dirname, '../../../src');

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'claim-takes-started',
    file: 'store/claims.ts',
    find: "OR (state = ${target('claim')} AND claim_token = ?2)",
    replace: "OR state = ${target('claim')}",
  },
  {
    name: 'claim-not-idempotent',
    file: 'store/claims.ts',
    find: "OR (state = ${target('claim')} AND claim_token = ?2)",
    replace: '',
  },
  {
    name: 'claim-shortens-lease',
    file: 'store/claims.ts',
    find: "max(iif(state = ${target('claim')}, lease_until, 0), ?3 + ${String(LEASE_MS)})",
    replace: '?3 + ${String(LEASE_MS)}',
  },
  {
    name: 'claim-ignores-due',
    file: 'store/claims.ts',
    find: "${guard('claim')} AND due_at <= ?3 AND",
    replace: "${guard('claim')} AND",
  },
  {
    name: 'claim-ignores-expires',
    file: 'store/claims.ts',
    find: ' AND (expires_at IS NULL OR expires_at > ?3 OR started_at IS NOT NULL)',
    replace: '',
  },
  {
    name: 'suspects-share-their-batch',
    file: 'store/claims.ts',
    find: '(lost = 0 OR ?4)',
    replace: '(true OR ?4)',
  },
  {
    name: 'no-take-over',
    file: 'core/pulse.ts',
    find: "isDue: phase === 'silent'",
    replace: 'isDue: false',
  },
  {
    name: 'trigger-comes-back-unheard',
    file: 'cron/watchdog.ts',
    find: "attempt('settle', () => settle(rt, KIND, TARGET)),",
    replace: '',
  },
  {
    name: 'finish-not-fenced',
    file: 'store/claims.ts',
    find: 'WHERE jobs.id = done.id AND jobs.claim = done.claim AND',
    replace: 'WHERE jobs.id = done.id AND',
  },
  {
    name: 'heartbeat-not-fenced',
    file: 'store/claims.ts',
    find: 'WHERE jobs.id = beat.id AND jobs.claim = beat.claim AND',
    replace: 'WHERE jobs.id = beat.id AND',
  },
  {
    name: 'heartbeat-shortens-lease',
    file: 'store/claims.ts',
    find: 'max(lease_until, ?2 + ${String(LEASE_MS)})',
    replace: '?2 + ${String(LEASE_MS)}',
  },
  {
    name: 'result-not-per-attempt',
    file: 'store/payloads.ts',
    find: 'return `result/${jobId}/${String(claim)}`;',
    replace: 'return `result/${jobId}/${String(claim > 0)}`;',
  },
  {
    name: 'result-put-after-finish',
    file: 'jobs/payloads.ts',
    find: 'await insist(rt, () => inTime(rt, rt.results.put(key, text, ttlSeconds)), giveUpAt);',
    replace:
      'void insist(rt, () => inTime(rt, rt.results.put(key, text, ttlSeconds)), giveUpAt - 900_000).catch(() => 0);',
  },
  {
    name: 'input-put-after-row',
    file: 'jobs/payloads.ts',
    find: 'await inTime(rt, rt.inputs.put(key, text, envelope.acceptedAt));',
    replace: 'void inTime(rt, rt.inputs.put(key, text, envelope.acceptedAt)).catch(() => 0);',
  },
  {
    name: 'cleared-input-comes-back',
    file: 'jobs/payloads.ts',
    find: 'if (options.sensitive === true) throw error;',
    replace: '',
  },
  {
    name: 'follower-waits-for-ever',
    file: 'jobs/group.ts',
    find: '(await Promise.race([promise, late])) ?? flush(rt, items)',
    replace: '(await Promise.race([promise, late.then(() => promise)])) ?? flush(rt, items)',
  },
  {
    name: 'lose-not-guarded',
    file: 'store/claims.ts',
    find: " AND ${guard('lose')} AND jobs.lease_until < ?2",
    replace: '',
  },
  {
    name: 'loss-not-counted',
    file: 'store/claims.ts',
    find: 'lost = jobs.lost + 1',
    replace: 'lost = jobs.lost',
  },
  {
    name: 'budget-not-counted',
    file: 'store/claims.ts',
    find: "attempt = attempt + (state <> ${target('claim')})",
    replace: 'attempt = attempt',
  },
  {
    name: 'revoke-moves-final',
    file: 'store/revoke.ts',
    find: " AND finished_at IS NULL AND ${guard('revoke')}`",
    replace: '`',
  },
  {
    name: 'revoke-request-forgotten',
    file: 'store/claims.ts',
    find: "WHEN done.state IN ('RETRY', 'PENDING') AND jobs.revoke_requested > 0 THEN ${target('stop')}",
    replace: '',
  },
  {
    name: 'requeue-not-guarded',
    file: 'store/dead-letters.ts',
    find: 'WHERE id = ?3 AND requeues = ?4)',
    replace: 'WHERE id = ?3 AND ?4 >= 0)',
  },
  {
    name: 'requeue-mark-not-guarded',
    file: 'store/dead-letters.ts',
    find: 'WHERE id = ?1 AND requeues = ?2`',
    replace: 'WHERE id = ?1 AND ?2 >= 0`',
  },
  {
    name: 'letter-not-guarded',
    file: 'store/dead-letters.ts',
    find: "WHERE jobs.claim = failure.value ->> 'claim' AND jobs.state = ${target('fail')}\n",
    replace: 'WHERE true\n',
  },
  {
    name: 'no-sweeps',
    file: 'cron/repair.ts',
    find: 'for (const [sweep, run] of Object.entries(SWEEPS)) {',
    replace: 'for (const [sweep, run] of Object.entries(SWEEPS).slice(0, 0)) {',
  },
  {
    name: 'no-sweep-of-owed',
    file: 'cron/repair.ts',
    find: '  owed: sendOwed,\n',
    replace: '',
  },
  {
    name: 'no-sweep-of-parked',
    file: 'cron/repair.ts',
    find: '  resumed: wakeResumed,\n',
    replace: '',
  },
  {
    name: 'no-sweep-of-suspects',
    file: 'cron/repair.ts',
    find: '  suspects: resendSuspects,\n',
    replace: '',
  },
  {
    name: 'no-lease-recovery',
    file: 'jobs/lapse.ts',
    find: 'if (lapsed.length === 0)',
    replace: 'if (lapsed.length >= 0)',
  },
  {
    name: 'grant-of-another-claim',
    file: 'durable/rate-window.ts',
    find: 'slot.claim === claim && ',
    replace: '',
  },
  {
    name: 'slot-free-too-soon',
    file: 'durable/rate-window.ts',
    find: 'frees_at: now + rate.periodMs }',
    replace: 'frees_at: slot.granted_at + rate.periodMs }',
  },
  {
    name: 'start-after-its-lease',
    file: 'jobs/passes.ts',
    find: 'now - pass.askedAt > LEASE_MS - 2 * HEARTBEAT_MS',
    replace: 'false',
  },
  {
    name: 'lease-freed-by-anybody',
    file: 'durable/lock-table.ts',
    find: 'DELETE FROM leases WHERE job = ? AND token = ?`, job, token)',
    replace: 'DELETE FROM leases WHERE job = ?`, job)',
  },
  {
    name: 'lease-elsewhere-not-taken-over',
    file: 'jobs/passes.ts',
    find: 'stale ? pass.locks : pass.elsewhere',
    replace: 'stale ? pass.locks : []',
  },
  {
    name: 'admitted-without-the-limit',
    file: 'jobs/execute.ts',
    find: 'return task !== undefined && isLimited(task, envelope);',
    replace: 'return false;',
  },
  {
    name: 'silent-database-accepted',
    file: 'jobs/flush.ts',
    find: "taken: row === 'created' || row === 'exists' || sendings.get(id) === 'sent',",
    replace: 'taken: true,',
  },
  {
    name: 'missing-row-acked',
    file: 'jobs/put-back.ts',
    find: 'now - envelope.acceptedAt <= ENVELOPE_LIFE_MS',
    replace: 'now < envelope.acceptedAt',
  },
  {
    name: 'replayed-key-makes-new-job',
    file: 'jobs/enqueue.ts',
    find: 'toEnvelope(request, { ...from, id: claiming.id, now })',
    replace: 'toEnvelope(request, { ...from, id: newId(now, rt.random.bytes(9)), now })',
  },
  {
    name: 'replayed-key-not-committed',
    file: 'jobs/enqueue.ts',
    find: 'return old ? accepted(rt, envelope, true)',
    replace: 'return old || true ? accepted(rt, envelope, true)',
  },
  ...SCHEDULE_MUTANTS,
];

let migration: Mutant | undefined;

/** The text of a migration, without the guard that a mutant of it has taken out. */
export function migrationOf(file: string, text: string): string {
  return migration?.file === `${MIGRATIONS}${file}` ? withoutGuard(migration, text) : text;
}

/** Loads src/ with one guard taken out. Call it before anything of src/ is imported. */
export function installMutant(name: string): void {
  const mutant = MUTANTS.find((each) => each.name === name);
  if (mutant === undefined) throw new Error(`There is no mutant ${name}.`);
  if (mutant.file.startsWith(MIGRATIONS)) {
    migration = mutant;
    return;
  }
  const mutated = pathToFileURL(join(SRC, mutant.file)).href;
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context);
      if (url !== mutated) return loaded;
      const { source } = loaded;
      const text = typeof source === 'string' ? source : new TextDecoder().decode(source);
      return { ...loaded, source: withoutGuard(mutant, text) };
    },
  });
}

/** Throws unless the guard is there exactly once: a mutant that mutates nothing proves nothing. */
export function withoutGuard({ name, file, find, replace }: Mutant, text: string): string {
  const found = text.split(find).length - 1;
  if (found !== 1) throw new Error(`Mutant ${name}: src/${file} has its guard ${String(found)} times.`);
  return text.replace(find, () => replace);
}
