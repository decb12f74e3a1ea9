import type { Knex } from 'knex';
import type { KeyRing } from '../crypto/envelope.ts';
import type { Operation, OperationHold } from '../control/operations.ts';
import type { TenantDatabase } from '../control/tenant-databases.ts';
import type { Tenant } from '../control/tenants.ts';
import type { FailureCode } from '../errors.ts';
import type { OperationQueue } from '../jobs/operation-queue.ts';
import type { Cluster } from '../postgres/cluster.ts';
import type { ConnectionAhead } from '../postgres/connection-ahead.ts';
import type { DatabaseStrategy } from '../postgres/databases.ts';
import type { MigrationSet } from '../postgres/migrations.ts';
import type { ClusterWatch } from './cluster-watch.ts';
import type { NameSettings } from './names.ts';
import type { Neighbours } from './neighbours.ts';
import type { Precedence } from './precedence.ts';
import type { SharedDatabases } from './shared-databases.ts';
import type { Templates } from './templates.ts';
import type { TenantRights } from './tenant-rights.ts';
import type { TenantSessions } from './tenant-session.ts';

/** What was sealed into the operation when it was accepted, so that any instance can go on. */
export interface OperationSecrets {
  /** Password of the tenant's login role. */
  readonly password: string;
}

/** What is sealed into an operation is bound to this purpose and its tenant. */
export const operationSecretsPurpose = 'operation-secrets';

/**
 * Named places where a test makes an instance fail: `<step>:before`, `<step>:after`,
 * `<step>:compensate` and `<step>:compensated` are reached once for each attempt; `failpoints.ts` has
 * the others. Nothing hangs on them otherwise.
 */
export interface Failpoints {
  /** Called when an operation comes to `point`; a rejection is an error of whoever came there. */
  reach(point: string): Promise<void>;
}

/** What steps work with, the same for every operation of an instance. */
export interface StepServices {
  readonly control: Knex;
  /** Id of the control plane. */
  readonly installation: string;
  readonly clusters: ReadonlyMap<string, Cluster>;
  readonly watch: ClusterWatch;
  readonly keyRing: KeyRing;
  readonly queue: OperationQueue;
  readonly templates: Templates;
  readonly tenantSessions: TenantSessions;
  readonly sharedDatabases: SharedDatabases;
  readonly neighbours: Neighbours;
  readonly rights: TenantRights;
  readonly precedence: Precedence;
  readonly tenantMigrations: MigrationSet;
  /** Activates a tenant of a batch, in one transaction with others that are ready. */
  readonly activateTogether: (context: StepContext) => Promise<EndedOperation>;
  readonly settings: StepSettings;
  readonly failpoints: Failpoints;
}

export interface StepSettings extends NameSettings {
  readonly requiredTenantTables: readonly string[];
  readonly createDatabaseStrategy: DatabaseStrategy;
  /** Connections at once of each tenant's login role. */
  readonly tenantConnectionLimit: number;
  /** Milliseconds; 0: no limit. */
  readonly tenantStatementTimeoutMs: number;
  /** Of one statement of a tenant migration, too. */
  readonly operationTimeoutSeconds: number;
  /** Days from a soft delete to the purge. */
  readonly deletionRetentionDays: number;
}

/** What a run of the pipeline hands from step to step. A resuming run finds it out anew. */
export interface RunFindings {
  /** What the server stores for the tenant's password, on its way since before the operation. */
  verifier?: Promise<string>;
  /** It took a standby: its roles are there, and its place, which at most needs its final name. */
  prepared?: true;
  /** Newest migration of the tenant database; undefined: not known yet, null: there are none. */
  migrationVersion?: string | null;
  /** The connection string as it will be stored. */
  connectionStringEncrypted?: string;
  /** The tenant's own login, on its way while something else is done. Verification uses it up. */
  login?: ConnectionAhead;
  /** The transaction of `activate`, all but committed. */
  activation?: OpenEnd;
  /** What the ending transaction left, so that nobody has to read it again. */
  ended?: EndedOperation;
}

/** A tenant and its operation as the operation's end left them. */
export interface EndedOperation {
  readonly operation: Operation;
  readonly tenant: Tenant;
}

/** The transaction that ends operations, begun and not yet committed. */
export interface OpenEnd {
  /** Commits it with its audit rows; answers in the order of the operations. Once only. */
  commit(): Promise<EndedOperation[]>;
  /** Rolls it back; after `commit`, it does nothing. */
  abandon(): Promise<void>;
}

/** Lets go of what was begun ahead and is not needed any more: it would be in the way of an undo. */
export async function letGo(findings: RunFindings): Promise<void> {
  findings.login?.discard();
  await findings.activation?.abandon();
  delete findings.login;
  delete findings.activation;
}

/** A tenant's roles and place in the making: for a tenant, or ahead of one. */
export interface PlaceContext {
  /** Without `batchId`: made ahead of need. */
  readonly operation: { readonly id: string; readonly batchId?: string | null };
  readonly tenant: { readonly id: string };
  readonly database: TenantDatabase;
  /** Null for operations that need none. */
  readonly secrets: OperationSecrets | null;
  readonly cluster: Cluster;
  readonly services: StepServices;
  readonly findings: RunFindings;
  /**
   * Looks whether the operation was taken over, where this instance may have stalled: asked before
   * something is made, under the lock that whoever undoes it waits for. Rejects with FenceLostError.
   */
  readonly stillHeld?: () => Promise<void>;
  /** Aborts at the operation's deadline, and when the instance has to stop. */
  readonly signal: AbortSignal;
}

/** Fills the places of items of batches that end, in the transaction that ends them. */
export interface NextItems {
  /**
   * Begins others in `trx`, as many as there is room for, and waits for nobody who does so elsewhere.
   *
   * @param ending the operations that have ended when it commits
   */
  beginIn(trx: Knex.Transaction, ending: readonly string[]): Promise<BegunItems>;
}

/** Items that have begun if a transaction commits. One of both, once. */
export interface BegunItems {
  /** It has: they are worked on from now on. Never rejects. */
  start(): Promise<void>;
  /** It has not, or nobody knows: those that have begun after all are left to their leases. */
  abandon(): void;
}

/** One operation at work. */
export interface StepContext extends PlaceContext {
  readonly operation: Operation;
  readonly hold: OperationHold;
  readonly tenant: Tenant;
  /** Of an item of a batch that has its place on this instance: whoever fills it next. */
  readonly nextItems: NextItems | null;
}

/**
 * One unit of a pipeline. Both functions are idempotent: a resumed operation runs them again, and
 * recognises what already took effect.
 */
export interface Step {
  /** The name that clients see in progress events. */
  readonly name: string;
  /** Absent: done when the operation was accepted. */
  readonly run?: (context: StepContext) => Promise<void>;
  /**
   * Undoes the step, begun or done, and makes sure that it is undone. Absent: nothing to undo, or
   * undone with another step.
   */
  readonly compensate?: (context: StepContext) => Promise<void>;
}

/** What an operation runs. */
export interface Pipeline {
  /** In order. */
  readonly steps: readonly Step[];
  /**
   * Whether it is never undone once it was accepted: a step that fails is tried again for as long as it
   * takes, and the operation has no deadline. Its steps have no `compensate`.
   */
  readonly forwardOnly: boolean;
}

/** The password sealed into a create operation. */
export function passwordOf({
  operation,
  secrets,
}: Pick<PlaceContext, 'operation' | 'secrets'>): string {
  if (secrets === null) throw new Error(`operation ${operation.id} has no password`);
  return secrets.password;
}

/** A failed step whose message the caller may read. Never a host, password, connection string or SQL. */
export class StepFailure extends Error {
  override readonly name = 'StepFailure';
  readonly code = 'STEP_FAILURE';
  /** The code of the operation's error. */
  readonly failureCode: FailureCode;

  constructor(message: string, failureCode: FailureCode = 'PROVISIONING_FAILED') {
    super(message);
    this.failureCode = failureCode;
  }
}
