import { createRolePair, dropRoles } from '../postgres/roles.ts';
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

/** Drops a tenant's roles; what they own has to be gone. Absent ones are fine. */
export async function dropTenantRoles(context: PlaceContext): Promise<void> {
  const { cluster, database, signal, tenant } = context;
  await cluster.exclusively(
    tenantLock(tenant.id),
    (client) => dropRoles(client, [database.loginRole, database.ownerRole]),
    signal,
  );
}
