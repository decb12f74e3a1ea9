import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { databaseExists, path, registered, uuid } from './contract-a.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

describe('POST /api/v1/tenants', () => {
  test.for(['development', 'staging', 'production'])(
    '201 once the database of a %s tenant is there, and nothing else in the body',
    async (environment) => {
      const name = `acme ${environment}`;
      const answer = await gateway.post(path, { name, environment });
      expect(answer.status).toBe(201);
      expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
      expect(answer.json).toEqual({
        tenant_id: expect.stringMatching(uuid) as string,
        name,
        status: 'active',
      });
      const { tenant_id: id } = answer.json as { tenant_id: string };
      expect(await databaseExists(world, id)).toBe(true);
      expect(await registered(gateway, id)).toEqual({
        name,
        environment: environment.toUpperCase(),
        status: 'ACTIVE',
        isolation: 'DATABASE',
        // What was made by this contract gets an API key only when one is asked for.
        apiKeys: [],
        database: {
          databaseName: `car_${id.replaceAll('-', '_')}`,
          schemaName: null,
          status: 'PROVISIONED',
        },
      });
    },
  );

  test('400 for a name that is in use, whatever the environment', async () => {
    const body = { name: 'taken', environment: 'production' };
    expect((await gateway.post(path, body)).status).toBe(201);
    for (const environment of ['production', 'staging']) {
      const answer = await gateway.post(path, { ...body, environment });
      expect(answer.status).toBe(400);
      expect(answer.json).toEqual({ detail: "Tenant with name 'taken' already exists" });
    }
  });

  test('names that differ in case, space or Unicode form are different names', async () => {
    const names = ['same', 'Same', 'same ', ' same', 'Ame\u0301lie', 'Am\u00e9lie'];
    for (const name of names) {
      const answer = await gateway.post(path, { name, environment: 'staging' });
      expect(answer).toMatchObject({ status: 201, json: { name } });
    }
  });

  test('a name that GraphQL made without uniqueName is taken too', async () => {
    await gateway.graphql(
      'mutation { createTenant(input: { name: "by GraphQL" }) { userErrors { code } } }',
    );
    const answer = await gateway.post(path, { name: 'by GraphQL', environment: 'staging' });
    expect(answer.json).toEqual({ detail: "Tenant with name 'by GraphQL' already exists" });
  });

  test('of 20 equal requests at once, one is answered 201', async () => {
    const body = { name: 'raced', environment: 'production' };
    const answers = await Promise.all(Array.from({ length: 20 }, () => gateway.post(path, body)));
    const made = answers.filter(({ status }) => status === 201);
    const refused = answers.filter(({ status }) => status === 400);
    expect(made).toHaveLength(1);
    expect(refused).toHaveLength(19);
    for (const { json } of refused) {
      expect(json).toEqual({ detail: "Tenant with name 'raced' already exists" });
    }
    const rows = await world.query('SELECT FROM control_plane.tenants WHERE name = $1', ['raced']);
    expect(rows).toHaveLength(1);
  });

  test.for([
    ['unknown members', { plan: 'gold', tenant_id: 'mine', status: 'failed' }],
    ['a null member that is unknown', { schema_name: null }],
  ] as const)('%s are ignored', async ([what, extra]) => {
    const name = `with ${what}`;
    const answer = await gateway.post(path, { name, environment: 'staging', ...extra });
    expect(answer).toMatchObject({ status: 201, json: { name, status: 'active' } });
  });

  test.for(['__proto__', 'constructor', 'prototype'])(
    'a member called %s does no harm',
    async (member) => {
      const name = `with ${member}`;
      const text = `{"${member}": {"name": "other", "polluted": true}, "name": "${name}", "environment": "staging"}`;
      const answer = await gateway.post(path, text);
      expect(answer).toMatchObject({ status: 201, json: { name } });
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    },
  );

  test('of a member given twice, the last counts', async () => {
    const answer = await gateway.post(
      path,
      '{"name": "first", "name": "last", "environment": "staging"}',
    );
    expect(answer.json).toMatchObject({ name: 'last' });
  });

  test.for([
    'application/json; charset=utf-8',
    'application/json;charset="UTF-8"',
    'Application/JSON',
    'application/json; profile="x"',
  ])('Content-Type %s is taken', async (type, { task }) => {
    const body = { name: task.id, environment: 'staging' };
    expect(await gateway.post(path, body, { 'Content-Type': type })).toMatchObject({ status: 201 });
  });
});
