import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { onServer, withDatabase } from '../control-template.ts';
import { createKeyRing } from '../../src/crypto/envelope.ts';
import { connectionStringPurpose } from '../../src/provisioning/steps/encrypt-credentials.ts';
import type { ExistingControlPlane } from '../harness.ts';

/**
 * An installation as version 0.1.0 left it, on PostgreSQL 15 with an admin that is no superuser: tenants of
 * both isolations, two of them deleted, one of a partner `acme`, a template and a place of each kind ahead.
 * In the database of `by-id` the template's role still has default privileges, as a migration may have set
 * them. It is what `pg_dumpall --inserts` made of that server, without comments and what is the server's
 * own; `\connect` begins what belongs in a database.
 */
const dump = join(import.meta.dirname, 'version-0.1.0.sql.gz');
const template = 'tpl_1af731e1_f114_41f5_b410_f20284aedb8b';

export const versionBefore = {
  database: 'before_control',
  sharedDatabase: 'before_shared',
  encryptionKey: '8TAw0mItAaMegjy8J0BpMKy_C03JLuGk6-fDmmtSj9c',
  role: 'before_admin',
  password: 'before',
} as const satisfies ExistingControlPlane;

/** Restores it on a server, as its superuser; the admin becomes one, or stays as it was. */
export async function restoreVersionBefore(
  serverUrl: string,
  admin: 'superuser' | 'limited',
): Promise<void> {
  const text = gunzipSync(await readFile(dump)).toString();
  const [, ...parts] = text.split(/^\\connect (.*)$/m);
  for (let index = 0; index < parts.length; index += 2) {
    const [database = '', sql = ''] = parts.slice(index, index + 2);
    await onServer(withDatabase(serverUrl, database), async (client) => {
      if (database !== 'postgres') {
        await client.query(sql);
        return;
      }
      // CREATE DATABASE does not run in a transaction; here each statement has a line of its own.
      for (const statement of sql.split('\n')) await client.query(statement);
    });
  }
  await onServer(serverUrl, async (client) => {
    const { role, password } = versionBefore;
    const kind = admin === 'superuser' ? 'SUPERUSER' : '';
    await client.query(`ALTER ROLE ${role} ${kind} PASSWORD '${password}'`);
    await client.query(`GRANT CONNECT ON DATABASE postgres TO ${role}`);
    await client.query(`ALTER DATABASE ${template} ALLOW_CONNECTIONS false`);
    const { rows } = await client.query<{ version: number }>(
      `SELECT current_setting('server_version_num')::int / 10000 AS version`,
    );
    // Before 16, CREATEROLE is enough to work on any role; who moves to 16 has to do this once.
    if (rows[0]!.version >= 16) {
      await client.query(
        `DO $$ DECLARE name name; BEGIN
           FOR name IN SELECT rolname FROM pg_roles
             WHERE shobj_description(oid, 'pg_authid') LIKE '%:a3be6534-cf39-4464-bf08-8dc2fd366386'
           LOOP EXECUTE format('GRANT %I TO ${role} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', name);
           END LOOP; END $$`,
      );
    }
  });
  await moveConnectionStrings(serverUrl);
}

/** The stored connection strings name the server that the dump was made of: here they name this one. */
async function moveConnectionStrings(serverUrl: string): Promise<void> {
  const { database, encryptionKey } = versionBefore;
  const keys = createKeyRing({ current: encryptionKey });
  await onServer(withDatabase(serverUrl, database), async (client) => {
    const { rows } = await client.query<{ id: string; sealed: string }>(
      `SELECT tenant_id AS id, connection_string_encrypted AS sealed
       FROM control_plane.tenant_databases WHERE connection_string_encrypted IS NOT NULL`,
    );
    for (const { id, sealed } of rows) {
      const url = new URL(keys.open(sealed, connectionStringPurpose, id));
      url.host = new URL(serverUrl).host;
      await client.query(
        `UPDATE control_plane.tenant_databases SET connection_string_encrypted = $2
         WHERE tenant_id = $1`,
        [id, keys.seal(url.href, connectionStringPurpose, id)],
      );
    }
  });
}
