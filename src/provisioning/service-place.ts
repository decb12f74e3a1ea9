import type { Cluster } from '../postgres/cluster.ts';
import {
  searchPathOf,
  serviceRoleName,
  tenantLock,
  tenantMarker,
  type NameSettings,
} from './names.ts';
import type { PlaceContext } from './step.ts';
import type { ServicePlace } from './tenant-session.ts';

/** What has to be known of a tenant's database for a session of its service login. */
export interface ServedDatabase {
  readonly tenantId: string;
  readonly databaseName: string;
  readonly schemaName: string | null;
  readonly ownerRole: string;
}

/** The place of a tenant that exists. */
export function servicePlaceOf(
  cluster: Cluster,
  database: ServedDatabase,
  settings: Pick<NameSettings, 'extensionsSchema'>,
): ServicePlace {
  return {
    cluster,
    database: database.databaseName,
    searchPath: searchPathOf(database, settings),
    owner: database.ownerRole,
    service: serviceRoleName(database.tenantId),
    marker: null,
    lock: tenantLock(database.tenantId),
  };
}

/** The place that an operation works on. */
export function servicePlaceIn({
  cluster,
  database,
  operation,
  services: { installation, settings },
}: Pick<PlaceContext, 'cluster' | 'database' | 'operation' | 'services'>): ServicePlace {
  return {
    ...servicePlaceOf(cluster, database, settings),
    marker: tenantMarker(database.tenantId, operation.id, installation),
  };
}
