import { defineConfig } from 'vitest/config';

export default defineConfig({
  // What it counted is what it is for: it is shown whatever the verdict.
  test: { include: ['test/kill/**/*.test.ts'], disableConsoleIntercept: true, hookTimeout: 60_000 },
});
