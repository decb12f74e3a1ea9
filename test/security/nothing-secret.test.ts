/**
 * Every operation is driven, with success and without, at the lowest log level and with PostgreSQL
 * logging every statement. Then no secret may be found anywhere but in the answers made to hold it.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  getNamedType,
  isInputObjectType,
  isNonNullType,
  isObjectType,
  isScalarType,
  type GraphQLArgument,
  type GraphQLField,
} from 'graphql';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findEmbeddedUrl } from '../../src/postgres/embedded/url.ts';
import { schema } from '../../src/schema/index.ts';
import {
  endAll,
  freshDataDir,
  startGateway,
  type GatewayProcess,
} from '../start/gateway-process.ts';

/** What is known to be secret, and where from. */
const secrets = new Map<string, string>();
/** All that was answered, but for the fields that hold a secret on purpose. */
const answers: string[] = [];

let dataDir: string;
let gateway: GatewayProcess;
let url: string;
let admin: pg.Client;
let commandLines = '';

const presented = {
  'a bad token': 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWxsb3J5In0.c2VjcmV0LXNpZ25hdHVyZQ',
  'a bad API key': 'Bearer tk_mallory_0123456789abcdefghijABCDEFGHIJ0123456789',
  'a password': 'Basic bWFsbG9yeTpjb3JyZWN0LWhvcnNl',
};
const presentedKey = 'tk_presented_ZYXWVUTSRQPONMLKJIHGFEDCBA987654321098';

/** Fields of an answer that are made to hold a secret: taken out, and looked for elsewhere. */
function takeSecrets(text: string): string {
  return text.replaceAll(
    /"(apiKey|api_key|connectionString)":"([^"]+)"/g,
    (_all, field: string, secret: string) => {
      secrets.set(secret, `${field} of an answer`);
      if (secret.startsWith('postgres')) {
        secrets.set(decodeURIComponent(new URL(secret).password), 'password of a tenant');
      }
      return `"${field}":"***"`;
    },
  );
}

async function send(path: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(`${url}${path}`, init);
  const text = takeSecrets(await response.text());
  answers.push(`${path} ${response.status} ${JSON.stringify([...response.headers])} ${text}`);
  return JSON.parse(text === '' ? 'null' : text);
}

function json(method: string, body?: object, headers: Record<string, string> = {}): RequestInit {
  return {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  };
}

function graphql(query: string, variables: object = {}): Promise<unknown> {
  return send('/graphql', json('POST', { query, variables }));
}

/** A selection of all that is plain in a type, two levels deep. */
function selection(field: GraphQLField<unknown, unknown>, depth = 0): string {
  const type = getNamedType(field.type);
  if (!isObjectType(type)) return '';
  const inner = Object.values(type.getFields())
    .filter(({ args }) => args.every((argument) => !isNonNullType(argument.type)))
    .filter(({ type: of }) => depth < 2 || isScalarType(getNamedType(of)))
    .map((member) => `${member.name} ${selection(member, depth + 1)}`)
    .filter((text) => depth < 2 || !text.includes('{'));
  return inner.length === 0 ? '' : `{ ${inner.join(' ')} }`;
}

/** Something for an argument that must be there: the tenant's id for ids, a text for texts. */
function valueFor({ type }: Pick<GraphQLArgument, 'type'>, id: string): unknown {
  const named = getNamedType(type);
  if (isInputObjectType(named)) {
    return Object.fromEntries(
      Object.values(named.getFields())
        .filter((field) => isNonNullType(field.type))
        .map((field) => [field.name, valueFor(field, id)]),
    );
  }
  const values: Record<string, unknown> = { ID: id, String: 'x', Int: 1, Boolean: true };
  return values[named.name] ?? null;
}

async function drive(root: 'Query' | 'Mutation', id: string): Promise<void> {
  const type = schema.getType(root);
  if (!isObjectType(type)) throw new Error(`no ${root}`);
  for (const field of Object.values(type.getFields())) {
    const args = field.args.filter(
      (argument) => isNonNullType(argument.type) || argument.name === 'id',
    );
    const declared = args.map((argument) => `$${argument.name}: ${String(argument.type)}`);
    const passed = args.map((argument) => `${argument.name}: $${argument.name}`);
    await graphql(
      `${root.toLowerCase()} ${declared.length === 0 ? '' : `(${declared.join()})`} {
        ${field.name}${passed.length === 0 ? '' : `(${passed.join()})`} ${selection(field)} }`,
      Object.fromEntries(args.map((argument) => [argument.name, valueFor(argument, id)])),
    );
  }
}

async function create(input: object): Promise<string> {
  const { data } = (await graphql(
    `
      mutation ($input: CreateTenantInput!) {
        createTenant(input: $input) {
          tenant {
            id
          }
          operation {
            id
            error {
              message
            }
            steps {
              name
            }
          }
          apiKey
          userErrors {
            message
          }
        }
      }
    `,
    { input },
  )) as { data: { createTenant: { tenant: { id: string } | null } } };
  const id = data.createTenant.tenant?.id;
  if (id !== undefined) {
    await graphql(
      'mutation ($id: ID!) { revealTenantConnection(input: { id: $id }) { connectionString } }',
      { id },
    );
  }
  return id ?? '';
}

async function connectAdmin(): Promise<pg.Client> {
  const client = new pg.Client((await findEmbeddedUrl(dataDir))!);
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

beforeAll(async () => {
  dataDir = await freshDataDir();
  const settings = {
    DATA_DIR: dataDir,
    LOG_LEVEL: 'trace',
    LOG_FORMAT: 'json',
    RATE_LIMIT_CREATIONS_PER_MINUTE: '0',
  };
  const before = await startGateway({ settings });
  await before.listening();
  admin = await connectAdmin();
  await admin.query(`ALTER SYSTEM SET log_statement = 'all'`);
  // The server's own flags are terse, and would leave the parameters out.
  await admin.query(`ALTER ROLE CURRENT_USER SET log_error_verbosity = 'verbose'`);
  await admin.end();
  before.signal('SIGTERM');
  await before.ended();
  gateway = await startGateway({ settings });
  url = await gateway.listening();
  admin = await connectAdmin();
  const adminUrl = (await findEmbeddedUrl(dataDir))!;
  secrets.set(adminUrl, 'connection string of the admin');
  secrets.set(decodeURIComponent(new URL(adminUrl).password), 'password of the admin');
  secrets.set((await readFile(join(dataDir, 'encryption.key'), 'utf8')).trim(), 'ENCRYPTION_KEY');
  for (const [what, header] of Object.entries(presented)) {
    secrets.set(header.slice(header.indexOf(' ') + 1), what);
  }
  secrets.set(presentedKey, 'a presented API key');

  const one = await create({ name: 'One', slug: 'secret-one', idempotencyKey: 'one' });
  await create({ name: 'One', slug: 'secret-one', idempotencyKey: 'one' }); // replayed, key and all
  await create({ name: 'Mismatch', idempotencyKey: 'one' });
  await create({ name: '', slug: 'NO SLUG' });
  await create({ name: 'Schema', slug: 'secret-schema', isolation: 'SCHEMA' });
  // A step fails: somebody else's database has its name.
  await admin.query('CREATE DATABASE dbtools_tenant_secret_collides');
  await create({ name: 'Collides', slug: 'secret_collides', databaseNaming: 'SLUG' });
  // A driver's error: a table is away.
  await admin.query('ALTER TABLE control_plane.idempotency_records RENAME TO elsewhere');
  await graphql(`
    mutation {
      createTenant(input: { name: "Broken", idempotencyKey: "broken" }) {
        apiKey
      }
    }
  `);
  await admin.query('ALTER TABLE control_plane.elsewhere RENAME TO idempotency_records');
  // A constraint of the registry itself, whose message holds the row.
  await admin.query(
    `ALTER TABLE control_plane.api_keys ADD CONSTRAINT never CHECK (display = '') NOT VALID`,
  );
  await graphql(`
    mutation {
      createTenant(input: { name: "Never" }) {
        apiKey
      }
    }
  `);
  await admin.query('ALTER TABLE control_plane.api_keys DROP CONSTRAINT never');

  await graphql(
    'mutation ($id: ID!) { updateTenant(input: { id: $id, name: "Two" }) { tenant { name } } }',
    { id: one },
  );
  for (const id of [one, '00000000-0000-4000-8000-000000000000', "' OR 1=1 --"]) {
    await drive('Query', id);
    await drive('Mutation', id);
  }
  for (const Authorization of Object.values(presented)) {
    await send('/graphql', json('POST', { query: '{ viewer { subject } }' }, { Authorization }));
    await send('/api/tenants', { headers: { Authorization } });
  }
  await send('/api/tenants', { headers: { 'X-API-Key': presentedKey } });
  const a = { name: 'secret_a', environment: 'production' };
  await send('/api/v1/tenants', json('POST', a));
  await send('/api/v1/tenants', json('POST', a));
  await send('/api/v1/tenants', json('POST', { name: 1 }));
  await send('/api/tenants', json('POST', { name: 'B', slug: 'secret-b' }));
  await send('/api/tenants', json('POST', { name: 'B', slug: 'secret-b' }));
  await send('/api/tenants?page=1', {});
  await send('/api/tenants/secret-b', {});
  await send('/api/tenants/secret-b', json('DELETE'));
  await send('/api/operations', {});
  for (const path of ['/livez', '/readyz', '/openapi.json']) await send(path, {});
  commandLines = await readFile(`/proc/${gateway.pid}/cmdline`, 'utf8').catch(() => '');
}, 300_000);
afterAll(async () => {
  await admin.end().catch(() => undefined);
  await endAll();
});

/** Which secrets stand in a text, and around what. */
function found(text: string): string[] {
  return [...secrets].flatMap(([secret, what]) => {
    const at = text.indexOf(secret);
    if (at === -1) return [];
    return [`${what}: ${text.slice(Math.max(0, at - 200), at)}<here>`];
  });
}

describe('no secret is', () => {
  test('unknown to this test: keys, passwords, connection strings of several tenants', () => {
    const kinds = [...secrets.values()];
    const count = (what: string) => kinds.filter((kind) => kind === what).length;
    expect(count('password of a tenant')).toBeGreaterThanOrEqual(2);
    expect(count('connectionString of an answer')).toBeGreaterThanOrEqual(2);
    expect(count('apiKey of an answer')).toBeGreaterThanOrEqual(2);
    expect([...secrets.keys()].every((secret) => secret.length >= 16)).toBe(true);
  });

  test('in an answer that is not made to hold it', () => {
    expect(answers.length).toBeGreaterThan(40);
    expect(answers.filter((answer) => answer.includes('GRAPHQL_VALIDATION_FAILED'))).toEqual([]);
    expect(found(answers.join('\n'))).toEqual([]);
  });

  test('in the log', () => {
    expect(gateway.stdout().includes('request failed')).toBe(true);
    expect(found(gateway.stdout())).toEqual([]);
  });

  test('in a table of the control plane: events, audit, jobs, sealed values', async () => {
    const { rows: tables } = await admin.query<{ name: string }>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
       WHERE schemaname IN ('control_plane', 'control_plane_jobs')`,
    );
    let text = '';
    for (const { name } of tables) {
      const { rows } = await admin.query<{ text: string }>(
        `SELECT "row"::text AS text FROM ${name} "row"`,
      );
      text += rows.map((row) => row.text).join('\n');
    }
    expect(['createTenant', 'operationId'].every((word) => text.includes(word))).toBe(true);
    expect(found(text)).toEqual([]);
  });

  test("in PostgreSQL's own log, with every statement and its parameters", async () => {
    const log = await readFile(join(dataDir, 'postgres.log'), 'utf8');
    const telling = ['CREATE ROLE', 'parameters: ', 'operation_steps', 'idempotency_records'];
    expect(telling.filter((text) => !log.toLowerCase().includes(text.toLowerCase()))).toEqual([]);
    expect(found(log)).toEqual([]);
  });

  test('in the arguments of the process', () => {
    expect(found(commandLines)).toEqual([]);
  });
});
