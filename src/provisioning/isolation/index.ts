import type { IsolationKind } from '../../control/tenants.ts';
import { databaseIsolation } from './database.ts';
import type { Isolation } from './isolation.ts';

/** The kinds that exist, by name. */
export const isolationKinds: Readonly<Partial<Record<IsolationKind, Isolation>>> = {
  DATABASE: databaseIsolation,
};

/** The isolation of a recorded tenant. */
export function isolationOf(kind: IsolationKind): Isolation {
  const isolation = isolationKinds[kind];
  if (isolation === undefined) throw new Error(`no isolation of kind ${kind}`);
  return isolation;
}
