import {
  createObjectDropper,
  dropEverything,
  listLargeObjects,
  listOwnedObjects,
} from './drop-objects.ts';
import { quoteIdentifier } from './identifiers.ts';
import { listPrepared, rollBackPrepared } from './prepared-transactions.ts';
import { inTransactionAs, type AdminClient } from './roles.ts';

const lockTimeoutMs = 500;
// Each is a small transaction of the server's.
const largeObjectsAtOnce = 500;

/**
 * Drops what a role that stays owns in the connected database, its prepared transactions and its default
 * privileges, and gives it CONNECT and TEMPORARY there anew, since DROP OWNED takes them too.
 *
 * @returns whether there was anything
 * @throws the error of a lock that another session holds; what is done stays done
 */
export async function dropOwnedBy(
  client: AdminClient,
  { database, role }: { readonly database: string; readonly role: string },
): Promise<boolean> {
  const prepared = await listPrepared(client, database, [role]);
  if (prepared.length === 0 && !(await ownsAnything(client, role))) return false;
  await rollBackPrepared(client, prepared);
  const options = { schema: null, owners: [role], lockTimeoutMs };
  const dropper = await createObjectDropper(client, options);
  await dropEverything(dropper, () => listLargeObjects(client, [role]), largeObjectsAtOnce);
  await dropEverything(dropper, () => listOwnedObjects(client, [role]));
  const name = quoteIdentifier(role);
  await inTransactionAs(client, [role], async () => {
    await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs};
      SET LOCAL client_min_messages = error;
      DROP OWNED BY ${name};
      GRANT CONNECT, TEMPORARY ON DATABASE ${quoteIdentifier(database)} TO ${name}`);
  });
  return true;
}

async function ownsAnything(client: AdminClient, role: string): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdepend d
       ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
     JOIN pg_catalog.pg_database db ON db.oid = d.dbid
     WHERE r.rolname = $1 AND d.deptype = 'o' AND db.datname = pg_catalog.current_database()
     LIMIT 1`,
    [role],
  );
  return rows.length > 0;
}
