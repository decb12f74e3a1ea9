import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../harness.ts';

let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

describe('GET /portal', () => {
  test('is one page that runs what stands in it, and nothing else', async () => {
    const gateway = await world.start();
    const { headers, status, text } = await gateway.get('/portal');
    expect(status).toBe(200);
    expect(headers.get('content-type')).toBe('text/html; charset=utf-8');
    const policy = headers.get('content-security-policy') ?? '';
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    for (const element of ['script', 'style']) {
      const [, content] = new RegExp(`<${element}>(.*?)</${element}>`, 's').exec(text)!;
      const hash = createHash('sha256').update(content!).digest('base64');
      expect(policy).toContain(`${element}-src 'sha256-${hash}'`);
    }
    expect(text).not.toMatch(/\s(src|style)=|<link rel="stylesheet"|https?:\/\//);
  });

  test('is off with GRAPHIQL', async () => {
    const gateway = await world.start({ settings: { GRAPHIQL: 'off' } });
    expect((await gateway.get('/portal')).status).toBe(404);
    expect((await gateway.get('/openapi.json')).text).not.toContain('/portal');
  });
});
