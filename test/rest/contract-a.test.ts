import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
});
afterAll(() => world.close());

const path = '/api/v1/tenants';

describe('POST /api/v1/tenants', () => {
  test('answers 201 once the database is there', async () => {
    const answer = await gateway.post(path, { name: 'acme_corp', environment: 'production' });
    expect(answer.status).toBe(201);
    expect(answer.json).toEqual({
      tenant_id: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/) as string,
      name: 'acme_corp',
      status: 'active',
    });
  });
});
