// The schedules of the code, one line each. A task that is not there yet, or whose settings are not, is not run: the list
// of schedules says so.

import type { CodeSchedule } from '../jobs/schedule.ts';

/** UTC where no zone is named. A run that is due while the one before it has not ended is skipped; of missed ones the last is made good. */
export const SCHEDULES: readonly CodeSchedule[] = [
  { name: 'system_health_check', cron: '*/2 * * * *', options: { queue: 'monitoring-critical' } },
  { name: 'update_realtime_metrics', cron: '*/2 * * * *', options: { queue: 'analytics-realtime' } },
  { name: 'token_refresh', cron: '*/5 * * * *', options: { queue: 'priority' } },
  { name: 'sync_agent_memories', cron: '*/5 * * * *', options: { queue: 'memory' } },
  { name: 'collect_performance_metrics', cron: '*/5 * * * *', options: { queue: 'monitoring-normal' } },
  { name: 'retry_failed_emails', cron: '*/5 * * * *', options: { queue: 'email-normal' } },
  { name: 'update_dashboard_metrics', cron: '*/5 * * * *', options: { queue: 'analytics-realtime' } },
  { name: 'process_pending_orders', cron: '*/15 * * * *', options: { queue: 'order-normal' } },
  { name: 'cache_health_check', cron: '*/30 * * * *', options: { queue: 'monitoring-normal' } },
  { name: 'integration_health_check', cron: '*/30 * * * *', options: { queue: 'default' } },
  { name: 'retry_failed_payments', cron: '*/30 * * * *', options: { queue: 'payment-normal' } },
  { name: 'check_completed_jobs', cron: '*/30 * * * *', options: { queue: 'default' } },
  { name: 'cleanup_replay_tokens', cron: '20 * * * *', options: { queue: 'maintenance' } },
  { name: 'oauth_cleanup', cron: '0 * * * *', options: { queue: 'default' } },
  { name: 'cleanup_expired_sessions', cron: '0 * * * *', options: { queue: 'maintenance' } },
  { name: 'reconcile_payments', cron: '5 * * * *', options: { queue: 'payment-batch' } },
  { name: 'cleanup_dead_tasks', cron: '10 * * * *', options: { queue: 'maintenance' } },
  { name: 'operational_health_check', cron: '0 * * * *', options: { queue: 'priority', priority: 10 } },
  { name: 'cleanup_token_blacklist', cron: '0 */6 * * *', options: { queue: 'maintenance' } },
  { name: 'relationship_scoring', cron: '0 */6 * * *', options: { queue: 'default' } },
  { name: 'process_email_bounces', cron: '0 */6 * * *', options: { queue: 'email-normal' } },
  { name: 'send_order_reminders', cron: '0 */6 * * *', options: { queue: 'order-normal' } },
  { name: 'backup', cron: '15 */6 * * *', input: { scope: 'critical' }, options: { queue: 'sync-backup' } },
  {
    name: 'backup_full',
    task: 'backup',
    cron: '0 5 * * SUN',
    input: { scope: 'full' },
    options: { queue: 'sync-backup' },
  },
  { name: 'user_behavior_analytics', cron: '30 */6 * * *', options: { queue: 'analytics-batch' } },
  { name: 'generate_report', cron: '30 0 * * *', input: { report: 'daily' }, options: { queue: 'analytics-batch' } },
  { name: 'data_cleanup', cron: '30 1 * * *', options: { queue: 'low-priority' } },
  { name: 'archive_old_audit_logs', cron: '0 2 * * *', options: { queue: 'maintenance' } },
  { name: 'cleanup_temp_files', cron: '0 3 * * *', options: { queue: 'maintenance' } },
  { name: 'system_maintenance', cron: '30 4 * * *', options: { queue: 'low-priority' } },
  { name: 'queue_daily_campaigns', cron: '30 8 * * *', timezone: 'America/New_York', options: { queue: 'campaigns' } },
  { name: 'deduplication', cron: '0 4 * * SUN', options: { queue: 'data-pipeline' } },
  { name: 'recover_github_deliveries', cron: '0 * * * *', needs: ['GITHUB_TOKEN', 'GITHUB_HOOKS'] },
  { name: 'reconcile_mailgun_events', cron: '0 * * * *', needs: ['MAILGUN_API_KEY', 'MAILGUN_DOMAINS'] },
];
