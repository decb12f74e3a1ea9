import { batchesDialect } from './batches.ts';
import { contractA } from './contract-a.ts';
import { contractB } from './contract-b.ts';
import { contractC } from './contract-c.ts';
import { contractD } from './contract-d.ts';
import { codeForm } from './errors.ts';
import { operationsDialect } from './operations.ts';
import type { Dialect } from './route.ts';
import type { ErrorForm } from './errors.ts';

/** The contracts that are served. */
export const dialects: readonly Dialect[] = [
  contractA,
  contractC, // asked first whether a body is its own
  contractB,
  contractD,
  operationsDialect,
  batchesDialect,
];

/** The error form for a path that leads nowhere: that of the contract it looks like. */
export function errorFormFor(path: string): ErrorForm {
  // A path that C and B share gets B's.
  const dialect = dialects.findLast(
    ({ prefix }) => path === prefix || path.startsWith(`${prefix}/`),
  );
  return dialect?.errors ?? codeForm;
}
