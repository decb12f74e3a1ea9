import { tenantLoginOptions } from '../tenant-login.ts';
import { migratePlace, takeOverPublicSchema } from '../tenant-migrations.ts';
import { servicePlaceIn } from '../service-place.ts';
import {
  createClosedDatabase,
  databaseSize,
  dropDatabase,
  findDatabase,
  openDatabase,
} from '../../postgres/databases.ts';
import { codeOf, errorCodes, isTransient, PassingError } from '../../postgres/error-codes.ts';
import { disarmRoles } from '../../postgres/drop-roles.ts';
import { handOverWhole } from '../../postgres/hand-over.ts';
import { revokeMembership, revokeMemberships, type AdminClient } from '../../postgres/roles.ts';
import {
  opaqueDatabaseName,
  slugDatabaseName,
  tenantLock,
  tenantMarker,
  tenantMarkerPrefix,
} from '../names.ts';
import { StepFailure, type PlaceContext } from '../step.ts';
import { rolesOf } from '../tenant-roles.ts';
import { unblocked } from '../unblocked.ts';
import type { Isolation } from './isolation.ts';

/** A PostgreSQL database of its own for each tenant, copied from the cluster's template. */
export const databaseIsolation: Isolation = {
  createStep: 'create_database',

  names({ naming, slug, tenantId }) {
    return {
      databaseName: naming === 'SLUG' ? slugDatabaseName(slug) : opaqueDatabaseName(tenantId),
      schemaName: null,
    };
  },

  standbyNames: ({ tenantId }) => ({
    databaseName: opaqueDatabaseName(tenantId),
    schemaName: null,
  }),

  // A database cannot be renamed while somebody is in it.
  readyLogin: (_cluster, standby, names) =>
    standby.databaseName === names.databaseName ? Promise.resolve() : null,

  async create(context) {
    const { cluster, database, findings, services, signal, tenant } = context;
    const named = database.databaseName === opaqueDatabaseName(tenant.id);
    if (findings.prepared === true && named) return; // a standby under this very name
    const contentOwner = await copyInTurn(context, () => makeDatabase(context));
    if (findings.prepared === true) return;
    await services.failpoints.reach('create_database:opened');
    if (contentOwner !== null && (await takeOverAsTenant(context, contentOwner))) return;
    await cluster.inDatabase(
      database.databaseName,
      (client) => takeOverPublicSchema(client, database.ownerRole, contentOwner),
      signal,
    );
    await cluster.admin((client) => revokeMemberships(client, database.ownerRole), signal);
  },

  async migrate(context) {
    if (context.findings.migrationVersion !== undefined) return; // came from a current template
    const { services, signal } = context;
    await migratePlace(services.tenantSessions, services.tenantMigrations, {
      place: servicePlaceIn(context),
      schema: null,
      statementTimeoutMs: services.settings.operationTimeoutSeconds * 1000,
      signal,
    });
    context.findings.migrationVersion = services.tenantMigrations.version;
  },

  reach() {
    return { schema: 'public', createSchemas: true };
  },

  async drop({ cluster, database, tenant, signal }) {
    const roles = rolesOf(database);
    const drop = (client: AdminClient, name: string): Promise<void> =>
      dropDatabase(client, name, {
        roles,
        inside: (work) => cluster.inDatabase(name, work, signal),
        withoutBlockers: unblocked(cluster, client, signal),
      });
    await cluster.exclusively(
      tenantLock(tenant.id),
      async (client) => {
        await disarmRoles(client, roles);
        const facts = await findDatabase(client, database.databaseName);
        // Under a name that was chosen, only what carries our marker is ours to drop.
        if (facts?.marker?.startsWith(tenantMarkerPrefix(tenant.id)) === true) {
          await drop(client, database.databaseName);
        }
        await drop(client, opaqueDatabaseName(tenant.id));
      },
      signal,
    );
  },

  sizeBytes(cluster, { databaseName }) {
    return cluster.admin((client) => databaseSize(client, databaseName));
  },
};

/**
 * Hands what came from the template over to the tenant's owner role in the tenant's own first session,
 * which is verified next: any other would read the catalogs of the new database for this alone.
 *
 * @returns false when the tenant may not, and the admin has to do it: of some kinds of objects only a
 *   superuser may change the owner
 */
async function takeOverAsTenant(context: PlaceContext, contentOwner: string): Promise<boolean> {
  const { cluster, database, findings, signal } = context;
  findings.login?.discard(); // of an earlier try
  const login = cluster.connectInTurn(tenantLoginOptions(context), (client) =>
    handOverWhole(client, contentOwner, database.ownerRole),
  );
  findings.login = login;
  try {
    await login.ready;
  } catch (error) {
    login.discard();
    delete findings.login;
    if (isTransient(error)) throw error;
    return false;
  }
  await cluster.admin(
    (client) => revokeMembership(client, contentOwner, database.ownerRole),
    signal,
  );
  return true;
}

/** Runs `make`: when its turn has come, where it copies a database for a batch. */
function copyInTurn<T>(
  { cluster, findings, operation, services, signal }: PlaceContext,
  make: () => Promise<T>,
): Promise<T> {
  const copies = operation.batchId != null && findings.prepared !== true;
  return copies ? services.precedence.inTurn(cluster.name, make, signal) : make();
}

/**
 * Makes the database under its opaque name, which is ours whatever happens, and gives it the final
 * name together with its marker: so a database under a chosen name without our marker is never ours.
 *
 * @returns the role that owns what is in it; null: not known, it was made by an earlier run
 */
async function makeDatabase(context: PlaceContext): Promise<string | null> {
  const { cluster, database, operation, services, signal, tenant } = context;
  const opaque = opaqueDatabaseName(tenant.id);
  const template = await services.templates.current(cluster);
  return cluster.exclusively(
    tenantLock(tenant.id),
    async (client) => {
      const final = await findDatabase(client, database.databaseName);
      if (final?.marker?.startsWith(tenantMarkerPrefix(tenant.id)) === true) return null;
      if (final !== null && database.databaseName !== opaque) {
        throw new StepFailure('a database of this name exists on the cluster and is not ours');
      }
      const begun = database.databaseName === opaque ? final : await findDatabase(client, opaque);
      if (begun === null) {
        await context.stillHeld?.();
        try {
          await createClosedDatabase(client, {
            name: opaque,
            strategy: services.settings.createDatabaseStrategy,
            ...(template === null ? {} : { template: template.databaseName }),
          });
        } catch (error) {
          if (codeOf(error) !== errorCodes.invalidCatalogName) throw error;
          // Another instance, with other migrations, dropped it as unused: the next try looks anew.
          services.templates.forget(cluster);
          throw new PassingError('the template is gone', { cause: error });
        }
        await services.failpoints.reach('create_database:inside');
        if (template !== null) context.findings.migrationVersion = template.migrationVersion;
      }
      const contentOwner = begun === null && template !== null ? template.ownerRole : null;
      await openDatabase(client, {
        name: opaque,
        finalName: database.databaseName,
        owner: database.ownerRole,
        marker: tenantMarker(tenant.id, operation.id, services.installation),
        ...(contentOwner === null ? {} : { contentOwner }),
        withoutBlockers: unblocked(cluster, client, signal),
      });
      return contentOwner;
    },
    signal,
  );
}
