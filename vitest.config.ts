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
                DEBUG_TASKS: '1',
              },
            },
          }),
        ],
        test: {
          name: 'worker',
          include: ['test/{jobs,store,durable,consumers,cron,routes,webhooks,tasks,faults}/**/*.test.ts'],
          exclude: ['test/faults/sim/**'],
          setupFiles: ['test/worker/migrate.ts'],
        },
      },
      {
        test: {
          name: 'sim',
          include: ['test/faults/sim/**/*.test.ts'],
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
