import { createRolePair, dropRoles } from '../../postgres/roles.ts';
import { scramVerifier } from '../../postgres/scram.ts';
import { tenantLock, tenantMarker } from '../names.ts';
import { passwordOf, type Step } from '../step.ts';

/** An owner role that cannot log in, and a login role under it, for this tenant alone. */
export const createRole: Step = {
  name: 'create_role',

  async run(context) {
    const { cluster, database, operation, signal, tenant } = context;
    const { settings } = context.services;
    const verifier = await scramVerifier(passwordOf(context));
    await cluster.admin(
      (client) =>
        createRolePair(
          client,
          { owner: database.ownerRole, login: database.loginRole },
          {
            verifier,
            connectionLimit: settings.tenantConnectionLimit,
            statementTimeoutMs: settings.tenantStatementTimeoutMs,
            marker: tenantMarker(tenant.id, operation.id),
            lock: tenantLock(tenant.id),
          },
        ),
      signal,
    );
  },

  async compensate({ cluster, database, signal, tenant }) {
    await cluster.exclusively(
      tenantLock(tenant.id),
      (client) => dropRoles(client, [database.loginRole, database.ownerRole]),
      signal,
    );
  },
};
