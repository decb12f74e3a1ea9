import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';
import { exchange } from '../http/wire.ts';
import { bearer, startWithTokens } from '../tokens.ts';

let world: World;
let url: string;
beforeAll(async () => {
  world = await createWorld();
  ({ url } = await startWithTokens(world));
});
afterAll(() => world.close());

const routes = [
  ['POST', '/api/v1/tenants', 422],
  ['POST', '/api/tenants', 400],
  ['POST', '/api/provisioning/tenants', 400],
] as const;
const bodies = ['{', '[]', '{}', '{"name": 1, "company_name": 1}'];

test.each(routes.flatMap((route) => bodies.map((body) => [...route, body] as const)))(
  '%s %s: who may not create learns no rule, who may is told %s, of %s',
  async (method, path, status, body) => {
    const ask = async (roles: string[]): Promise<number> => {
      const headers = { 'Content-Type': 'application/json', ...(await bearer({ roles })) };
      return (await exchange(url, { method, path, headers, body })).status;
    };
    expect(await ask(['partner-viewer'])).toBe(403);
    expect(await ask(['partner-admin'])).toBe(status);
  },
);
