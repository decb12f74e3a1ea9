/**
 * `npm run -s inspect -- <id or slug>` shows where a tenant lives, that its connection string is
 * sealed, and what its own credentials open. Without a name: the newest tenant. Prints no secret.
 */
import type { Knex } from 'knex';
import type pg from 'pg';
import type { Config } from '../config.ts';
import {
  findTenantDatabases,
  sealedConnectionOf,
  type TenantDatabase,
} from '../control/tenant-databases.ts';
import { listTenants } from '../control/tenant-lists.ts';
import { findTenant, type Tenant } from '../control/tenants.ts';
import { withClient } from '../postgres/session.ts';
import { connectionOptions } from '../postgres/connection.ts';
import { ownPlace } from '../postgres/pinned-settings.ts';
import { quoteIdentifier } from '../postgres/identifiers.ts';
import { printable } from '../postgres/printable.ts';
import { looksLikeUuid } from '../provisioning/names.ts';
import { connectionStringPurpose } from '../provisioning/steps/encrypt-credentials.ts';
import { keyRingOf, withControl } from './with-control.ts';

const session = { applicationName: 'tenantry inspect', statementTimeoutMs: 10_000 };
const ownSession = { ...session, place: ownPlace };
// What a tenant's place says is the tenant's: names are shown escaped, and no more of them than fit a page.
const limits = { maxBytes: 256 * 1024 };
const tablesShown = 50;

await withControl('inspect', async ({ control, config, url }) => {
  const name = process.argv[2];
  const tenant = await chooseTenant(control, name);
  if (tenant === null) {
    console.error(name === undefined ? 'There is no tenant yet' : `There is no tenant ${name}`);
    process.exitCode = 1;
    return;
  }
  await show(control, config, tenant, connectionOptions(url, session).database ?? '');
});

async function chooseTenant(control: Knex, name: string | undefined): Promise<Tenant | null> {
  if (name !== undefined) {
    return findTenant(control, null, looksLikeUuid(name) ? { id: name } : { slug: name });
  }
  const order = { field: 'CREATED_AT', descending: true } as const;
  const page = await listTenants(control, null, {}, order, { limit: 1, backward: false });
  return page.rows[0] ?? null;
}

async function show(
  control: Knex,
  config: Config,
  tenant: Tenant,
  controlDatabase: string,
): Promise<void> {
  const [database] = await findTenantDatabases(control, [tenant.id]);
  const sealed = await sealedConnectionOf(control, tenant.id);
  line('Tenant', `${tenant.name} (${tenant.id}), ${tenant.status}`);
  if (database === undefined || sealed === null) {
    line('Database', 'none');
    return;
  }
  line('Database', `${database.databaseName} on cluster ${database.cluster}`);
  if (database.schemaName !== null) line('Schema', database.schemaName);
  line('Stored', `${sealed.slice(0, 24)}… (sealed, ${sealed.length} characters)`);

  const ring = await keyRingOf(config);
  const own = connectionOptions(ring.open(sealed, connectionStringPurpose, tenant.id), ownSession);
  line('Tables', await outcomeOf(() => withClient(own, tablesOf, limits)));

  console.log('\nWith the tenant’s own credentials:');
  const order = { field: 'CREATED_AT', descending: true } as const;
  const { rows } = await listTenants(control, null, {}, order, { limit: 4, backward: false });
  const others = await findTenantDatabases(
    control,
    rows.filter(({ id }) => id !== tenant.id).map(({ id }) => id),
  );
  const names = [database.databaseName, controlDatabase, 'postgres', 'template1'];
  for (const name of new Set([...names, ...others.map((other) => other.databaseName)])) {
    line(`  ${name}`, await outcomeOf(() => withClient({ ...own, database: name }, hello, limits)));
  }
  for (const { schemaName } of [database, ...others.filter((other) => isBeside(other, database))]) {
    if (schemaName === null) continue;
    const outcome = await outcomeOf(() =>
      withClient(own, (client) => lookInto(client, schemaName), limits),
    );
    line(`  schema ${schemaName}`, outcome);
  }
}

/** Whether both share a database. */
function isBeside(other: TenantDatabase, database: TenantDatabase): boolean {
  return other.cluster === database.cluster && other.databaseName === database.databaseName;
}

/** Reads the ledger that is in every tenant's schema. */
async function lookInto(client: pg.Client, schemaName: string): Promise<string> {
  await client.query(`SELECT FROM ${quoteIdentifier(schemaName)}.knex_migrations`);
  return 'opens';
}

async function tablesOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT tablename AS name FROM pg_catalog.pg_tables
     WHERE schemaname = pg_catalog.current_schema()
       AND NOT pg_catalog.starts_with(tablename::pg_catalog.text, 'knex_')
     ORDER BY 1 LIMIT ${tablesShown + 1}`,
  );
  const names = rows.slice(0, tablesShown).map((row) => row.name);
  return [...names, ...(rows.length > tablesShown ? ['…'] : [])].join(', ');
}

async function hello(client: pg.Client): Promise<string> {
  await client.query('SELECT 1');
  return 'opens';
}

/** What came of a connection, or why it was refused. */
async function outcomeOf(connect: () => Promise<string>): Promise<string> {
  try {
    return await connect();
  } catch (error) {
    return `refused: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function line(label: string, text: string): void {
  console.log(`${printable(label).padEnd(46)} ${printable(text)}`);
}
