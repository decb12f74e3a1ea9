import { contractA } from './contract-a.ts';
import { contractB } from './contract-b.ts';
import { contractD } from './contract-d.ts';
import { codeForm } from './errors.ts';
import { operationsDialect } from './operations.ts';
import type { Dialect } from './route.ts';
import type { ErrorForm } from './errors.ts';

/** The contracts that are served. */
export const dialects: readonly Dialect[] = [contractA, contractB, contractD, operationsDialect];

/** The error form for a path that leads nowhere: that of the contract it looks like. */
export function errorFormFor(path: string): ErrorForm {
  const dialect = dialects.find(({ prefix }) => path === prefix || path.startsWith(`${prefix}/`));
  return dialect?.errors ?? codeForm;
}
