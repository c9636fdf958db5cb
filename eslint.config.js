import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

// The ports are the only way to time and chance: the simulator replays what goes through them, and nothing else.
const PORTS_ONLY = ['core', 'store', 'jobs', 'consumers', 'cron', 'routes', 'webhooks', 'tasks', 'providers'].map(
  (folder) => `src/${folder}/**/*.ts`,
);
const ambient = (object, property) => ({
  object,
  property,
  message: 'Time and chance come through the ports: rt.clock, rt.random, job.clock.',
});

export default defineConfig(
  { ignores: ['node_modules', '.wrangler', 'dist'] },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', '*.config.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-assertions': 'error',
      // Rows and parsed JSON are read by their column's or member's name, which the compiler asks for in brackets.
      '@typescript-eslint/dot-notation': 'off',
      eqeqeq: 'error',
    },
  },
  {
    files: PORTS_ONLY,
    ignores: ['src/jobs/runtime.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        ambient('Date', 'now'),
        ambient('Math', 'random'),
        ambient('crypto', 'randomUUID'),
        ambient('crypto', 'getRandomValues'),
      ],
      'no-restricted-globals': ['error', 'setTimeout', 'setInterval', 'scheduler'],
      'max-lines': ['error', { max: 250 }],
      'max-lines-per-function': ['error', { max: 60, skipComments: true, skipBlankLines: true }],
    },
  },
);
