/**
 * `npm run test:faults`: the short run. `-- --full`: every fault in every step, `-- --minutes 10`: random
 * ones for so long, `-- --seed 7`: the choices of an earlier run. What else is given goes to vitest.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values, tokens } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    minutes: { type: 'string' },
    seed: { type: 'string' },
  },
  strict: false,
  tokens: true,
});
const known = new Set(['full', 'minutes', 'seed']);
const further = tokens.flatMap((token) => {
  if (token.kind === 'positional') return [token.value];
  if (token.kind !== 'option' || known.has(token.name)) return [];
  return [token.value === undefined ? token.rawName : `${token.rawName}=${token.value}`];
});
const { status } = spawnSync('vitest', ['run', '--config', 'vitest.faults.config.ts', ...further], {
  stdio: 'inherit',
  env: {
    ...process.env,
    ...(values.full === true ? { FAULTS: 'full' } : {}),
    ...(typeof values.minutes === 'string' ? { FAULT_MINUTES: values.minutes } : {}),
    ...(typeof values.seed === 'string' ? { FAULT_SEED: values.seed } : {}),
  },
});
process.exitCode = status ?? 1;
