import { codeOf, errorCodes } from '../postgres/error-codes.ts';
import {
  createRolePair,
  databasesWithRightsOf,
  dropOwned,
  dropRoles,
  existingRoles,
} from '../postgres/roles.ts';
import { scramVerifier } from '../postgres/scram.ts';
import { tenantLock, tenantMarker } from './names.ts';
import { passwordOf, type PlaceContext } from './step.ts';

/** Makes a tenant's owner and login role, or gives those that are there their settings again. */
export async function makeTenantRoles(context: PlaceContext): Promise<void> {
  const { cluster, database, operation, signal, tenant } = context;
  const { installation, settings } = context.services;
  const verifier = await (context.findings.verifier ?? scramVerifier(passwordOf(context)));
  await cluster.admin(async (client) => {
    await context.stillHeld?.();
    await createRolePair(
      client,
      { owner: database.ownerRole, login: database.loginRole },
      {
        verifier,
        connectionLimit: settings.tenantConnectionLimit,
        statementTimeoutMs: settings.tenantStatementTimeoutMs,
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
