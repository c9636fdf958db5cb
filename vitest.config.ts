import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-pool-workers';
import { defineConfig } from 'vitest/config';

const migrations = await readD1Migrations('migrations');

export default defineConfig({
  test: {
    silent: 'passed-only',
    projects: [
      {
        test: {
          name: 'core',
          include: ['test/core/**/*.test.ts'],
          environment: 'node',
          setupFiles: ['test/core/seed.ts'],
        },
      },
      {
        plugins: [
          cloudflareTest({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                MIGRATIONS: migrations,
                ADMIN_API_KEY: 'test-admin-key',
                GITHUB_WEBHOOK_SECRET: 'test-github-secret',
                GITHUB_WEBHOOK_SECRET_PREVIOUS: 'test-github-secret-before',
                MAILGUN_SIGNING_KEY: 'test-mailgun-key',
                MAILGUN_SIGNING_KEY_PREVIOUS: 'test-mailgun-key-before',
                SLACK_SIGNING_SECRET: 'test-slack-secret',
                SLACK_SIGNING_SECRET_PREVIOUS: 'test-slack-secret-before',
                OPENPHONE_SIGNING_KEY: 'dGVzdC1vcGVucGhvbmUta2V5AP8=',
                OPENPHONE_SIGNING_KEY_PREVIOUS: 'whsec_dGVzdC1vcGVucGhvbmUta2V5LWJlZm9yZQ==',
                // None, whatever `.dev.vars` has: what tests enqueue over HTTP calls nobody.
                CALLBACK_SIGNING_SECRET: '',
                DEBUG_TASKS: '1',
              },
            },
          }),
        ],
        test: {
          name: 'worker',
          include: ['test/{jobs,store,durable,consumers,cron,routes,webhooks,tasks,providers,faults}/**/*.test.ts'],
          exclude: ['test/faults/sim/**', 'test/faults/{schedules,nights}.test.ts'],
          setupFiles: ['test/worker/migrate.ts'],
          globalSetup: ['test/worker/outside.ts'],
        },
      },
      {
        test: {
          name: 'sim',
          include: ['test/faults/sim/**/*.test.ts', 'test/faults/{schedules,nights}.test.ts'],
          environment: 'node',
        },
      },
      {
        test: {
          name: 'flows',
          include: ['test/flows/**/*.test.ts'],
          environment: 'node',
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
