import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { countTenants, path } from './contract-a.ts';
import { findVectors } from './vectors.ts';

const folder = findVectors('json-parsing');

// JSONTestSuite: `y_` must parse, `n_` must not, `i_` is left to the parser.
describe.skipIf(folder === null)('JSONTestSuite', () => {
  let world: World;
  let gateway: TestGateway;

  beforeAll(async () => {
    world = await createWorld();
    gateway = await world.start();
  });
  afterAll(() => world.close());

  const files = folder === null ? [] : readdirSync(folder).filter((name) => name.endsWith('.json'));
  const read = (file: string): Buffer => readFileSync(join(folder!, file));
  const types = { y: /^(missing|model_attributes_type)$/, n: /^(json_invalid|missing)$/, i: /./ };

  test.for(files)('POST /api/v1/tenants: %s', async (file) => {
    const answer = await gateway.post(path, read(file));
    expect(answer.status).toBe(422);
    const { detail } = answer.json as { detail: { type: string }[] };
    expect(detail[0]?.type).toMatch(types[file.charAt(0) as keyof typeof types]);
  });

  test.for(files)('POST /graphql: %s', async (file) => {
    const accept = { Accept: 'application/graphql-response+json' };
    const answer = await gateway.post('/graphql', read(file), accept);
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({ errors: [{ extensions: { code: 'BAD_REQUEST' } }] });
  });

  test.for(files)('POST /graphql, as a variable: %s', async (file) => {
    const query = 'query ($filter: TenantFilter) { tenants(filter: $filter) { totalCount } }';
    const [begin, end] = JSON.stringify({ query, variables: { filter: 0 } }).split('0') as [
      string,
      string,
    ];
    const body = Buffer.concat([Buffer.from(begin), read(file), Buffer.from(end)]);
    const answer = await gateway.post('/graphql', body);
    expect(answer.status).toBeLessThan(500);
    expect(answer.json).toHaveProperty(answer.text.includes('"errors"') ? 'errors' : 'data');
  });

  test('none of them made a tenant', async () => {
    expect(await countTenants(world)).toBe(0);
  });
});
