import { configDefaults, defineConfig } from 'vitest/config';
import everywhere from './vitest.config.ts';

/** What survives: processes that are killed, servers that are restarted. They start their own. */
export default defineConfig({
  ...everywhere,
  test: {
    ...everywhere.test,
    include: ['test/faults/**/*.test.ts'],
    exclude: configDefaults.exclude,
    globalSetup: 'test/faults/report.ts',
    testTimeout: 240_000,
    disableConsoleIntercept: true,
  },
});
