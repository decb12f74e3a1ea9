import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** Files that may read the environment: the one reader of settings, and what runs outside the product. */
const readersOfTheEnvironment = [
  'src/config.ts',
  'knexfile.ts',
  'test/**',
  'bench/**',
  'vitest*.config.ts',
];

const environmentMessage =
  'Only src/config.ts reads the environment; take the value as an argument.';

/** Every door to the environment: the property, its import, and the way around both. */
const environment = {
  'no-restricted-properties': [
    'error',
    { object: 'process', property: 'env', message: environmentMessage },
    { object: 'process', property: 'loadEnvFile', message: environmentMessage },
    { object: 'globalThis', property: 'process', message: environmentMessage },
  ],
  'no-restricted-imports': [
    'error',
    { name: 'node:process', importNames: ['env', 'loadEnvFile'], message: environmentMessage },
    { name: 'process', message: "Write 'node:process'." },
  ],
};

export default defineConfig(
  globalIgnores(['.data/', 'bench/results/', 'coverage/']),
  {
    linterOptions: {
      reportUnusedDisableDirectives: 'error',
      reportUnusedInlineConfigs: 'error',
    },
  },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-implicit-coercion': 'error',
      'object-shorthand': 'error',
      'prefer-template': 'error',
    },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/consistent-type-exports': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      // `$1`, ports, counts and percentages: numbers in templates are what templates are for.
      // The rest is said again because options replace the preset's, and the defaults are lax.
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        {
          allowNumber: true,
          allowAny: false,
          allowBoolean: false,
          allowNever: false,
          allowNullish: false,
          allowRegExp: false,
        },
      ],
      // `() => pool.end()` as a callback is plainer than a block with one statement.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `while (true)` is how a worker waits; anything else that is always true is a mistake.
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      // A leading underscore says 'the signature demands it, this one ignores it'.
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true },
      ],
      // One implementation of a promised interface may have nothing to wait for; `async` still turns
      // its throws into rejections.
      '@typescript-eslint/require-await': 'off',
      // `noop` listeners (pg wants an 'error' listener that stays) are deliberate.
      '@typescript-eslint/no-empty-function': 'off',
    },
  },
  { files: ['**/*.cjs'], languageOptions: { sourceType: 'commonjs' } },
  { files: ['**/*.{ts,js,cjs}'], ignores: readersOfTheEnvironment, rules: environment },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/main.ts', 'src/cli/**'],
    rules: { 'no-console': 'error' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      // A test that indexes past the end fails anyway, and says where.
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    // What a Knex query answers is asserted where it is written: the rule takes the assertion for a
    // type argument that could be left out, and leaving it out makes the rows `any`.
    files: ['src/control/**'],
    rules: { '@typescript-eslint/no-unnecessary-type-assertion': 'off' },
  },
);
