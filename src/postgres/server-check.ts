import type pg from 'pg';
import { reportAdminRights } from './access.ts';
import { withClient } from './cluster.ts';
import { connectionOptions } from './connection.ts';
import { codeOf, errorCodes } from './error-codes.ts';
import { SettingError } from '../errors.ts';

/** The oldest PostgreSQL that the product is tested on. */
const oldestVersion = 15;

/**
 * Connects once and asks whether this server and role will do.
 *
 * @throws SettingError DATABASE_URL, in one line, for whatever the operator can mend
 */
export async function checkServer(url: string): Promise<void> {
  const options = connectionOptions(url, {
    applicationName: 'tenantry start',
    statementTimeoutMs: 10_000,
  });
  const place = `${options.host ?? 'localhost'}:${options.port ?? 5432}`;
  try {
    await withClient(options, async (client) => {
      const { rows } = await client.query<{ version: number; readOnly: boolean }>(
        `SELECT current_setting('server_version_num')::int / 10000 AS version,
                current_setting('transaction_read_only') = 'on' AS "readOnly"`,
      );
      const { version, readOnly } = rows[0] ?? { version: 0, readOnly: false };
      if (version < oldestVersion) {
        refuse(`the server is PostgreSQL ${version}; ${oldestVersion} or newer is needed`);
      }
      if (readOnly) {
        refuse(
          `${place} takes no writes: it is a standby, or default_transaction_read_only is on; name the primary`,
        );
      }
      const rights = await reportAdminRights(client);
      const role = `"${rights.role}"`;
      if (!rights.createDatabase) {
        refuse(`role ${role} lacks CREATEDB; run once: ALTER ROLE ${role} CREATEDB`);
      }
      if (!rights.createRole) {
        refuse(`role ${role} lacks CREATEROLE; run once: ALTER ROLE ${role} CREATEROLE`);
      }
      if (!rights.createSchema) {
        const database = `"${options.database ?? 'postgres'}"`;
        refuse(
          `role ${role} may not create schemas in ${database}; run once: GRANT CREATE ON DATABASE ${database} TO ${role}`,
        );
      }
    });
  } catch (error) {
    if (error instanceof SettingError) throw error;
    throw new SettingError('DATABASE_URL', explain(error, place, options), { cause: error });
  }
}

function refuse(message: string): never {
  throw new SettingError('DATABASE_URL', message);
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
