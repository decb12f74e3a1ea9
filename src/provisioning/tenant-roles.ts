import { codeOf, errorCodes } from '../postgres/error-codes.ts';
import {
  createTenantRoles,
  databasesWithRightsOf,
  dropOwned,
  dropRoles,
  existingRoles,
} from '../postgres/roles.ts';
import { scramVerifier } from '../postgres/scram.ts';
import { searchPathOf, serviceRoleName, tenantLock, tenantMarker } from './names.ts';
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

/**
 * Drops a tenant's roles; what they own has to be gone. Absent ones are fine. Other tenants can see their
 * names, and give them rights on what is their own: those are taken away.
 */
export async function dropTenantRoles(context: PlaceContext): Promise<void> {
  const { cluster, database, signal, tenant } = context;
  const roles = [database.loginRole, database.ownerRole];
  const drop = (): Promise<void> =>
    cluster.exclusively(tenantLock(tenant.id), (client) => dropRoles(client, roles), signal);
  try {
    await drop();
  } catch (error) {
    if (codeOf(error) !== errorCodes.dependentObjects) throw error;
    await takeRightsElsewhere(context, roles);
    await drop();
  }
}

async function takeRightsElsewhere(
  { cluster, signal }: PlaceContext,
  roles: readonly string[],
): Promise<void> {
  const databases = await cluster.admin((client) => databasesWithRightsOf(client, roles), signal);
  for (const name of databases) {
    await cluster.inDatabase(
      name,
      async (client) => {
        for (const role of await existingRoles(client, roles)) await dropOwned(client, role);
      },
      signal,
    );
  }
}
