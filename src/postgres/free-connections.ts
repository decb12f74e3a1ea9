import type pg from 'pg';
import { startingBackends } from './terminate-sessions.ts';

/**
 * How many more sessions the server takes from roles that have no reserved ones. Of sessions that the
 * connected role may not look into, parallel workers count as well.
 */
export async function freeConnections(client: pg.ClientBase): Promise<number> {
  const setting = (name: string): string =>
    `CAST(coalesce(pg_catalog.current_setting('${name}', true), '0') AS pg_catalog.int4)`;
  const { rows } = await client.query<{ free: number }>(
    `SELECT CAST(${setting('max_connections')} - ${setting('superuser_reserved_connections')}
       - ${setting('reserved_connections')}
       - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
          WHERE usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend')
       - (SELECT pg_catalog.count(*) FROM (${startingBackends}) AS starting)
       AS pg_catalog.int4) AS free`,
  );
  return rows[0]?.free ?? 0;
}
