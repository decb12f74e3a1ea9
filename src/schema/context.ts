import type DataLoader from 'dataloader';
import type { Knex } from 'knex';
import type { Logger } from 'pino';
import type { ApiKey } from '../control/api-keys.ts';
import type { Batch, BatchItem } from '../control/batches.ts';
import type { OperationStep } from '../control/events.ts';
import type { TenantDatabase } from '../control/tenant-databases.ts';
import type { Tenant } from '../control/tenants.ts';
import type { Cluster } from '../postgres/cluster.ts';
import type { HealthChecks, TenantHealth } from '../provisioning/health.ts';
import type { Request } from '../provisioning/request.ts';
import type { ProvisioningService } from '../provisioning/service.ts';
import type { EventLog } from '../progress/event-log.ts';
import type { EventSubscriptions } from '../progress/event-subscriptions.ts';
import type { MigrationSet } from '../postgres/migrations.ts';

/** What resolvers work with, the same for every request. */
export interface Gateway {
  readonly control: Knex;
  readonly clusters: ReadonlyMap<string, Cluster>;
  readonly provisioning: ProvisioningService;
  readonly health: HealthChecks;
  readonly eventLog: EventLog;
  readonly eventSubscriptions: EventSubscriptions;
  readonly tenantMigrations: MigrationSet;
  readonly log: Logger;
}

/** Rows that many fields of one request ask for, read once and together. */
export interface Loaders {
  readonly tenants: DataLoader<string, Tenant | null>;
  readonly databases: DataLoader<string, TenantDatabase | null>;
  readonly apiKeys: DataLoader<string, readonly ApiKey[]>;
  readonly steps: DataLoader<string, readonly OperationStep[]>;
  readonly batches: DataLoader<string, Batch | null>;
  readonly batchItems: DataLoader<string, readonly BatchItem[]>;
  readonly percents: DataLoader<string, number>;
  readonly health: DataLoader<string, TenantHealth>;
}

/** The context of one execution: who asks, and what there is to work with. */
export interface Context extends Request {
  readonly gateway: Gateway;
  readonly loaders: Loaders;
  /** Aborts when the client is gone: nobody reads what a subscription would still tell. */
  readonly signal: AbortSignal;
}
