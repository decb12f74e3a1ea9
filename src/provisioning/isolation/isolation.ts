import type { StepContext } from '../step.ts';

/** What the names of a tenant database are made from. */
export interface NamePlan {
  readonly tenantId: string;
  readonly slug: string;
  readonly naming: 'TENANT_ID' | 'SLUG';
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
  /** Removes it, as far as it is the tenant's, and makes sure that it is gone. */
  drop(context: StepContext): Promise<void>;
}
