import type { IsolationKind } from '../../src/control/tenants.ts';

/** A kind of isolation, as the suites that hold for all of them need it. */
export interface IsolationCase {
  readonly isolation: IsolationKind;
  /** Input that names the tenant's place after its slug. */
  readonly named: object;
  /** That name: of a database, or of a schema in the shared one. */
  readonly placeOf: (slug: string) => string;
  /** The step that makes it. */
  readonly createStep: string;
}

export const isolations: readonly IsolationCase[] = [
  {
    isolation: 'DATABASE',
    named: { isolation: 'DATABASE', databaseNaming: 'SLUG' },
    placeOf: (slug) => `dbtools_tenant_${slug}`,
    createStep: 'create_database',
  },
  {
    isolation: 'SCHEMA',
    named: { isolation: 'SCHEMA' },
    placeOf: (slug) => `tenant_${slug.replaceAll('-', '_')}`,
    createStep: 'create_schema',
  },
];
