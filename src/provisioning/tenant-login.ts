import type pg from 'pg';
import type { TenantDatabase } from '../control/tenant-databases.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { ownPlace } from '../postgres/pinned-settings.ts';
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
    place: ownPlace,
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
