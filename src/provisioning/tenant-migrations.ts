import type { Cluster } from '../postgres/cluster.ts';
import { codeOf, errorCodes } from '../postgres/error-codes.ts';
import { handOver, handOverWhole, rolesReferredTo } from '../postgres/hand-over.ts';
import { quoteIdentifier } from '../postgres/identifiers.ts';
import { migrate, type MigrationSet } from '../postgres/migrations.ts';
import { asMember, type AdminClient } from '../postgres/roles.ts';
import { ownedElsewhere } from '../postgres/schemas.ts';
import { templateOwnerPrefix } from './names.ts';
import type { ServicePlace, TenantSessions } from './tenant-session.ts';

/**
 * Makes `owner` the owner of the connected database's schema `public` and of all that its present
 * owner (a template's owner role) has in it. Done already is fine. Only before a tenant had the
 * credentials of this database: it is the admin who does it.
 *
 * @param known the present owner where it is known: saves asking, while a caller waits
 */
export async function takeOverPublicSchema(
  client: AdminClient,
  owner: string,
  known: string | null = null,
): Promise<void> {
  const present = known ?? (await ownerOfPublicSchema(client));
  if (present === owner) {
    await takeOverFromTemplates(client, owner); // an earlier run may have come as far as this
    return;
  }
  if (present === undefined || present === 'pg_database_owner') {
    await asMember(client, [owner], async () => {
      await client.query(`CREATE SCHEMA IF NOT EXISTS public`);
      await client.query(`ALTER SCHEMA public OWNER TO ${quoteIdentifier(owner)}`);
    });
    return;
  }
  await asMember(client, [present, owner], () => handOverWhole(client, present, owner));
}

async function ownerOfPublicSchema(client: AdminClient): Promise<string | undefined> {
  const { rows } = await client.query<{ owner: string }>(
    `SELECT pg_catalog.pg_get_userbyid(nspowner)::pg_catalog.text AS owner
     FROM pg_catalog.pg_namespace WHERE nspname = 'public'`,
  );
  return rows[0]?.owner;
}

/**
 * Hands over what in the connected database still refers to templates' roles: versions before left default
 * privileges and policies with them.
 */
export async function takeOverFromTemplates(client: AdminClient, owner: string): Promise<void> {
  for (const role of await rolesReferredTo(client, templateOwnerPrefix)) {
    await asMember(client, [role, owner], () => handOver(client, role, owner));
  }
}

export interface MigrateTarget {
  readonly place: ServicePlace;
  /** The tenant's schema in a shared database; null: the database is the tenant's own. */
  readonly schema: string | null;
  /** Milliseconds that one statement of a migration may take. */
  readonly statementTimeoutMs: number;
  /** How admin sessions are opened; the cluster's own way unless the caller holds one already. */
  readonly admin?: Cluster['admin'];
  readonly signal?: AbortSignal;
}

// Of all that the server answers to a set of migrations: their ledger, and what they read themselves.
const maxBytes = 64 * 1024 * 1024;

/**
 * Runs the tenant migrations in a place, in a session of its service login, so that its owner role owns
 * what they make and nothing in the place can do more than the tenant. In a shared database they are one
 * transaction, the ledger's tables too: the schema is at the newest migration or as it was.
 *
 * @throws MigrationError naming the migration that failed, or created something that it must not; the
 *   reason of the signal
 */
export async function migratePlace(
  sessions: TenantSessions,
  set: MigrationSet,
  { place, schema, statementTimeoutMs, admin, signal }: MigrateTarget,
): Promise<void> {
  const options = {
    applicationName: 'tenantry migrations',
    statementTimeoutMs,
    signal,
    ...(admin === undefined ? {} : { admin }),
  };
  await sessions.use(place, options, (login) =>
    place.cluster.withConnectionSlot(() =>
      migrate(set, {
        connection: login.config,
        oneTransaction: schema !== null,
        connected: (client) => login.connected(client),
        rules: {
          inspect: async (session) => {
            const found = await ownedElsewhere(session, place, schema);
            if (found !== null) throw new OutsideError(`it made ${found}`);
          },
          deedOf: (error) => deedOf(error, schema),
        },
        maxBytes,
        signal: login.signal,
      }),
    ),
  );
}

class OutsideError extends Error {}

function deedOf(error: unknown, schema: string | null): string | undefined {
  if (schema === null) {
    return error instanceof OutsideError
      ? 'creates objects in another role than it is given'
      : undefined;
  }
  return error instanceof OutsideError || outsideCodes.has(codeOf(error))
    ? 'reaches outside of the tenant’s schema; migrations must not name a schema'
    : undefined;
}

// What a role that may work in one schema alone is told elsewhere.
const outsideCodes: ReadonlySet<string | undefined> = new Set([
  errorCodes.insufficientPrivilege,
  errorCodes.invalidSchemaName,
]);
