import type pg from 'pg';
import { reportAdminRights, type AdminRights } from './access.ts';
import { withClient } from './session.ts';
import { connectionOptions } from './connection.ts';
import { codeOf, errorCodes, isTransient } from './error-codes.ts';
import { SettingError } from '../errors.ts';

/** The oldest PostgreSQL that the product is tested on. */
const oldestVersion = 15;

/** What a server is for. */
export interface ServerUse {
  /** The registry: the role makes schemas in the database it connects to. */
  readonly controlPlane: boolean;
  /** Schemas of the registry: where their owner has made them, the role needs no right to. */
  readonly schemas?: readonly string[];
  /** Tenants: the role makes databases and roles. */
  readonly tenants: boolean;
}

/** Why a server will not do. */
export interface ServerFault {
  /** One line, for the operator alone: it names the host. */
  readonly problem: string;
  /**
   * `UNREACHABLE`: nobody answers, which may pass. `BUSY`: it has no connection free. `WRONG`: it
   * answers, and something has to be configured differently.
   */
  readonly kind: 'UNREACHABLE' | 'BUSY' | 'WRONG';
}

/**
 * Connects once and asks whether this server and role will do.
 *
 * @throws SettingError DATABASE_URL, in one line, for whatever the operator can mend
 */
export async function checkServer(
  url: string,
  use: ServerUse = { controlPlane: true, tenants: true },
): Promise<void> {
  const options = connectionOptions(url, {
    applicationName: 'tenantry start',
    statementTimeoutMs: 10_000,
  });
  const found = await inspectServer(options, use);
  if ('problem' in found) throw new SettingError('DATABASE_URL', found.problem);
}

/**
 * The same without throwing, by any options. `identity` tells servers apart: two that answer the same
 * are one. (Not the system identifier, which copies of a server share.)
 */
async function inspectServer(
  options: pg.ClientConfig,
  use: ServerUse,
  signal?: AbortSignal,
): Promise<{ readonly identity: string } | ServerFault> {
  try {
    return await withClient(options, (client) => inspectSession(client, options, use), { signal });
  } catch (error) {
    return faultOf(error, options);
  }
}

/** Why a server could not be asked. */
export function faultOf(error: unknown, options: pg.ClientConfig): ServerFault {
  return { problem: explain(error, placeOf(options), options), kind: kindOf(error) };
}

/** The same on a session that is open. Rejects when the session does not answer. */
export async function inspectSession(
  client: pg.ClientBase,
  options: pg.ClientConfig,
  use: ServerUse,
): Promise<{ readonly identity: string } | ServerFault> {
  const { rows } = await client.query<{ version: number; readOnly: boolean; identity: string }>(
    `SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000 AS version,
            pg_catalog.current_setting('transaction_read_only') = 'on' AS "readOnly",
            ${serverIdentity} AS identity`,
  );
  const { version, readOnly, identity } = rows[0] ?? noAnswer;
  const wrong = (problem: string): ServerFault => ({ problem, kind: 'WRONG' });
  if (version < oldestVersion) {
    return wrong(`the server is PostgreSQL ${version}; ${oldestVersion} or newer is needed`);
  }
  if (readOnly) {
    return wrong(
      `${placeOf(options)} takes no writes: it is a standby, or default_transaction_read_only is on; name the primary`,
    );
  }
  const missing = missingRight(await reportAdminRights(client, use.schemas), use, options);
  return missing === null ? { identity } : wrong(missing);
}

function placeOf({ host, port }: pg.ClientConfig): string {
  return `${host ?? 'localhost'}:${port ?? 5432}`;
}

/** SQL that gives every server that runs a text of its own, in microseconds. */
export const serverIdentity =
  'extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text';

const noAnswer = { version: 0, readOnly: false, identity: '' };

function missingRight(
  rights: AdminRights,
  use: ServerUse,
  options: pg.ClientConfig,
): string | null {
  const role = `"${rights.role}"`;
  if (use.tenants && !rights.createDatabase) {
    return `role ${role} lacks CREATEDB; run once: ALTER ROLE ${role} CREATEDB`;
  }
  if (use.tenants && !rights.createRole) {
    return `role ${role} lacks CREATEROLE; run once: ALTER ROLE ${role} CREATEROLE`;
  }
  if (use.controlPlane && !rights.createSchema) {
    const database = `"${options.database ?? 'postgres'}"`;
    return `role ${role} may not create schemas in ${database}; run once: GRANT CREATE ON DATABASE ${database} TO ${role}`;
  }
  return null;
}

function kindOf(error: unknown): ServerFault['kind'] {
  const code = codeOf(error);
  if (code === errorCodes.tooManyConnections) return 'BUSY';
  // Whatever is no answer of PostgreSQL's own, or says that it may answer later.
  if (code?.length !== 5 || isTransient(error)) {
    return error instanceof Error && error.message.startsWith('SASL') ? 'WRONG' : 'UNREACHABLE';
  }
  return 'WRONG';
}

function explain(
  error: unknown,
  place: string,
  { user, database, password }: pg.ClientConfig,
): string {
  const code = codeOf(error);
  const message = error instanceof Error ? error.message : 'unknown reason';
  switch (code) {
    case errorCodes.invalidPassword:
      return `${place} refuses the password of "${user ?? ''}"`;
    case errorCodes.invalidCatalogName:
      return `there is no database "${database ?? ''}" on ${place}`;
    case errorCodes.insufficientPrivilege:
      return `role "${user ?? ''}" may not connect to "${database ?? ''}" on ${place}`;
    default:
      // node-postgres gives the failures of its own half of the login no code.
      if (code === undefined && message.startsWith('SASL')) {
        return password === undefined || password === ''
          ? `${place} asks for the password of "${user ?? ''}", and the URL has none`
          : `the login of "${user ?? ''}" to ${place} fails: ${message}`;
      }
      // A code of five characters is PostgreSQL's own: it was reached, and says why it refuses.
      if (code?.length === 5) return `${place} refuses "${user ?? ''}": ${message}`;
      return `no PostgreSQL server can be reached at ${place} (${code ?? message})`;
  }
}
