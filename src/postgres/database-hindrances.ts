import type pg from 'pg';
import { codeOf, errorCodes, PassingError } from './error-codes.ts';
import { quoteIdentifier } from './identifiers.ts';
import { printableLiteral, printableName } from './printable.ts';
import { listPrepared, rollBackPrepared } from './prepared-transactions.ts';
import type { AdminClient } from './roles.ts';

/** Runs `work` on a session of the admin in the database that is to be dropped. */
export type InsideDatabase = (work: (client: AdminClient) => Promise<void>) => Promise<void>;

/**
 * Removes what keeps DROP DATABASE from working and can only be removed from inside: prepared transactions
 * and subscriptions. What the admin may not remove stays; the drop then names it.
 */
export async function removeFromInside(
  client: AdminClient,
  database: string,
  inside: InsideDatabase,
): Promise<void> {
  const prepared = await listPrepared(client, database);
  const subscriptions = await listSubscriptions(client, database);
  if (prepared.length === 0 && subscriptions.length === 0) return;
  // An earlier try may have closed it.
  await client.query(`ALTER DATABASE ${quoteIdentifier(database)} ALLOW_CONNECTIONS true`);
  await inside(async (session) => {
    for (const transaction of prepared) {
      await unlessForbidden(() => rollBackPrepared(session, [transaction]));
    }
    for (const name of subscriptions) {
      await unlessForbidden(() => dropSubscription(session, name));
    }
  });
}

/** Ends the senders of active logical slots of a database that is closed to connections. */
export async function endLogicalSenders(client: AdminClient, database: string): Promise<void> {
  const slots = (await listSlots(client, database)).filter(({ pid }) => pid !== null);
  for (const { name, pid } of slots) {
    await unlessForbidden(async () => {
      await client.query('SELECT pg_catalog.pg_terminate_backend($1, 5000)', [pid]);
      await client.query(
        `SELECT pg_catalog.pg_drop_replication_slot(slot_name)
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid IS NULL`,
        [name],
      );
    });
  }
}

/** An error of DROP DATABASE, with what hinders it and the SQL that removes that. */
export async function explainHindrance(
  client: pg.ClientBase,
  database: string,
  error: unknown,
): Promise<unknown> {
  const code = codeOf(error);
  const known: readonly (string | undefined)[] = [
    errorCodes.objectInUse,
    errorCodes.insufficientPrivilege,
    errorCodes.lockNotAvailable,
  ];
  if (!known.includes(code)) return error;
  const hindrances =
    code === errorCodes.lockNotAvailable
      ? await listLockHolders(client, database)
      : await listHindrances(client, database);
  if (hindrances.length === 0) return error;
  const message = `database ${printableName(database)} cannot be dropped: ${hindrances.join('; ')}`;
  return new PassingError(message, { cause: error });
}

// More of them say no more.
const mostNamed = 5;

async function listLockHolders(client: pg.ClientBase, database: string): Promise<string[]> {
  const { rows } = await client.query<{ pid: number | null }>(
    `SELECT DISTINCT held.pid FROM pg_catalog.pg_locks held
     JOIN pg_catalog.pg_database db ON db.oid = held.objid
     WHERE held.locktype = 'object' AND held.granted AND db.datname = $1
       AND held.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
       AND held.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() ORDER BY 1 LIMIT $2`,
    [database, mostNamed],
  );
  return rows.map(({ pid }) =>
    pid === null
      ? 'a prepared transaction holds a lock on it (see pg_prepared_xacts)'
      : `the session with pid ${pid} holds a lock on it`,
  );
}

async function listHindrances(client: pg.ClientBase, database: string): Promise<string[]> {
  const prepared = await listPrepared(client, database);
  const slots = (await listSlots(client, database)).filter(({ pid }) => pid !== null);
  const { rows: sessions } = await client.query<{ pid: number }>(
    `SELECT pid FROM pg_catalog.pg_stat_activity
     WHERE datname = $1 AND pid <> pg_catalog.pg_backend_pid() AND pid <> ALL ($2)
     ORDER BY pid LIMIT $3`,
    [database, slots.map(({ pid }) => pid), mostNamed],
  );
  const subscriptions = await listSubscriptions(client, database);
  const inside = `in database ${printableName(database)}`;
  return [
    ...sessions.map(({ pid }) => `the session with pid ${pid} has not ended`),
    ...prepared.slice(0, mostNamed).map(({ gid, owner }) => {
      const sql = `ROLLBACK PREPARED ${printableLiteral(gid)}`;
      return `a prepared transaction of ${printableName(owner)}; run ${inside}: ${sql}`;
    }),
    ...slots.slice(0, mostNamed).map(({ name, pid }) => {
      const sql = `SELECT pg_terminate_backend(${pid ?? 0}); SELECT pg_drop_replication_slot(${printableLiteral(name)})`;
      return `an active logical replication slot; its owner has to run: ${sql}`;
    }),
    ...subscriptions.slice(0, mostNamed).map((name) => {
      const subscription = printableName(name);
      const sql = `ALTER SUBSCRIPTION ${subscription} DISABLE; ALTER SUBSCRIPTION ${subscription} SET (slot_name = NONE); DROP SUBSCRIPTION ${subscription}`;
      return `a subscription; its owner has to run ${inside}: ${sql}`;
    }),
  ];
}

async function listSubscriptions(client: pg.ClientBase, database: string): Promise<string[]> {
  // Not its connection string, which only a superuser may read.
  const { rows } = await client.query<{ name: string }>(
    `SELECT s.subname::pg_catalog.text AS name FROM pg_catalog.pg_subscription s
     JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = $1 ORDER BY 1`,
    [database],
  );
  return rows.map(({ name }) => name);
}

async function listSlots(
  client: pg.ClientBase,
  database: string,
): Promise<{ readonly name: string; readonly pid: number | null }[]> {
  const { rows } = await client.query<{ name: string; pid: number | null }>(
    `SELECT slot_name::pg_catalog.text AS name, active_pid AS pid
     FROM pg_catalog.pg_replication_slots WHERE database = $1 ORDER BY 1`,
    [database],
  );
  return rows;
}

// A directory that no server has its socket in: the publisher is never asked, not even for slots of tables
// that were still being copied.
const nowhere = 'host=/nonexistent port=1 dbname=none user=none password=none';

async function dropSubscription(client: AdminClient, name: string): Promise<void> {
  const subscription = quoteIdentifier(name);
  await client.query(`ALTER SUBSCRIPTION ${subscription} DISABLE`);
  await client.query(`ALTER SUBSCRIPTION ${subscription} SET (slot_name = NONE)`);
  await client.query(`ALTER SUBSCRIPTION ${subscription} CONNECTION '${nowhere}'`);
  await client.query(`DROP SUBSCRIPTION IF EXISTS ${subscription}`);
}

async function unlessForbidden(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const code = codeOf(error);
    const forbidden = code === errorCodes.insufficientPrivilege;
    // Ended meanwhile by another session, or still ending.
    const changed =
      code === errorCodes.undefinedObject ||
      code === errorCodes.objectInUse ||
      code === errorCodes.objectNotInPrerequisiteState;
    if (!forbidden && !changed) throw error;
  }
}
