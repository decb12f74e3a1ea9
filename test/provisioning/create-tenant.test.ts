import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import type { IsolationKind } from '../../src/control/tenants.ts';
import { allStepsOf } from './failpoints.ts';
import {
  asTenant,
  connectionString,
  makeTenant,
  placeOf,
  sealedConnection,
  type Made,
} from './tenants.ts';
import { endedEvents, expectOrderly, tracesOf } from './traces.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

type Input = Readonly<{ slug: string; databaseNaming?: string; schemaName?: string }>;
type Place = (tenantId: string) => string;

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const tenantColumns = [
  'activity_log.id uuid not null default gen_random_uuid()',
  'activity_log.action character varying(100) not null',
  'activity_log.entity_type character varying(50)',
  'activity_log.entity_id uuid',
  'activity_log.details jsonb',
  'activity_log.created_at timestamp with time zone not null default CURRENT_TIMESTAMP',
  'settings.key character varying(100) not null',
  'settings.value jsonb not null',
  'settings.updated_at timestamp with time zone not null default CURRENT_TIMESTAMP',
];
const newestMigration = '20250102000001_create_activity_log';

describe.each<{ naming: string; isolation: IsolationKind; input: Input; place: Place }>([
  {
    naming: 'DATABASE isolation, databaseNaming TENANT_ID',
    isolation: 'DATABASE',
    input: { slug: 'acme-by-id' },
    place: (id) => `car_${id.replaceAll('-', '_')}`,
  },
  {
    naming: 'DATABASE isolation, databaseNaming SLUG',
    isolation: 'DATABASE',
    input: { slug: 'acme-by_slug-2', databaseNaming: 'SLUG' },
    place: () => 'dbtools_tenant_acme-by_slug-2',
  },
  {
    naming: 'SCHEMA isolation',
    isolation: 'SCHEMA',
    input: { slug: 'acme-by_slug-3' },
    place: () => 'tenant_acme_by_slug_3',
  },
  {
    naming: 'SCHEMA isolation, schemaName',
    isolation: 'SCHEMA',
    input: { slug: 'acme-by-choice', schemaName: 'Acme_Corp_2' },
    place: () => 'Acme_Corp_2',
  },
])('Mutation.createTenant, $naming', ({ input, isolation, place }) => {
  const allSteps = allStepsOf(isolation);
  const databaseName = (id: string): string =>
    isolation === 'SCHEMA' ? world.sharedDatabase : place(id);
  let made: Made;

  beforeAll(async () => {
    made = await makeTenant(gateway, { name: 'Acme Corp', isolation, ...input });
  });

  test('answers with the active tenant, its key and the operation that ended', () => {
    expect(made.userErrors).toEqual([]);
    expect(made.tenant).toMatchObject({ name: 'Acme Corp', slug: input.slug, status: 'ACTIVE' });
    expect(made.operation).toMatchObject({ status: 'SUCCEEDED', percent: 100, error: null });
    expect(made.apiKey).toMatch(/^tk_/);
  });

  test('names its place as the naming says, and nothing is left under another name', async () => {
    const { id, database } = made.tenant;
    expect(database.databaseName).toBe(databaseName(id));
    expect(placeOf(made)).toBe(place(id));
    expect((await tracesOf(world, made.operation.id)).places).toEqual([place(id)]);
  });

  test('makes the tables of the tenant migrations, column by column', async () => {
    const { id } = made.tenant;
    const columns = await asTenant(world, id, (client) =>
      client.query<{ definition: string }>(
        `SELECT format('%s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' not null' END,
                  ' default ' || pg_get_expr(d.adbin, d.adrelid)) AS definition
         FROM pg_class c
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relkind = 'r'
           AND c.relname NOT LIKE 'knex%'
         ORDER BY c.relname, a.attnum`,
      ),
    );
    expect(columns.rows.map((row) => row.definition)).toEqual(tenantColumns);
    const keys = await asTenant(world, id, (client) =>
      client.query<{ key: string }>(
        `SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) AS key FROM pg_constraint
         WHERE contype = 'p' AND connamespace = quote_ident(current_schema())::regnamespace
           AND conrelid::regclass::text IN ('settings', 'activity_log')`,
      ),
    );
    expect(keys.rows.map((row) => row.key).toSorted()).toEqual([
      'activity_log PRIMARY KEY (id)',
      'settings PRIMARY KEY (key)',
    ]);
  });

  test('keeps the ledger in its place and the version in the registry', async () => {
    const ledger = await asTenant(world, made.tenant.id, (client) =>
      client.query<{ name: string }>('SELECT name FROM knex_migrations ORDER BY id'),
    );
    expect(ledger.rows.map((row) => row.name)).toEqual([
      '20250101000001_create_settings',
      newestMigration,
    ]);
    expect(made.tenant.database.migrationVersion).toBe(newestMigration);
  });

  test('seals the connection string, which logs in as the login role', async () => {
    const { id } = made.tenant;
    const sealed = await sealedConnection(world, id);
    const url = new URL(await connectionString(world, id));
    expect(sealed).toMatch(/^v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]+$/);
    for (const secret of [url.password, url.host, url.username, 'postgres', place(id)]) {
      expect(sealed).not.toContain(secret);
    }
    expect(url.password.length).toBeGreaterThanOrEqual(22); // 128 bits in base64url
    const session = await asTenant(world, id, (client) =>
      client.query(
        'SELECT current_database() AS database, current_schema() AS schema, session_user AS user',
      ),
    );
    const schema = isolation === 'SCHEMA' ? place(id) : 'public';
    expect(session.rows).toEqual([{ database: databaseName(id), schema, user: url.username }]);
  });

  test('tells every step in order, 100 percent only at the end', async () => {
    const rows = await endedEvents(world, made.operation.id);
    expectOrderly(rows);
    expect(rows.map((row) => `${row.step} ${row.status}`)).toEqual(
      allSteps.flatMap((step) => [`${step} STARTED`, `${step} SUCCEEDED`]),
    );
    expect(made.operation.steps).toEqual(
      allSteps.map((name) => ({ name, status: 'SUCCEEDED', attempts: 1 })),
    );
  });

  test('keeps the API key as a hash, and nothing secret of the operation', async () => {
    const key = made.apiKey ?? '';
    const rows = await world.query<{ hash: Buffer; row: string; active: boolean }>(
      `SELECT hash, to_jsonb(k)::text AS row, activated_at IS NOT NULL AS active
       FROM control_plane.api_keys k WHERE tenant_id = $1`,
      [made.tenant.id],
    );
    expect(rows.map((row) => row.hash)).toEqual([createHash('sha256').update(key).digest()]);
    expect(rows[0]).toMatchObject({ active: true });
    expect(rows[0]?.row).not.toContain(key);
    expect(made.tenant.apiKeys).toHaveLength(1);
    expect(key.startsWith(made.tenant.apiKeys[0]?.prefix ?? '?')).toBe(true);
    expect(await tracesOf(world, made.operation.id)).toMatchObject({
      secrets: null,
      openJobs: 0,
      databaseStatus: 'PROVISIONED',
    });
  });

  test('writes two audit rows', async () => {
    const rows = await world.query(
      `SELECT actor, partner, action, from_status, to_status, outcome, ip_address, request_id
       FROM control_plane.audit_log WHERE tenant_id = $1 ORDER BY id`,
      [made.tenant.id],
    );
    const both = { partner: 'platform', request_id: expect.stringMatching(uuid) as string };
    expect(rows).toMatchObject([
      { ...both, action: 'createTenant', from_status: null, to_status: 'PROVISIONING' },
      { ...both, action: 'activateTenant', from_status: 'PROVISIONING', to_status: 'ACTIVE' },
    ]);
    expect(rows).toMatchObject([{ outcome: 'ACCEPTED' }, { outcome: 'SUCCEEDED' }]);
  });
});
