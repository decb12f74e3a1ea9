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
      const { rows } = await client.query<{ version: number }>(
        "SELECT current_setting('server_version_num')::int / 10000 AS version",
      );
      const version = rows[0]?.version ?? 0;
      if (version < oldestVersion) {
        refuse(`the server is PostgreSQL ${version}; ${oldestVersion} or newer is needed`);
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
  { user, database }: { user?: string | undefined; database?: string | undefined },
): string {
  const code = codeOf(error);
  switch (code) {
    case errorCodes.invalidPassword:
      return `${place} refuses the password of "${user ?? ''}"`;
    case errorCodes.invalidCatalogName:
      return `there is no database "${database ?? ''}" on ${place}`;
    case errorCodes.insufficientPrivilege:
      return `role "${user ?? ''}" may not connect to "${database ?? ''}" on ${place}`;
    default: {
      const reason = code ?? (error instanceof Error ? error.message : 'unknown reason');
      return `no PostgreSQL server can be reached at ${place} (${reason})`;
    }
  }
}
