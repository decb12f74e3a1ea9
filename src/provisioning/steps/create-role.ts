import { createRolePair, dropRoles } from '../../postgres/roles.ts';
import { scramVerifier } from '../../postgres/scram.ts';
import { tenantMarker } from '../names.ts';
import type { Step } from '../step.ts';

/** An owner role that cannot log in, and a login role under it, for this tenant alone. */
export const createRole: Step = {
  name: 'create_role',

  async run({ cluster, database, operation, secrets, services: { settings }, signal, tenant }) {
    const verifier = await scramVerifier(secrets.password);
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
          },
        ),
      signal,
    );
  },

  async compensate({ cluster, database, signal }) {
    await cluster.admin(
      (client) => dropRoles(client, [database.loginRole, database.ownerRole]),
      signal,
    );
  },
};
