import type pg from 'pg';
import { findDatabase } from '../../postgres/databases.ts';
import { codeOf, errorCodes, PassingError } from '../../postgres/error-codes.ts';
import { disarmRoles, holdingDatabases } from '../../postgres/drop-roles.ts';
import { existingRoles, type AdminClient } from '../../postgres/roles.ts';
import {
  createSchema,
  dropSchema,
  findSchema,
  joinGroup,
  renameSchema,
  schemaSize,
  setSearchPath,
} from '../../postgres/schemas.ts';
import type { TenantDatabase } from '../../control/tenant-databases.ts';
import {
  markerPrefix,
  opaqueSchemaName,
  schemaNameFromSlug,
  searchPathOf,
  tenantMarker,
  tenantMarkerPrefix,
} from '../names.ts';
import { closeDoor, endSessions } from '../shut-out.ts';
import { StepFailure } from '../step.ts';
import { servicePlaceIn } from '../service-place.ts';
import { migratePlace } from '../tenant-migrations.ts';
import { rolesOf } from '../tenant-roles.ts';
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

  standbyNames: ({ settings, tenantId }) => ({
    databaseName: settings.sharedDatabase,
    schemaName: opaqueSchemaName(tenantId),
  }),

  readyLogin: (cluster, { loginRole }, names, settings) =>
    cluster.admin((client) => setSearchPath(client, loginRole, searchPathOf(names, settings))),

  async create(context) {
    const { cluster, database, findings, operation, services, signal, tenant } = context;
    const shared = await services.sharedDatabases.current(cluster, database.databaseName);
    if (shared === null) {
      throw new StepFailure(
        'the cluster has a database of the name in SHARED_TENANT_DATABASE that this control plane did not make; an operator has to choose another name',
      );
    }
    const place = {
      name: schemaNameOf(database),
      from: opaqueSchemaName(tenant.id),
      database: shared,
      owner: database.ownerRole,
      login: database.loginRole,
      searchPath: searchPathOf(database, services.settings),
      group: shared.groupRole,
      marker: tenantMarker(tenant.id, operation.id, services.installation),
    };
    // Beside what has to be waited for anyway; a name that the caller chose was looked up before.
    const roles = cluster.admin((client) => existingRoles(client, [place.name]), signal);
    roles.catch(() => undefined);
    await cluster.inSharedDatabase(
      shared.name,
      async (client) => {
        if (findings.prepared === true) {
          await findings.login?.begun; // both change the login role
          if (await renamed(client, place)) return;
        }
        const found = await findSchema(client, place.name);
        if (found?.marker?.startsWith(tenantMarkerPrefix(tenant.id)) === true) {
          // Of a run that was cut off, or made by a version whose tenants were no members of a group.
          await client.query(joinGroup(place, client.serverVersion));
          return;
        }
        if (found !== null) {
          throw new StepFailure(
            'a schema of this name exists in the shared database and is not ours',
          );
        }
        await context.stillHeld?.();
        try {
          // Of a standby that was claimed by a run that was cut off.
          if ((await findSchema(client, place.from)) !== null) await renameSchema(client, place);
          else await createSchema(client, place);
        } catch (error) {
          if (codeOf(error) !== errorCodes.duplicateSchema) throw error;
          throw new PassingError('the schema was made meanwhile', { cause: error });
        }
      },
      signal,
    );
    if ((await roles).has(place.name)) {
      throw new StepFailure('a role of the cluster has the name of the schema');
    }
  },

  async migrate(context) {
    const { database, findings, services, signal } = context;
    if (findings.migrationVersion !== undefined) return;
    await migratePlace(services.tenantSessions, services.tenantMigrations, {
      place: servicePlaceIn(context),
      schema: schemaNameOf(database),
      statementTimeoutMs: services.settings.operationTimeoutSeconds * 1000,
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
    const roles = rolesOf(database);
    const dropping = cluster.inSharedDatabase(
      shared.name,
      async (client) => {
        await closeDoor(client, database);
        await endSessions(client, database);
        await disarmRoles(client, roles);
        const place = {
          database: shared,
          owner: database.ownerRole,
          marker: tenantMarker(tenant.id, operation.id, services.installation),
          // Under a name that was chosen, only what carries our marker is ours to drop.
          markerPrefix: tenantMarkerPrefix(tenant.id),
          roles: [...(await existingRoles(client, roles))],
          blockerPrefix: markerPrefix,
          observe: (look: (observer: AdminClient) => Promise<void>) => cluster.admin(look, signal),
        };
        // A standby's may not have got its final name yet.
        for (const name of new Set([opaqueSchemaName(tenant.id), schemaNameOf(database)])) {
          await dropSchema(client, { ...place, name });
        }
      },
      signal,
    );
    await dropping.catch(async (error: unknown) => {
      if (codeOf(error) !== errorCodes.tooManyConnections) throw error;
      // A schema that was made has given its owner rights. Where there are none, nothing is to be dropped,
      // and no connection to the shared database is needed to see that.
      const used = await cluster.admin((client) => holdingDatabases(client, roles), signal);
      if (used.some(({ name }) => name === shared.name)) throw error;
    });
  },

  sizeBytes(cluster, database) {
    return cluster.inDatabase(database.databaseName, (client) =>
      schemaSize(client, schemaNameOf(database)),
    );
  },
};

/** Gives a standby its final name. False: that name is taken, or the standby has it already. */
async function renamed(
  client: pg.ClientBase,
  place: Parameters<typeof renameSchema>[1],
): Promise<boolean> {
  try {
    await renameSchema(client, place);
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code === errorCodes.duplicateSchema || code === errorCodes.invalidSchemaName) return false;
    throw error;
  }
}

function schemaNameOf({ schemaName, tenantId }: TenantDatabase): string {
  if (schemaName === null) throw new Error(`tenant ${tenantId} has no schema name`);
  return schemaName;
}
