import type { TenantDatabase } from '../control/tenant-databases.ts';
import { createTenantRoles } from '../postgres/roles.ts';
import { scramVerifier } from '../postgres/scram.ts';
import { searchPathOf, serviceRoleName, tenantLock, tenantLogins, tenantMarker } from './names.ts';
import { removeRoles } from './role-removal.ts';
import { passwordOf, type PlaceContext } from './step.ts';

/** Creates a tenant's roles, or gives those that exist their settings again. */
export async function makeTenantRoles(context: PlaceContext): Promise<void> {
  const { cluster, database, operation, signal, tenant } = context;
  const { installation, settings } = context.services;
  const verifier = await (context.findings.verifier ?? scramVerifier(passwordOf(context)));
  await cluster.admin(async (client) => {
    await context.stillHeld?.();
    await createTenantRoles(
      client,
      {
        owner: database.ownerRole,
        login: database.loginRole,
        service: serviceRoleName(tenant.id),
      },
      {
        verifier,
        connectionLimit: settings.tenantConnectionLimit,
        statementTimeoutMs: settings.tenantStatementTimeoutMs,
        searchPath: searchPathOf(database, settings),
        marker: tenantMarker(tenant.id, operation.id, installation),
        lock: tenantLock(tenant.id),
      },
    );
  }, signal);
}

/** The roles of a tenant, its logins first. */
export function rolesOf(
  database: Pick<TenantDatabase, 'tenantId' | 'loginRole' | 'ownerRole'>,
): string[] {
  return [...tenantLogins(database), database.ownerRole];
}

/**
 * Drops a tenant's roles; what they own in its place has to be gone. Absent ones are fine. A role that
 * other tenants hold on to is left disarmed, for the reconciler: see `removeRoles`.
 */
export async function dropTenantRoles(context: PlaceContext): Promise<void> {
  await removeTenantRoles(context);
}

/**
 * The same.
 *
 * @returns the roles that are left
 */
export function removeTenantRoles(
  { cluster, database, signal, tenant }: PlaceContext,
  withinMs?: number,
): Promise<string[]> {
  return removeRoles({
    cluster,
    roles: rolesOf(database),
    exclusively: (work) => cluster.exclusively(tenantLock(tenant.id), work, signal),
    signal,
    ...(withinMs === undefined ? {} : { withinMs }),
  });
}
