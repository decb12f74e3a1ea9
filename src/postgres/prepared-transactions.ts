import type pg from 'pg';
import { quoteIdentifier, quoteLiteral } from './identifiers.ts';
import type { AdminClient } from './roles.ts';

/** A transaction that was prepared for a two-phase commit: it holds its locks without a session. */
export interface PreparedTransaction {
  /** Name that the client chose. */
  readonly gid: string;
  readonly owner: string;
}

/** The prepared transactions of a database, of these roles where any are given. */
export async function listPrepared(
  client: pg.ClientBase,
  database: string,
  owners: readonly string[] | null = null,
): Promise<PreparedTransaction[]> {
  const { rows } = await client.query<PreparedTransaction>(
    `SELECT gid, owner::pg_catalog.text AS owner FROM pg_catalog.pg_prepared_xacts
     WHERE database = $1 AND ($2::pg_catalog.name[] IS NULL OR owner = ANY ($2)) ORDER BY prepared`,
    [database, owners],
  );
  return rows;
}

/** Those of the connected database that hold a lock for which the session `pid` waits. */
export async function preparedBlockers(
  client: pg.ClientBase,
  database: string,
  pid: number,
): Promise<PreparedTransaction[]> {
  const { rows } = await client.query<PreparedTransaction>(
    `SELECT DISTINCT prepared.gid, prepared.owner::pg_catalog.text AS owner
     FROM pg_catalog.pg_locks waiting
     JOIN pg_catalog.pg_locks held ON held.granted AND held.pid IS NULL
       AND held.locktype = waiting.locktype
       AND held.database IS NOT DISTINCT FROM waiting.database
       AND held.relation IS NOT DISTINCT FROM waiting.relation
       AND held.classid IS NOT DISTINCT FROM waiting.classid
       AND held.objid IS NOT DISTINCT FROM waiting.objid
       AND held.transactionid IS NOT DISTINCT FROM waiting.transactionid
     -- Each holds its own number locked as well.
     JOIN pg_catalog.pg_locks itself ON itself.granted AND itself.pid IS NULL
       AND itself.locktype = 'transactionid' AND itself.virtualtransaction = held.virtualtransaction
     JOIN pg_catalog.pg_prepared_xacts prepared
       ON prepared.transaction = itself.transactionid AND prepared.database = $1
     WHERE waiting.pid = $2 AND NOT waiting.granted`,
    [database, pid],
  );
  return rows;
}

/**
 * Rolls prepared transactions of the connected database back, each as the role that prepared it: nobody
 * else but a superuser may. Those that have ended meanwhile are fine.
 */
export async function rollBackPrepared(
  client: AdminClient,
  transactions: readonly PreparedTransaction[],
): Promise<void> {
  for (const { gid, owner } of transactions) {
    const role = quoteIdentifier(owner);
    const { rows } = await client.query<{ usable: boolean }>(
      `SELECT pg_catalog.pg_has_role(current_user, $1::pg_catalog.name, 'USAGE') AS usable`,
      [owner],
    );
    const temporary = !client.isSuperuser && rows[0]?.usable !== true;
    // ROLLBACK PREPARED does not run inside a transaction, so the membership is one of its own.
    if (temporary) await client.query(`GRANT ${role} TO CURRENT_USER`);
    try {
      await client.query(`SET ROLE ${role}`);
      await client.query(`ROLLBACK PREPARED ${quoteLiteral(gid)}`);
    } finally {
      await client.query('RESET ROLE');
      if (temporary) await client.query(`REVOKE ${role} FROM CURRENT_USER`);
    }
  }
}
