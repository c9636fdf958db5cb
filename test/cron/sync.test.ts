import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { SCHEDULES } from '../../src/cron/schedules.ts';
import type { CodeSchedule } from '../../src/jobs/schedule.ts';
import { fireSchedules } from '../../src/cron/fire.ts';
import { syncSchedules } from '../../src/cron/sync.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { readDefinition } from '../../src/jobs/schedule.ts';
import { defineTask, type Task } from '../../src/jobs/task.ts';
import { resolveQueue } from '../../src/queues.ts';
import { Bench, emptyDatabase, FastClock, outage, START } from '../worker/bench.ts';
import { ask, askJson } from '../worker/client.ts';

beforeEach(emptyDatabase);

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

function taskOf(name: string): Task {
  return defineTask({ name, queue: 'default', input: z.looseObject({}), run: () => null });
}

const clean = taskOf('test.clean');
const LINE: CodeSchedule = { name: 'clean', task: 'test.clean', every: '10m' };

function benchOf(now = START, tasks: readonly Task[] = [clean]): Bench {
  return new Bench({ clock: new FastClock(now), tasks });
}

/** A deployment that has these lines, as its first tick begins. */
async function deploy(now: number, lines: readonly CodeSchedule[], bench = benchOf(now)): Promise<Bench> {
  await syncSchedules(bench.rt, lines);
  return bench;
}

async function rows(sql: string): Promise<Record<string, unknown>[]> {
  return (await env.DB.prepare(sql).all()).results;
}

async function stored(): Promise<Record<string, unknown>[]> {
  return rows(`SELECT name, origin, every_ms, cron, input, decided_until, next_at, paused_at FROM schedules`);
}

async function openAlerts(bench: Bench): Promise<unknown[]> {
  const reply = await ask(bench.rt, '/api/v1/alerts?state=open');
  const { items } = await reply.json<{ items: { kind: string; target: string; message: string }[] }>();
  return items.map(({ kind, target, message }) => [kind, target, message]);
}

describe('the first tick of a deployment', () => {
  test('brings new lines into use, due from then on', async () => {
    await deploy(START + SECOND, [LINE, { name: 'test.clean', cron: '*/5 * * * *', input: { all: true } }]);
    expect(await stored()).toEqual([
      {
        name: 'clean',
        origin: 'code',
        every_ms: 10 * MINUTE,
        cron: null,
        input: '{}',
        decided_until: START + SECOND,
        next_at: START + 10 * MINUTE,
        paused_at: null,
      },
      {
        name: 'test.clean',
        origin: 'code',
        every_ms: null,
        cron: '*/5 * * * *',
        input: '{"all":true}',
        decided_until: START + SECOND,
        next_at: START + 5 * MINUTE,
        paused_at: null,
      },
    ]);
  });

  test('leaves unchanged lines alone: what a gap between deployments missed is made good', async () => {
    const before = await deploy(START, [LINE]);
    await fireSchedules(before.rt);
    const was = await stored();
    // Another line changes, so it is a deployment that differs.
    const after = await deploy(START + HOUR, [LINE, { ...LINE, name: 'other' }]);
    expect((await stored())[0]).toEqual(was[0]);
    await fireSchedules(after.rt);
    expect(await rows(`SELECT due_at, cause, outcome FROM firings WHERE schedule = 'clean' ORDER BY due_at`)).toEqual([
      { due_at: START + 50 * MINUTE, cause: 'catch_up', outcome: 'missed' },
      { due_at: START + HOUR, cause: 'due', outcome: 'fired' },
    ]);
  });

  test('changes a changed line, and what was planned by the old one is cancelled', async () => {
    const before = await deploy(START + 9 * MINUTE, [LINE]);
    await fireSchedules(before.rt);
    const after = await deploy(START + 9 * MINUTE + SECOND, [{ ...LINE, every: '15m', input: { all: true } }]);
    expect(await stored()).toMatchObject([{ every_ms: 15 * MINUTE, next_at: START + 15 * MINUTE }]);
    expect(await rows(`SELECT state FROM jobs`)).toEqual([{ state: 'REVOKED' }]);
    expect(await rows(`SELECT outcome, reason FROM firings`)).toEqual([
      { outcome: 'revoked', reason: 'Its schedule was changed before it started.' },
    ]);
    await fireSchedules(after.rt);
    expect(await rows(`SELECT count(*) AS n FROM jobs`)).toEqual([{ n: 1 }]);
  });

  test('a line that is given another input and keeps its times has the run that a gap missed', async () => {
    const before = await deploy(START, [LINE]);
    await fireSchedules(before.rt);
    const after = await deploy(START + 25 * MINUTE, [{ ...LINE, input: { all: true } }]);
    await fireSchedules(after.rt);
    const made = await rows(`SELECT input, options ->> '$.schedule.dueAt' AS due_at FROM jobs`);
    expect(made).toEqual([{ input: '{"all":true}', due_at: START + 20 * MINUTE }]);
  });

  test('deletes a line that is gone and cancels what it had planned; what it did stays in the history', async () => {
    const before = await deploy(START + 9 * MINUTE, [LINE]);
    await fireSchedules(before.rt);
    await deploy(START + 9 * MINUTE + SECOND, []);
    expect(await stored()).toEqual([]);
    expect(await rows(`SELECT state FROM jobs`)).toEqual([{ state: 'REVOKED' }]);
    expect(await rows(`SELECT outcome, reason FROM firings`)).toEqual([
      { outcome: 'revoked', reason: 'Its schedule was deleted before it started.' },
    ]);
  });

  test('a paused one stays paused, whatever its line says now', async () => {
    const bench = await deploy(START, [LINE]);
    await askJson(bench.rt, 'POST', '/api/v1/schedules/clean/pause');
    await deploy(START + MINUTE, [{ ...LINE, every: '5m' }]);
    expect(await stored()).toMatchObject([{ paused_at: START, every_ms: 5 * MINUTE, next_at: null }]);
    await deploy(START + 2 * MINUTE, [
      { ...LINE, every: '5m' },
      { ...LINE, name: 'other' },
    ]);
    expect(await stored()).toMatchObject([{ paused_at: START }, { name: 'other' }]);
  });

  test('without its task a line is out of use, and in use again with it, with nothing to make good', async () => {
    const bench = await deploy(START, [LINE]);
    await fireSchedules(bench.rt);
    const without = await deploy(START + 9 * MINUTE, [LINE], benchOf(START + 9 * MINUTE, []));
    expect(await stored()).toMatchObject([{ next_at: null }]);
    await fireSchedules(without.rt);
    const again = await deploy(START + HOUR + SECOND, [LINE]);
    expect(await stored()).toMatchObject([{ next_at: START + 70 * MINUTE }]);
    await fireSchedules(again.rt);
    expect(await rows(`SELECT * FROM firings`)).toEqual([]);
  });

  test('what a line without its task had planned is cancelled', async () => {
    const bench = await deploy(START + 9 * MINUTE, [LINE]);
    await fireSchedules(bench.rt);
    await deploy(START + 9 * MINUTE + SECOND, [LINE], benchOf(START + 9 * MINUTE + SECOND, []));
    expect(await rows(`SELECT outcome FROM firings`)).toEqual([{ outcome: 'revoked' }]);
  });

  test('a paused one that was out of use for a while is paused when it is back', async () => {
    const bench = await deploy(START, [LINE]);
    await askJson(bench.rt, 'POST', '/api/v1/schedules/clean/pause');
    await deploy(START + MINUTE, [LINE], benchOf(START + MINUTE, []));
    await deploy(START + 2 * MINUTE, [LINE]);
    expect(await stored()).toMatchObject([{ paused_at: START, next_at: null }]);
  });

  test('a line that needs settings is in use while all of them are there', async () => {
    const line: CodeSchedule = { ...LINE, needs: ['GITHUB_TOKEN', 'GITHUB_HOOKS'] };
    const inUse = async (at: number, settings: Record<string, string>): Promise<boolean> => {
      const bench = new Bench({
        clock: new FastClock(START + at * MINUTE),
        tasks: [clean],
        ports: ({ env: bindings }) => ({
          env: { ...bindings, GITHUB_TOKEN: '', GITHUB_HOOKS: '', ...settings },
        }),
      });
      await syncSchedules(bench.rt, [line]);
      return (await stored()).some(({ next_at: next }) => next !== null);
    };
    expect(await inUse(0, {})).toBe(false);
    expect(await inUse(1, { GITHUB_TOKEN: 't' })).toBe(false);
    expect(await inUse(2, { GITHUB_TOKEN: 't', GITHUB_HOOKS: ' ' })).toBe(false);
    expect(await inUse(3, { GITHUB_TOKEN: 't', GITHUB_HOOKS: 'repos/a/b/hooks/1' })).toBe(true);
    expect(await inUse(4, { GITHUB_HOOKS: 'repos/a/b/hooks/1' })).toBe(false);
  });

  test('looks once, and no tick after it does until the next deployment that differs', async () => {
    const bench = await deploy(START, [LINE]);
    bench.counts.clear();
    await syncSchedules(bench.rt, [LINE]);
    expect([bench.statements('schedules'), bench.rowsWritten()]).toEqual([0, 0]);
  });

  test('whose transaction fails is tried again by the next tick', async () => {
    const bench = benchOf();
    for (const when of ['before', 'after'] as const) {
      bench.db.fault = (names) => (names === 'schedule' ? { when, error: outage() } : undefined);
      await expect(syncSchedules(bench.rt, [LINE])).rejects.toThrow();
    }
    bench.db.fault = () => undefined;
    await syncSchedules(bench.rt, [LINE]);
    expect(await stored()).toMatchObject([{ name: 'clean' }]);
  });

  test('that somebody pauses a schedule under is tried again by the next tick', async () => {
    await deploy(START, [LINE, { ...LINE, name: 'other' }]);
    const changed = [{ ...LINE, every: '5m' }];
    const bench = benchOf(START + MINUTE);
    const slow = new Bench({
      clock: bench.clock,
      tasks: [clean],
      ports: ({ db }) => ({
        db: {
          run: (statement) => db.run(statement),
          batch: async (statements) => {
            await askJson(bench.rt, 'POST', '/api/v1/schedules/clean/pause');
            await askJson(bench.rt, 'POST', '/api/v1/schedules/other/pause');
            return db.batch(statements);
          },
        },
      }),
    });
    await syncSchedules(slow.rt, changed);
    await syncSchedules(bench.rt, changed);
    expect(await stored()).toMatchObject([{ name: 'clean', every_ms: 5 * MINUTE, paused_at: START + MINUTE }]);
  });

  test('of many isolates at once does everything once', async () => {
    const lines = [LINE, { ...LINE, name: 'other' }, { ...LINE, name: 'third' }];
    await Promise.all(Array.from({ length: 5 }, () => deploy(START + 9 * MINUTE, lines)));
    expect(await stored()).toMatchObject([{ name: 'clean' }, { name: 'other' }, { name: 'third' }]);
    await fireSchedules(benchOf(START + 9 * MINUTE).rt);
    const changed = [
      { ...LINE, every: '15m' },
      { ...LINE, name: 'third' },
    ];
    await Promise.all(Array.from({ length: 5 }, () => deploy(START + 9 * MINUTE + SECOND, changed)));
    expect(await stored()).toMatchObject([
      { name: 'clean', every_ms: 15 * MINUTE },
      { name: 'third', every_ms: 10 * MINUTE },
    ]);
    expect(await rows(`SELECT schedule, outcome FROM firings ORDER BY 1`)).toEqual([
      { schedule: 'clean', outcome: 'revoked' },
      { schedule: 'other', outcome: 'revoked' },
      { schedule: 'third', outcome: 'fired' },
    ]);
  });
});

describe('a line whose name a schedule of the API has', () => {
  const theirs = { name: 'clean', task: 'test.clean', every: '1h', input: { theirs: true } };
  const told = [
    'schedule_name_taken',
    'clean',
    'The schedule clean of the code is not run: one that was made by the API has its name. ' +
      'Delete that one, or rename the line in src/cron/schedules.ts.',
  ];

  test('is not run and an alert says so; that one stays as it is', async () => {
    const bench = benchOf();
    await askJson(bench.rt, 'POST', '/api/v1/schedules', theirs);
    const was = await stored();
    for (let minute = 1; minute <= 3; minute += 1) await deploy(START + minute * MINUTE, [LINE]);
    expect(await stored()).toEqual(was);
    expect(await openAlerts(bench)).toEqual([told]);
    // And a deployment without the line does not take it away.
    await deploy(START + 4 * MINUTE, []);
    expect(await stored()).toEqual(was);
    expect(await openAlerts(bench)).toEqual([]);
  });

  test('is run as soon as that one is deleted, without another deployment', async () => {
    const bench = benchOf();
    await askJson(bench.rt, 'POST', '/api/v1/schedules', theirs);
    await deploy(START + MINUTE, [LINE]);
    await ask(bench.rt, '/api/v1/schedules/clean', { method: 'DELETE' });
    await deploy(START + 2 * MINUTE, [LINE]);
    expect(await stored()).toMatchObject([{ name: 'clean', origin: 'code', input: '{}' }]);
    expect(await openAlerts(bench)).toEqual([]);
    const next = benchOf(START + 3 * MINUTE);
    await syncSchedules(next.rt, [LINE]);
    expect(next.statements('schedules')).toBe(0);
  });
});

describe('the schedules of the code', () => {
  const EVERY_2 = '*/2 * * * *';
  const EVERY_5 = '*/5 * * * *';
  const EVERY_30 = '*/30 * * * *';
  const EVERY_6_HOURS = '0 */6 * * *';
  /** Name, when, queue; and the zone where it is not UTC. */
  const TABLE: [name: string, cron: string, queue: string | undefined, zone?: string][] = [
    ['system_health_check', EVERY_2, 'monitoring-critical'],
    ['update_realtime_metrics', EVERY_2, 'analytics-realtime'],
    ['token_refresh', EVERY_5, 'priority'],
    ['sync_agent_memories', EVERY_5, 'memory'],
    ['collect_performance_metrics', EVERY_5, 'monitoring-normal'],
    ['retry_failed_emails', EVERY_5, 'email-normal'],
    ['update_dashboard_metrics', EVERY_5, 'analytics-realtime'],
    ['process_pending_orders', '*/15 * * * *', 'order-normal'],
    ['cache_health_check', EVERY_30, 'monitoring-normal'],
    ['integration_health_check', EVERY_30, 'default'],
    ['retry_failed_payments', EVERY_30, 'payment-normal'],
    ['check_completed_jobs', EVERY_30, 'default'],
    ['cleanup_replay_tokens', '20 * * * *', 'maintenance'],
    ['oauth_cleanup', '0 * * * *', 'default'],
    ['cleanup_expired_sessions', '0 * * * *', 'maintenance'],
    ['reconcile_payments', '5 * * * *', 'payment-batch'],
    ['cleanup_dead_tasks', '10 * * * *', 'maintenance'],
    ['operational_health_check', '0 * * * *', 'priority'],
    ['cleanup_token_blacklist', EVERY_6_HOURS, 'maintenance'],
    ['relationship_scoring', EVERY_6_HOURS, 'default'],
    ['process_email_bounces', EVERY_6_HOURS, 'email-normal'],
    ['send_order_reminders', EVERY_6_HOURS, 'order-normal'],
    ['backup', '15 */6 * * *', 'sync-backup'],
    ['backup_full', '0 5 * * SUN', 'sync-backup'],
    ['user_behavior_analytics', '30 */6 * * *', 'analytics-batch'],
    ['generate_report', '30 0 * * *', 'analytics-batch'],
    ['data_cleanup', '30 1 * * *', 'low-priority'],
    ['archive_old_audit_logs', '0 2 * * *', 'maintenance'],
    ['cleanup_temp_files', '0 3 * * *', 'maintenance'],
    ['system_maintenance', '30 4 * * *', 'low-priority'],
    ['queue_daily_campaigns', '30 8 * * *', 'campaigns', 'America/New_York'],
    ['deduplication', '0 4 * * SUN', 'data-pipeline'],
    ['recover_github_deliveries', '0 * * * *', undefined],
    ['reconcile_mailgun_events', '0 * * * *', undefined],
  ];

  test('are those that are asked for, at their times, in their queues and zones', () => {
    expect(SCHEDULES.map(({ name, cron, options, timezone }) => [name, cron, queueOf(options), timezone])).toEqual(
      TABLE.map(([name, cron, queue, zone]) => [name, cron, queue, zone]),
    );
    expect(SCHEDULES.find(({ name }) => name === 'operational_health_check')?.options).toMatchObject({ priority: 10 });
    expect(SCHEDULES.filter(({ name }) => name.startsWith('backup')).map(({ input }) => input)).toEqual([
      { scope: 'critical' },
      { scope: 'full' },
    ]);
    const queues = TABLE.flatMap(([, , queue]) => (queue === undefined ? [] : [resolveQueue(queue)]));
    expect(queues).not.toContain(undefined);
  });

  test.each(SCHEDULES.map((line) => [line.name, line] as const))('%s is one that may be run', (name, line) => {
    const { needs: _, ...says } = line;
    const task = line.task ?? name;
    const read = readDefinition(createRegistry([taskOf(task)]), { task, ...without(says, 'name') });
    expect(read).toMatchObject({ ok: true, value: { task, cron: line.cron, timezone: line.timezone ?? 'UTC' } });
  });

  function queueOf(options: unknown): unknown {
    return (options as { queue?: unknown } | undefined)?.queue;
  }

  function without(members: object, name: string): object {
    return Object.fromEntries(Object.entries(members).filter(([each]) => each !== name));
  }
});
