import type { Knex } from 'knex';
import type { IdempotencyKey } from '../control/idempotency.ts';
import type { Operation } from '../control/operations.ts';
import type { TenantDatabase } from '../control/tenant-databases.ts';
import type { Tenant } from '../control/tenants.ts';
import type { KeyRing } from '../crypto/envelope.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { ConnectionAhead } from '../postgres/connection-ahead.ts';
import type { CreateTenantCommand } from './commands.ts';
import type { NameSettings } from './names.ts';
import type { ClusterRoom } from './placement.ts';
import type { StandbyClaims } from './standby-claims.ts';
import type { Failpoints, OperationSecrets, RunFindings } from './step.ts';

export interface ReserveServices {
  readonly control: Knex;
  readonly keyRing: KeyRing;
  readonly queue: OperationQueue;
  readonly standbys: StandbyClaims;
  readonly failpoints: Failpoints;
  readonly settings: ReserveSettings;
}

export interface ReserveSettings extends NameSettings {
  /** Deadline of one operation, seconds. */
  readonly operationTimeoutSeconds: number;
  readonly idempotencyTtlHours: number;
  /** 0: no limit. */
  readonly maxTenantsPerPartner: number;
  readonly apiKeyPrefix: string;
  readonly apiKeyLength: number;
}

/** A checked request for a tenant, with everything the transaction records. */
export interface Reservation {
  readonly command: CreateTenantCommand;
  readonly partner: string;
  readonly cluster: ClusterRoom;
  readonly actor: string;
  readonly ipAddress: string | null;
  readonly requestId: string;
  /** Whether to make an API key. */
  readonly apiKey: boolean;
  readonly idempotency: { readonly key: IdempotencyKey; readonly payloadHash: Buffer } | null;
}

export interface Reserved {
  readonly tenant: Tenant;
  readonly database: TenantDatabase;
  readonly operation: Operation;
  readonly secrets: OperationSecrets;
  /** Without effect until the tenant is active. */
  readonly apiKey: string | null;
  /** What a claimed standby brings along. */
  readonly findings: RunFindings;
  /**
   * Begins the tenant's login; answers with null where no connection is free for it, or it has to wait. Null:
   * no standby was claimed.
   */
  readonly logIn: (() => ConnectionAhead | null) | null;
}
