import { configDefaults, defineConfig } from 'vitest/config';
import everywhere from './vitest.config.ts';

/** What hostile tenants do, most of which is waiting for them: more files at once than elsewhere. */
export default defineConfig({
  ...everywhere,
  test: {
    ...everywhere.test,
    include: ['test/hostile/**/*.test.ts'],
    exclude: configDefaults.exclude,
    maxWorkers: 4,
  },
});
