import type { Cluster } from '../postgres/cluster.ts';
import { reassignOwned } from '../postgres/databases.ts';
import { quoteIdentifier } from '../postgres/identifiers.ts';
import { migrate, type MigrationSet } from '../postgres/migrations.ts';
import { asMember, type AdminClient } from '../postgres/roles.ts';

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
  await reassignOwned(client, present, owner);
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
