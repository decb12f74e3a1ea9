import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';

let world: World;
let gateway: TestGateway;
/** Newest first. */
const made: string[] = [];

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  for (const name of ['First', 'Second', 'Third']) {
    made.unshift((await makeTenant(gateway, { name })).operation.id);
  }
});
afterAll(() => world.close());

interface List {
  readonly operations: readonly Record<string, unknown>[];
  readonly next: string | null;
}

async function list(query = ''): Promise<List> {
  const answer = await gateway.get(`/api/operations${query}`);
  expect(answer.status).toBe(200);
  return answer.json as List;
}

const idsOf = ({ operations }: List) => operations.map(({ id }) => id);

describe('GET /api/operations', () => {
  test('all of them, newest first, as GET /api/operations/{id} shows each', async () => {
    const all = await list();
    expect(idsOf(all)).toEqual(made);
    expect(all.next).toBeNull();
    const one = await gateway.get(`/api/operations/${made[0]!}`);
    expect(all.operations[0]).toEqual(one.json);
  });

  test('in pages, to the end', async () => {
    const first = await list('?limit=2');
    expect(idsOf(first)).toEqual(made.slice(0, 2));
    const second = await list(`?limit=2&after=${first.next!}`);
    expect(idsOf(second)).toEqual(made.slice(2));
    expect(second.next).toBeNull();
    expect(idsOf(await list('?limit=100'))).toEqual(made);
    expect((await list('?limit=3')).next).toBeNull();
  });

  test.each(['0', '-1', '101', '1000000', '99999999999999999999', '1.5', 'ten', '', '0x10', '+5'])(
    'limit %j is 400',
    async (limit) => {
      const answer = await gateway.get(`/api/operations?limit=${encodeURIComponent(limit)}`);
      expect(answer.status).toBe(400);
      expect(answer.json).toMatchObject({
        error: {
          code: 'VALIDATION_ERROR',
          details: [{ field: 'limit', message: 'limit must be a whole number from 1 to 100' }],
        },
      });
    },
  );

  test.each(['abc', 'WyJhIiwiYiJd', "'", '\0', ''])('after %j is 400', async (after) => {
    const answer = await gateway.get(`/api/operations?after=${encodeURIComponent(after)}`);
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({ error: { code: 'VALIDATION_ERROR' } });
  });

  test('other methods are not allowed', async () => {
    const answer = await gateway.post('/api/operations', {});
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('GET, HEAD');
  });
});
