import { configDefaults, defineConfig } from 'vitest/config';
import everywhere from './vitest.config.ts';

/** The tests that need a browser: everything else as for the others. */
export default defineConfig({
  ...everywhere,
  test: {
    ...everywhere.test,
    include: ['test/browser/**/*.test.ts'],
    exclude: configDefaults.exclude,
  },
});
