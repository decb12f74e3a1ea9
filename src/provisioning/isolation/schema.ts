import { findDatabase } from '../../postgres/databases.ts';
import { codeOf, errorCodes, PassingError } from '../../postgres/error-codes.ts';
import { dropRoles, endSessions, existingRoles, setLogin } from '../../postgres/roles.ts';
import { createSchema, dropSchema, findSchema, schemaSize } from '../../postgres/schemas.ts';
import type { TenantDatabase } from '../../control/tenant-databases.ts';
import { schemaNameFromSlug, tenantMarker, tenantMarkerPrefix } from '../names.ts';
import { StepFailure } from '../step.ts';
import { migrateSchema } from '../tenant-schema.ts';
import type { Isolation } from './isolation.ts';

/** A PostgreSQL schema for each tenant, in a database of the cluster that they share. */
export const schemaIsolation: Isolation = {
  createStep: 'create_schema',

  names({ schemaName, slug, settings }) {
    return {
      databaseName: settings.sharedDatabase,
      schemaName: schemaName ?? schemaNameFromSlug(settings.schemaPrefix, slug),
    };
  },

  async create(context) {
    const { cluster, database, operation, services, signal, tenant } = context;
    const name = schemaNameOf(database);
    const shared = await services.sharedDatabases.current(cluster, database.databaseName);
    if (shared === null) {
      throw new StepFailure(
        'the cluster has a database of the name in SHARED_TENANT_DATABASE that this control plane did not make; an operator has to choose another name',
      );
    }
    await cluster.inDatabase(
      shared.name,
      async (client) => {
        const found = await findSchema(client, name);
        if (found?.marker?.startsWith(tenantMarkerPrefix(tenant.id)) === true) return;
        if (found !== null) {
          throw new StepFailure(
            'a schema of this name exists in the shared database and is not ours',
          );
        }
        try {
          await createSchema(client, {
            name,
            database: shared,
            owner: database.ownerRole,
            login: database.loginRole,
            marker: tenantMarker(tenant.id, operation.id),
          });
        } catch (error) {
          if (codeOf(error) !== errorCodes.duplicateSchema) throw error;
          throw new PassingError('the schema was made meanwhile', { cause: error });
        }
      },
      signal,
    );
  },

  async migrate({ cluster, database, findings, operation, services, signal, tenant }) {
    if (findings.migrationVersion !== undefined) return;
    await migrateSchema(cluster, services.tenantMigrations, {
      database: database.databaseName,
      schema: schemaNameOf(database),
      role: database.ownerRole,
      marker: tenantMarker(tenant.id, operation.id),
      signal,
    });
    findings.migrationVersion = services.tenantMigrations.version;
  },

  reach(database) {
    return { schema: schemaNameOf(database), createSchemas: false };
  },

  async drop(context) {
    const { cluster, database, operation, services, signal, tenant } = context;
    const facts = await cluster.admin(
      (client) => findDatabase(client, database.databaseName),
      signal,
    );
    if (facts === null) return; // never made: nothing can be in it
    const shared = await services.sharedDatabases.current(cluster, database.databaseName);
    if (shared === null) return; // not ours: nothing of this tenant was made in it either
    const roles = [database.loginRole, database.ownerRole];
    await cluster.inDatabase(
      shared.name,
      async (client) => {
        const existing = await existingRoles(client, roles);
        if (existing.has(database.loginRole)) {
          await setLogin(client, database.loginRole, false);
          await endSessions(client, database.loginRole);
        }
        const place = {
          name: schemaNameOf(database),
          database: shared,
          owner: database.ownerRole,
          marker: tenantMarker(tenant.id, operation.id),
          // Under a name that was chosen, only what carries our marker is ours to drop.
          markerPrefix: tenantMarkerPrefix(tenant.id),
        };
        await dropSchema(client, place, existing.has(database.ownerRole));
        // Here, since what they were given in this database keeps them from being dropped elsewhere.
        await dropRoles(client, roles);
      },
      signal,
    );
  },

  sizeBytes(cluster, database) {
    return cluster.inDatabase(database.databaseName, (client) =>
      schemaSize(client, schemaNameOf(database)),
    );
  },
};

function schemaNameOf({ schemaName, tenantId }: TenantDatabase): string {
  if (schemaName === null) throw new Error(`tenant ${tenantId} has no schema name`);
  return schemaName;
}
