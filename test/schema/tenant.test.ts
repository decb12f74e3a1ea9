import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { permissions } from '../../src/provisioning/caller.ts';
import { makeTenant, type Made } from '../provisioning/tenants.ts';

let world: World;
let gateway: TestGateway;
let made: Made;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  made = await makeTenant(gateway, {
    name: 'Acme Corp',
    slug: 'acme',
    domain: 'Acme.Example.com',
    environment: 'STAGING',
    description: 'Rockets',
    email: 'wile@acme.example.com',
    phoneNumber: '+1 (234) 567-890',
    industry: 'Aerospace',
    partner: 'road-runners',
    deletionProtection: true,
    settings: { features: ['webhooks', 'basic', 'webhooks'], limits: { users: 7 } },
  });
});
afterAll(() => world.close());

const unknown = '00000000-0000-4000-8000-000000000000';
const find = async (args: object): Promise<unknown> => {
  const { tenant } = await gateway.graphql<{ tenant: unknown }>(
    `query ($id: ID, $slug: String, $domain: String) {
      tenant(id: $id, slug: $slug, domain: $domain) { id }
    }`,
    args,
  );
  return tenant;
};

describe('Query.tenant', () => {
  test.for([
    ['id', (): string => made.tenant.id],
    ['id', (): string => made.tenant.id.toUpperCase()],
    ['slug', (): string => 'acme'],
    ['domain', (): string => 'Acme.Example.com'],
    ['domain', (): string => 'acme.EXAMPLE.com'],
  ] as const)('by %s (%#)', async ([key, value]: readonly [string, () => string]) => {
    expect(await find({ [key]: value() })).toEqual({ id: made.tenant.id });
  });

  test.for([
    ['id', unknown],
    ['id', 'acme'],
    ['id', '1'],
    ['id', ''],
    ['id', '\0'],
    ['id', `${unknown}0`],
    ['id', `{${unknown}}`],
    ['id', "' OR '1'='1"],
    ['slug', 'nobody'],
    ['slug', 'ACME'],
    ['slug', ''],
    ['slug', 'acme\0'],
    ['slug', '\ud800'],
    ['slug', 'x'.repeat(10_000)],
    ['domain', 'nobody.example.com'],
    ['domain', 'acme.example.com.'],
    ['domain', ''],
    ['domain', '\0'],
    ['domain', '%'],
  ] as const)('is null for an unknown %s: %j', async ([key, value]) => {
    expect(await find({ [key]: value })).toBeNull();
  });

  test.for([
    {},
    { id: null },
    { id: null, slug: null, domain: null },
    { id: unknown, slug: 'acme' },
    { slug: 'acme', domain: 'acme.example.com' },
    { id: unknown, slug: 'acme', domain: 'x.com' },
  ])('takes exactly one key: %j is BAD_USER_INPUT', async (variables) => {
    const answer = await gateway.post('/graphql', {
      query: `query ($id: ID, $slug: String, $domain: String) {
        tenant(id: $id, slug: $slug, domain: $domain) { id }
      }`,
      variables,
    });
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({
      data: { tenant: null },
      errors: [{ path: ['tenant'], extensions: { code: 'BAD_USER_INPUT' } }],
    });
  });

  test('shows all that was given, and what came of it', async () => {
    const { tenant } = await gateway.graphql<{ tenant: Record<string, unknown> }>(
      `{ tenant(slug: "acme") {
        id number partner name slug environment status domain description email phoneNumber
        industry settings { features limits { users storageGb } } isolation deletionProtection
        version createdAt updatedAt activatedAt deletedAt purgeAt lastActivityAt
        database { cluster databaseName schemaName migrationVersion status sizeBytes }
        apiKeys { id prefix createdAt lastUsedAt expiresAt revokedAt }
        operations { totalCount nodes { id kind status percent tenant { slug } error { code } } }
      } }`,
    );
    const moment = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string;
    const { id } = made.tenant;
    expect(tenant).toEqual({
      id,
      number: 1,
      partner: 'road-runners',
      name: 'Acme Corp',
      slug: 'acme',
      environment: 'STAGING',
      status: 'ACTIVE',
      domain: 'Acme.Example.com',
      description: 'Rockets',
      email: 'wile@acme.example.com',
      phoneNumber: '+1 (234) 567-890',
      industry: 'Aerospace',
      settings: { features: ['webhooks', 'basic'], limits: { users: 7, storageGb: 50 } },
      isolation: 'DATABASE',
      deletionProtection: true,
      version: expect.any(Number) as number,
      createdAt: moment,
      updatedAt: moment,
      activatedAt: moment,
      deletedAt: null,
      purgeAt: null,
      lastActivityAt: null,
      database: {
        cluster: 'default',
        databaseName: `car_${id.replaceAll('-', '_')}`,
        schemaName: null,
        migrationVersion: expect.stringMatching(/^\d{14}_/) as string,
        status: 'PROVISIONED',
        sizeBytes: expect.any(Number) as number,
      },
      apiKeys: [
        {
          id: expect.any(String) as string,
          prefix: expect.stringMatching(/^tk_acme_cor_/) as string,
          createdAt: moment,
          lastUsedAt: null,
          expiresAt: null,
          revokedAt: null,
        },
      ],
      operations: {
        totalCount: 1,
        nodes: [
          {
            id: made.operation.id,
            kind: 'CREATE',
            status: 'SUCCEEDED',
            percent: 100,
            tenant: { slug: 'acme' },
            error: null,
          },
        ],
      },
    });
  });

  test('ApiKey.prefix is no more than the readable beginning of the key', () => {
    const [key] = made.tenant.apiKeys;
    expect(made.apiKey).toContain(key!.prefix);
    expect(made.apiKey!.length - key!.prefix.length).toBeGreaterThanOrEqual(32);
  });
});

test('Query.viewer is the local operator in open mode', async () => {
  const { viewer } = await gateway.graphql('{ viewer { subject kind partner roles permissions } }');
  expect(viewer).toEqual({
    subject: 'local-operator',
    kind: 'OPERATOR',
    partner: null,
    roles: ['platform-admin'],
    permissions: [...permissions].sort(),
  });
});
