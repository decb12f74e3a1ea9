import type { IsolationKind } from '../../control/tenants.ts';
import { databaseIsolation } from './database.ts';
import type { Isolation } from './isolation.ts';
import { schemaIsolation } from './schema.ts';

/** The kinds that exist, by name. */
export const isolationKinds: Readonly<Record<IsolationKind, Isolation>> = {
  DATABASE: databaseIsolation,
  SCHEMA: schemaIsolation,
};

/** The isolation of a tenant. */
export function isolationOf(kind: IsolationKind): Isolation {
  return isolationKinds[kind];
}
