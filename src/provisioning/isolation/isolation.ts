import type { TenantDatabase } from '../../control/tenant-databases.ts';
import type { Cluster } from '../../postgres/cluster.ts';
import type { StepContext } from '../step.ts';

/** What differs between installations in the names of tenant databases. */
export interface NameSettings {
  /** The database in each cluster that holds the tenants of SCHEMA isolation. */
  readonly sharedDatabase: string;
  /** In front of the slug in generated names of schemas. */
  readonly schemaPrefix: string;
}

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

/** How tenants of one kind are kept apart. Every method may run twice. */
export interface Isolation {
  /** The step that clients see for `create`. */
  readonly createStep: string;
  /** The final names, recorded before anything of these names exists. */
  names(plan: NamePlan): { readonly databaseName: string; readonly schemaName: string | null };
  /** Makes the place where the tenant's tables live, closed to everybody else. */
  create(context: StepContext): Promise<void>;
  /** Brings it to the newest tenant migration. */
  migrate(context: StepContext): Promise<void>;
  /** What verification expects of the tenant's credentials. */
  reach(database: TenantDatabase): Reach;
  /** Removes it, as far as it is the tenant's, and makes sure that it is gone. */
  drop(context: StepContext): Promise<void>;
  /** Bytes on disk; null when it is not there. */
  sizeBytes(cluster: Cluster, database: TenantDatabase): Promise<number | null>;
}
