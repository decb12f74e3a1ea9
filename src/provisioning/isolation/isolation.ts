import type { Standby } from '../../control/standbys.ts';
import type { TenantDatabase } from '../../control/tenant-databases.ts';
import type { Cluster } from '../../postgres/cluster.ts';
import type { NameSettings } from '../names.ts';
import type { PlaceContext } from '../step.ts';

/** What the names of a tenant database are made from. */
export interface NamePlan {
  readonly tenantId: string;
  readonly slug: string;
  readonly naming: 'TENANT_ID' | 'SLUG';
  /** The one that the caller chose. */
  readonly schemaName: string | undefined;
  readonly settings: NameSettings;
}

/** What a tenant's credentials have to come to in its database, and what they may do there. */
export interface Reach {
  /** The schema that is searched first. */
  readonly schema: string;
  /** Whether the tenant may make schemas of its own. */
  readonly createSchemas: boolean;
}

/** The names of a tenant's place. */
export type PlaceNames = Pick<TenantDatabase, 'databaseName' | 'schemaName'>;

/** How tenants of one kind are kept apart. Every method may run twice. */
export interface Isolation {
  /** The step that clients see for `create`. */
  readonly createStep: string;
  /** The final names, recorded before anything of these names exists. */
  names(plan: NamePlan): PlaceNames;
  /** The names that a place has while it waits for a tenant of this id. */
  standbyNames(plan: Pick<NamePlan, 'tenantId' | 'settings'>): PlaceNames;
  /**
   * Makes that the login of a claimed standby finds its place under its final name. Before anything is
   * recorded of the tenant, so nothing that the next one who claims it would mind. Null: the login has
   * to wait for `create`.
   */
  readyLogin(
    cluster: Cluster,
    standby: Standby,
    names: PlaceNames,
    settings: NameSettings,
  ): Promise<unknown> | null;
  /** Makes the place where the tenant's tables live, closed to everybody else. */
  create(context: PlaceContext): Promise<void>;
  /** Brings it to the newest tenant migration. */
  migrate(context: PlaceContext): Promise<void>;
  /** What verification expects of the tenant's credentials. */
  reach(database: TenantDatabase): Reach;
  /** Removes it, as far as it is the tenant's, and makes sure that it is gone. */
  drop(context: PlaceContext): Promise<void>;
  /** Bytes on disk; null when it is not there. */
  sizeBytes(cluster: Cluster, database: TenantDatabase): Promise<number | null>;
}
