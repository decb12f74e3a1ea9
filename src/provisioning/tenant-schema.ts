import type { Cluster } from '../postgres/cluster.ts';
import { reassignOwned } from '../postgres/databases.ts';
import { quoteIdentifier } from '../postgres/identifiers.ts';
import { codeOf, errorCodes } from '../postgres/error-codes.ts';
import { migrate, type MigrationSet } from '../postgres/migrations.ts';
import { asMember, type AdminClient } from '../postgres/roles.ts';
import { lockRole, ownedOutside } from '../postgres/schemas.ts';

/**
 * Makes `owner` the owner of the connected database's schema `public` and of all that its present
 * owner (a template's owner role) has in it. Done already is fine.
 *
 * @param known the present owner where it is known: saves asking, while somebody waits
 */
export async function takeOverPublicSchema(
  client: AdminClient,
  owner: string,
  known: string | null = null,
): Promise<void> {
  const present = known ?? (await ownerOfPublicSchema(client));
  if (present === owner) return;
  if (present === undefined || present === 'pg_database_owner') {
    await asMember(client, [owner], async () => {
      await client.query(`CREATE SCHEMA IF NOT EXISTS public`);
      await client.query(`ALTER SCHEMA public OWNER TO ${quoteIdentifier(owner)}`);
    });
    return;
  }
  await asMember(client, [present, owner], () => reassignOwned(client, present, owner));
}

async function ownerOfPublicSchema(client: AdminClient): Promise<string | undefined> {
  const { rows } = await client.query<{ owner: string }>(
    "SELECT nspowner::regrole::text AS owner FROM pg_namespace WHERE nspname = 'public'",
  );
  return rows[0]?.owner;
}

export interface MigrateTarget {
  readonly database: string;
  /** Owns what the migrations make. */
  readonly role: string;
  /** How to get an admin session; the cluster's own way unless the caller holds one already. */
  readonly admin?: Cluster['admin'];
  readonly signal?: AbortSignal;
}

/**
 * Runs the tenant migrations in one database so that a role owns what they make. An admin that is no
 * superuser is a member of the role for as long as they run.
 *
 * @throws MigrationError naming the migration that failed; the reason of the signal
 */
export async function migrateAs(
  cluster: Cluster,
  set: MigrationSet,
  { database, role, signal, admin = (work) => cluster.admin(work) }: MigrateTarget,
): Promise<void> {
  const temporary = !(await admin((client) => Promise.resolve(client.isSuperuser)));
  const change = (statement: string): Promise<unknown> =>
    admin((client) => client.query(statement));
  if (temporary) await change(`GRANT ${quoteIdentifier(role)} TO CURRENT_USER`);
  try {
    await cluster.withConnectionSlot(() =>
      migrate(set, {
        connection: cluster.adminOptions(database),
        role,
        ...(signal === undefined ? {} : { signal }),
      }),
    );
  } finally {
    if (temporary) await change(`REVOKE ${quoteIdentifier(role)} FROM CURRENT_USER`);
  }
}

export interface MigrateSchemaTarget {
  /** The shared database. */
  readonly database: string;
  readonly schema: string;
  /** Owns what the migrations make. */
  readonly role: string;
  /** The marker that the role carries. */
  readonly marker: string;
  readonly signal?: AbortSignal;
}

/**
 * Runs the tenant migrations in one schema, the ledger's tables too, all in one transaction: the schema
 * is at the newest migration or as it was.
 *
 * @throws MigrationError naming the migration that failed, or made something outside of the schema; the
 *   reason of the signal
 */
export async function migrateSchema(
  cluster: Cluster,
  set: MigrationSet,
  { database, schema, role, marker, signal }: MigrateSchemaTarget,
): Promise<void> {
  const isSuperuser = await cluster.admin((client) => Promise.resolve(client.isSuperuser), signal);
  const member = quoteIdentifier(role);
  await cluster.withConnectionSlot(() =>
    migrate(set, {
      connection: cluster.adminOptions(database),
      transaction: {
        begin: `${lockRole(role, marker)};
          ${isSuperuser ? '' : `GRANT ${member} TO CURRENT_USER;`}
          SET LOCAL ROLE ${member}; SET LOCAL search_path = ${quoteIdentifier(schema)}`,
        inspect: async (session) => {
          const outside = await ownedOutside(session, role, schema);
          if (outside !== null) throw new OutsideError(`it made ${outside}`);
        },
        end: `RESET ROLE${isSuperuser ? '' : `; REVOKE ${member} FROM CURRENT_USER`}`,
        deedOf: (error) =>
          error instanceof OutsideError || outsideCodes.has(codeOf(error))
            ? 'reaches outside of the tenant’s schema; migrations must not name a schema'
            : undefined,
      },
      ...(signal === undefined ? {} : { signal }),
    }),
  );
}

class OutsideError extends Error {}

// What a role that may work in one schema alone is told elsewhere.
const outsideCodes: ReadonlySet<string | undefined> = new Set([
  errorCodes.insufficientPrivilege,
  errorCodes.invalidSchemaName,
]);
