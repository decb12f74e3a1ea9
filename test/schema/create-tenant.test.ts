import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { createTenant, type UserError } from '../provisioning/tenants.ts';
import { countTenants } from '../rest/contract-a.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const invalid = (message: string, ...path: string[]): UserError => ({
  code: 'INVALID',
  message,
  field: ['input', ...path],
});
const slugRule =
  'slug must be lower-case letters and digits in groups joined by single "-" or "_", beginning with a letter';
const reserved =
  'slug must not be a reserved word (batch, health, status, operations) or look like a UUID';
const domainRule =
  'domain must be labels of letters, digits and inner hyphens, then a top-level label of 2 or more letters';
const phoneRule =
  'phoneNumber must be digits, with an optional leading "+" and spaces, parentheses, dots, slashes or hyphens';
const schemaRules = {
  pattern: 'must be letters without marks, digits and _, not beginning with a digit',
  reserved:
    'is reserved (public, information_schema, and what begins with pg_, sb_, tpl_ or control_plane)',
  length: 'must have at most 63 bytes',
} as const;
const users = (value: number): object => ({ settings: { limits: { users: value } } });
const storage = (value: number): object => ({ settings: { limits: { storageGb: value } } });
const usersRule = invalid(
  'users must be a whole number from 1 to 10000',
  'settings',
  'limits',
  'users',
);
const storageRule = invalid(
  'storageGb must be a whole number from 1 to 1000',
  'settings',
  'limits',
  'storageGb',
);
const featuresRule =
  'features must be out of basic, analytics, reporting, advanced_security, api_access, webhooks';

describe('Mutation.createTenant: an input that breaks a rule', () => {
  test.for<[input: object, expected: UserError]>([
    [{ name: '' }, invalid('name must have 1 to 255 characters', 'name')],
    [{ name: 'x'.repeat(256) }, invalid('name must have 1 to 255 characters', 'name')],
    [{ name: '🐘'.repeat(256) }, invalid('name must have 1 to 255 characters', 'name')],
    [{ name: 'a\0' }, invalid('name must not contain the NUL character', 'name')],
    [
      { name: '\ud800' },
      invalid('name must be well-formed Unicode (lone surrogate found)', 'name'),
    ],
    ...[
      '',
      ' ',
      'a b',
      'Acme',
      "a'b",
      'a"b',
      'a;b',
      'a--b',
      'a-_b',
      '-a',
      'a-',
      '_a',
      '1a',
      'a.b',
      'a/b',
      'a\\b',
      'a\0b',
      'é',
      'а', // Cyrillic
      'a\n',
      "x'; DROP DATABASE postgres; --",
      '../../x',
      '%00',
      '${x}',
    ].map((slug): [object, UserError] => [{ slug }, invalid(slugRule, 'slug')]),
    [{ slug: 'x'.repeat(49) }, invalid('slug must have at most 48 characters', 'slug')],
    [{ slug: 'x'.repeat(100_000) }, invalid('slug must have at most 48 characters', 'slug')],
    ...['batch', 'health', 'status', 'operations', 'abcdef01-2345-6789-abcd-ef0123456789'].map(
      (slug): [object, UserError] => [{ slug }, invalid(reserved, 'slug')],
    ),
    [
      { schemaName: 'acme' },
      invalid('schemaName belongs to SCHEMA isolation; this tenant has DATABASE', 'schemaName'),
    ],
    [
      { isolation: 'DATABASE', schemaName: 'acme' },
      invalid('schemaName belongs to SCHEMA isolation; this tenant has DATABASE', 'schemaName'),
    ],
    ...(
      [
        [schemaRules.pattern, ['1a', 'a-b', 'a b', '', 'é', 'a"b', `a'b`, 'a.b', 'a\0', '"a"']],
        [
          schemaRules.reserved,
          ['public', 'Public', 'pg_x', 'PG_X', 'information_schema', 'sb_1', 'tpl_1'],
        ],
        [schemaRules.reserved, ['control_plane', 'control_plane_jobs']],
        [schemaRules.length, ['x'.repeat(64)]],
      ] as const
    ).flatMap(([rule, names]) =>
      names.map((schemaName): [object, UserError] => [
        { isolation: 'SCHEMA', schemaName },
        invalid(`Invalid schema name: ${schemaName.slice(0, 63)} (${rule})`, 'schemaName'),
      ]),
    ),
    [
      { isolation: 'SCHEMA', databaseNaming: 'SLUG' },
      invalid(
        'databaseNaming belongs to DATABASE isolation; this tenant has SCHEMA',
        'databaseNaming',
      ),
    ],
    [{ cluster: 'nowhere' }, invalid('cluster must be one of: default', 'cluster')],
    [{ cluster: '' }, invalid('cluster must have 1 to 255 characters', 'cluster')],
    [{ cluster: 'a\0' }, invalid('cluster must not contain the NUL character', 'cluster')],
    [{ partner: '' }, invalid('partner must have 1 to 255 characters', 'partner')],
    [{ partner: 'p'.repeat(256) }, invalid('partner must have 1 to 255 characters', 'partner')],
    [{ partner: '\0' }, invalid('partner must not contain the NUL character', 'partner')],
    ...['acme', 'acme.c', '-a.com', 'a-.com', 'a..com', '.com', 'acme.com.', 'a b.com', 'a_b.com']
      .concat(['acme.com/x', 'acme.com:80', 'http://acme.com', 'münchen.de', 'acme.c0m', 'a\0.com'])
      .map((domain): [object, UserError] => [{ domain }, invalid(domainRule, 'domain')]),
    [{ domain: '' }, invalid(domainRule, 'domain')],
    [
      { domain: `${'a.'.repeat(127)}com` },
      invalid('domain must have at most 255 characters', 'domain'),
    ],
    [
      { description: 'x'.repeat(4001) },
      invalid('description must have 1 to 4000 characters', 'description'),
    ],
    [
      { description: '\0' },
      invalid('description must not contain the NUL character', 'description'),
    ],
    [{ email: 'x' }, invalid('email must be a valid email address', 'email')],
    [{ email: 'a b@x.com' }, invalid('email must be a valid email address', 'email')],
    [
      { email: `a@${'b'.repeat(250)}.com` },
      invalid('email must have at most 255 characters', 'email'),
    ],
    [{ phoneNumber: 'call me' }, invalid(phoneRule, 'phoneNumber')],
    [{ phoneNumber: '+' }, invalid(phoneRule, 'phoneNumber')],
    [{ phoneNumber: '' }, invalid(phoneRule, 'phoneNumber')],
    [
      { phoneNumber: '1'.repeat(51) },
      invalid('phoneNumber must have at most 50 characters', 'phoneNumber'),
    ],
    [{ industry: 'x'.repeat(256) }, invalid('industry must have 1 to 255 characters', 'industry')],
    [
      { settings: { features: ['basic', 'root'] } },
      invalid(featuresRule, 'settings', 'features', '1'),
    ],
    [{ settings: { features: ['__proto__'] } }, invalid(featuresRule, 'settings', 'features', '0')],
    [users(0), usersRule],
    [users(-1), usersRule],
    [users(10_001), usersRule],
    [storage(0), storageRule],
    [storage(1001), storageRule],
    [
      { idempotencyKey: '' },
      invalid('idempotencyKey must have 1 to 255 characters', 'idempotencyKey'),
    ],
    [
      { idempotencyKey: 'k'.repeat(256) },
      invalid('idempotencyKey must have 1 to 255 characters', 'idempotencyKey'),
    ],
    [
      { idempotencyKey: 'a\0' },
      invalid('idempotencyKey must not contain the NUL character', 'idempotencyKey'),
    ],
  ])('%j', async ([input, expected]) => {
    const before = await countTenants(world);
    const payload = await createTenant(gateway, { name: 'acme', ...input });
    const { userErrors } = payload;
    expect(userErrors).toContainEqual(expected);
    // A text may break two rules about itself.
    const blamed = new Set(userErrors.map(({ field }) => field?.join('.')));
    blamed.add(expected.field?.join('.'));
    expect([...blamed]).toEqual([expected.field?.join('.')]);
    expect(payload).toMatchObject({ tenant: null, operation: null, apiKey: null });
    expect(await countTenants(world)).toBe(before);
  });
});

describe('Mutation.createTenant: bad input', () => {
  test('all problems are told at once, each with its field, and HTTP is 200', async () => {
    const answer = await gateway.post('/graphql', {
      query: `mutation ($input: CreateTenantInput!) {
        createTenant(input: $input) { tenant { id } userErrors { code field } }
      }`,
      variables: {
        input: {
          name: '',
          slug: 'A B',
          schemaName: 'x',
          domain: 'x',
          email: 'x',
          phoneNumber: 'x',
          industry: '',
          description: '',
          settings: { features: ['x', 'basic', 'y'], limits: { users: 0, storageGb: 0 } },
        },
      },
    });
    expect(answer.status).toBe(200);
    const fields = ['name', 'slug', 'domain', 'description', 'email', 'phoneNumber', 'industry'];
    const nested = ['features.0', 'features.2', 'limits.users', 'limits.storageGb'];
    const expected = [...fields, ...nested.map((path) => `settings.${path}`), 'schemaName'];
    const { data } = answer.json as {
      data: { createTenant: { tenant: null; userErrors: { code: string; field: string[] }[] } };
    };
    const { tenant, userErrors } = data.createTenant;
    expect(tenant).toBeNull();
    expect(userErrors.map(({ field }) => field.slice(1).join('.'))).toEqual(expected);
    expect(new Set(userErrors.map(({ code }) => code))).toEqual(new Set(['INVALID']));
  });

  test('the key in the input and a different one in the header contradict one another', async () => {
    const answer = await gateway.post(
      '/graphql',
      {
        query: `mutation { createTenant(input: { name: "x", idempotencyKey: "a" }) {
          userErrors { code field message }
        } }`,
      },
      { 'Idempotency-Key': 'b' },
    );
    const message = 'idempotencyKey and the Idempotency-Key header differ';
    const userErrors = [invalid(message, 'idempotencyKey')];
    expect(answer.json).toEqual({ data: { createTenant: { userErrors } } });
  });

  test('null means absent, for every field that has no need of a value', async () => {
    const { __type: type } = await gateway.graphql<{ __type: { inputFields: { name: string }[] } }>(
      '{ __type(name: "CreateTenantInput") { inputFields { name } } }',
    );
    const nulls = Object.fromEntries(type.inputFields.map(({ name }) => [name, null]));
    const { tenant, userErrors } = await createTenant(gateway, { ...nulls, name: 'nulls' });
    expect(userErrors).toEqual([]);
    expect(tenant).toMatchObject({ name: 'nulls', slug: 'nulls', status: 'ACTIVE', domain: null });
  });
});
