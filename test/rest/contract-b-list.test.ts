import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;
const slugs = ['list-a', 'list-b', 'list-c', 'list-d', 'list-e'];

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  for (const slug of slugs) await gateway.post('/api/tenants', { name: slug, slug });
});
afterAll(() => world.close());

interface Listed {
  readonly tenants: readonly { readonly slug: string; readonly status: string }[];
  readonly pagination: object;
}

async function list(query: string): Promise<Listed & { readonly link: Record<string, string> }> {
  const answer = await gateway.get(`/api/tenants${query}`);
  expect(answer.status).toBe(200);
  const link = Object.fromEntries(
    (answer.headers.get('link') ?? '').split(', ').map((part) => {
      const [, target = '', rel = ''] = /^<(.*)>; rel="(.*)"$/.exec(part) ?? [];
      return [rel, target];
    }),
  );
  return { ...(answer.json as Listed), link };
}

describe('GET /api/tenants', () => {
  test('shows all with their status, newest last', async () => {
    const { tenants, pagination } = await list('');
    expect(tenants.map(({ slug }) => slug)).toEqual(slugs);
    expect(pagination).toEqual({ page: 1, limit: 50, total: 5, pages: 1 });
  });

  test('pages, with links that lead on', async () => {
    const first = await list('?page=1&limit=2');
    expect(first.pagination).toEqual({ page: 1, limit: 2, total: 5, pages: 3 });
    expect(Object.keys(first.link)).toEqual(['first', 'next', 'last']);
    const seen = [...first.tenants];
    let next = first.link['next'];
    while (next !== undefined) {
      const page = await list(next.slice(next.indexOf('?')));
      seen.push(...page.tenants);
      next = page.link['next'];
    }
    expect(seen.map(({ slug }) => slug)).toEqual(slugs);
    const beyond = await list('?page=1000000&limit=2');
    expect(beyond.tenants).toEqual([]);
    expect(Object.keys(beyond.link)).toEqual(['first', 'prev', 'last']);
    expect(beyond.link['prev']).toBe('/api/tenants?page=3&limit=2');
  });

  test.each(['page=0', 'page=-1', 'page=1.5', 'page=x', 'page=', 'page=99999999999'])(
    'answers 400 to %s',
    async (query) => {
      const answer = await gateway.get(`/api/tenants?${query}`);
      expect(answer.status).toBe(400);
      expect(answer.json).toMatchObject({
        error: { code: 'VALIDATION_ERROR', details: [{ field: 'page' }] },
      });
    },
  );

  test.each(['limit=0', 'limit=-1', 'limit=101', 'limit=1000000'])(
    'answers 400 to %s',
    async (query) => {
      const answer = await gateway.get(`/api/tenants?${query}`);
      expect(answer.status).toBe(400);
      expect(answer.json).toMatchObject({ error: { details: [{ field: 'limit' }] } });
    },
  );

  test('shows deleted tenants, and neither failed nor purged ones', async () => {
    await fetch(`${gateway.url}/api/tenants/list-b`, { method: 'DELETE' });
    await world.query(`UPDATE control_plane.tenants SET status = 'FAILED', activated_at = NULL
      WHERE slug = 'list-c'`);
    const { tenants } = await list('');
    expect(tenants.map(({ slug, status }) => `${slug} ${status}`)).toEqual([
      'list-a active',
      'list-b deleted',
      'list-d active',
      'list-e active',
    ]);
  });
});
