import type pg from 'pg';
import type { TenantDatabase } from '../control/tenant-databases.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { reportAccess, type AccessReport } from '../postgres/access.ts';
import type { AheadOptions, ConnectionAhead } from '../postgres/connection-ahead.ts';
import { passwordOf, type PlaceContext } from './step.ts';

type LoginContext = Pick<PlaceContext, 'cluster' | 'operation' | 'secrets'> & {
  readonly database: Pick<TenantDatabase, 'databaseName' | 'loginRole'>;
};

/** The connection string to be stored. */
export function connectionStringOf(context: LoginContext): string {
  const { cluster, database } = context;
  return cluster.urlFor(database.databaseName, {
    user: database.loginRole,
    password: passwordOf(context),
  });
}

/** How to connect with the tenant's own credentials, by the very string to be stored. */
export function tenantLoginOptions(context: LoginContext): pg.ClientConfig {
  return connectionOptions(connectionStringOf(context), {
    applicationName: 'tenantry verification',
    statementTimeoutMs: 30_000,
  });
}

/**
 * Begins to log in as the tenant, where a connection is free for it (null: none is): a first login
 * takes longer than most of what is left to be done before it is needed. To be discarded unused.
 */
export function logInAhead(
  context: LoginContext,
  options?: Omit<AheadOptions, 'onEnd'>,
): ConnectionAhead | null {
  return context.cluster.connectAhead(tenantLoginOptions(context), options);
}

/** What to ask as the connected tenant: what its credentials reach. */
export async function accessQuestion({
  cluster,
  database,
  findings,
  services,
}: Pick<PlaceContext, 'cluster' | 'database' | 'findings' | 'services'>): Promise<
  (client: pg.ClientBase) => Promise<AccessReport>
> {
  const { requiredTenantTables } = services.settings;
  const closed = await services.watch.closedDatabases(cluster);
  const databases = await services.neighbours.databases(cluster, closed);
  const schemas =
    database.isolation === 'SCHEMA'
      ? await services.neighbours.schemas(cluster, database.databaseName)
      : [];
  // A standby's role was asked about when it was made, and nothing has changed it since.
  const role = findings.prepared !== true;
  return (client) =>
    reportAccess(client, { requiredTables: requiredTenantTables, databases, role, schemas });
}
