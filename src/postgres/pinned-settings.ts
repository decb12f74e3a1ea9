import type pg from 'pg';
import { quoteIdentifier } from './identifiers.ts';

/**
 * Every setting of a session that our statements depend on, in one place. They are given at connect, and
 * win over whatever `ALTER SYSTEM`, `ALTER ROLE` or `ALTER DATABASE … SET` says.
 */

/** What differs between the sessions of the admin and those in a tenant's place. */
export interface SessionPlace {
  /** Schemas in their order; null: as the login has it. */
  readonly searchPath: readonly string[] | null;
  /** Works as this role from the beginning; `none`: as the one that logs in; null: as the login has it. */
  readonly role: string | null;
}

/** Sessions of the admin and on the control plane: nothing that a tenant can create is ever looked up. */
export const adminPlace: SessionPlace = { searchPath: ['pg_catalog', 'pg_temp'], role: 'none' };

/** Sessions that have to find out what a tenant's own login comes to. */
export const ownPlace: SessionPlace = { searchPath: null, role: null };

/** Settings that every version since 15 knows. */
const pinned: Readonly<Record<string, string>> = {
  DateStyle: 'ISO,MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  client_encoding: 'UTF8',
  extra_float_digits: '1',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  row_security: 'on',
  standard_conforming_strings: 'on',
  bytea_output: 'hex',
  synchronous_commit: 'on',
  default_tablespace: '',
  default_table_access_method: 'heap',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  jit: 'off',
  quote_all_identifiers: 'off',
  transform_null_equals: 'off',
  client_min_messages: 'warning',
  // A server that notices a dead client ends its statement within a second.
  client_connection_check_interval: '1s',
};

/** Settings that only some versions know: an unknown name would fail the connect. */
const pinnedSince: readonly {
  readonly version: number;
  readonly name: string;
  readonly value: string;
}[] = [
  { version: 16, name: 'createrole_self_grant', value: '' },
  { version: 17, name: 'transaction_timeout', value: '0' },
];

/**
 * The `options` of a connection, as libpq's `PGOPTIONS` has them.
 *
 * @param version major version of the server, where it is known; else see `pinByVersion`
 */
export function pinnedOptions(
  place: SessionPlace,
  {
    version = 0,
    lockTimeoutMs = 0,
    statementTimeoutMs = 0,
  }: { version?: number; lockTimeoutMs?: number; statementTimeoutMs?: number } = {},
): string {
  const { role, searchPath } = place;
  const settings = {
    ...pinned,
    ...Object.fromEntries(
      pinnedSince.filter((one) => version >= one.version).map(({ name, value }) => [name, value]),
    ),
    lock_timeout: String(lockTimeoutMs),
    // node-postgres leaves out what is 0: so it is here that "no limit" is said.
    statement_timeout: String(statementTimeoutMs),
    ...(searchPath === null ? {} : { search_path: searchPath.map(quoteIdentifier).join(',') }),
    ...(role === null ? {} : { role }),
  };
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\\\s]/g, String.raw`\$&`)}`)
    .join(' ');
}

const pinStatement = `SELECT ${pinnedSince
  .map(
    ({ version, name, value }) =>
      `CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4
         OPERATOR(pg_catalog.>=) ${version * 10_000}
       THEN pg_catalog.set_config('${name}', '${value}', false) END`,
  )
  .join(', ')}`;

/**
 * Pins what only some versions know, where the server's version is not known at connect: queued on a new
 * connection in front of its first statement, so that nothing waits for the answer.
 */
export function pinByVersion(client: pg.ClientBase): void {
  // A connection that breaks here fails the statement behind this one, too.
  client.query(pinStatement).catch(() => undefined);
}
