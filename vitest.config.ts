import { fileURLToPath } from 'node:url';
import { configDefaults, defineConfig } from 'vitest/config';

// Vite would give the sources graphql's CommonJS build, while yoga imports the module: two classes of
// the same error, of which each side knows only its own. Node gives both the module.
const graphql = fileURLToPath(new URL('node_modules/graphql/index.mjs', import.meta.url));

export default defineConfig({
  resolve: { alias: [{ find: /^graphql$/, replacement: graphql }] },
  test: {
    include: ['test/**/*.test.ts'],
    // npm run test:browser, test:faults, test:hostile
    exclude: [...configDefaults.exclude, 'test/browser/**', 'test/faults/**', 'test/hostile/**'],
    globalSetup: 'test/global-setup.ts',
    pool: 'forks',
    // Each file has databases of its own on the one server; more workers only make them wait on it.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // What comes, comes: by default it is given up after a second, which a busy machine may take.
    expect: { poll: { timeout: 15_000 } },
    reporters: ['default'],
  },
});
