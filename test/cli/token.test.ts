import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { startWithTokens, tokenSettings } from '../tokens.ts';
import { runCli } from './run.ts';

let world: World;
let open: TestGateway;
let closed: TestGateway;
let home: string;
let dataDir: string;

beforeAll(async () => {
  world = await createWorld();
  home = await mkdtemp(join(tmpdir(), 'tenantry-token-'));
  dataDir = join(home, 'data'); // not there yet
  open = await world.start({ settings: { DATA_DIR: dataDir } });
  closed = await startWithTokens(world);
});
afterAll(async () => {
  await world.close();
  await rm(home, { recursive: true });
});

const viewer = { query: '{ viewer { kind subject partner roles permissions } }' };
const viewerOf = async (gateway: TestGateway, token: string): Promise<unknown> => {
  const answer = await gateway.post('/graphql', viewer, { Authorization: `Bearer ${token}` });
  return answer.status === 200
    ? (answer.json as { data: { viewer: unknown } }).data.viewer
    : answer.status;
};

describe('npm run -s token', () => {
  test('in open mode prints a token of the local key, which open mode takes', async () => {
    const { code, stdout, stderr } = await runCli('token', { DATA_DIR: dataDir }, [
      ...['--role', 'partner-viewer', '--permission', 'tenant:connect'],
      ...['--partner', 'acme', '--sub', 'alice', '--expires', '2h'],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const token = stdout.trim();
    const { iat = 0, exp = 0 } = decodeJwt(token);
    expect(exp - iat).toBe(7200);
    expect(await viewerOf(open, token)).toEqual({
      kind: 'USER',
      subject: 'alice',
      partner: 'acme',
      roles: ['partner-viewer'],
      permissions: ['tenant:connect', 'tenant:read'],
    });
    expect((await stat(join(dataDir, 'signing.key'))).mode & 0o777).toBe(0o600);
    expect(await viewerOf(closed, token)).toBe(401);
  });

  test.for([
    ['partner-admin', 'sub:local-user'],
    ['platform-admin', null],
  ] as const)('%s is of the partner %s unless one is named', async ([role, partner]) => {
    const { stdout } = await runCli('token', { DATA_DIR: dataDir }, ['--role', role]);
    expect(decodeJwt(stdout.trim())).not.toHaveProperty('partner');
    expect(await viewerOf(open, stdout.trim())).toMatchObject({ partner, roles: [role] });
  });

  test('with JWT_SECRET prints one that is signed with that', async () => {
    const args = ['--role', 'partner-admin', '--partner', 'acme'];
    const { stdout } = await runCli('token', tokenSettings, args);
    expect(await viewerOf(closed, stdout.trim())).toMatchObject({ kind: 'USER', partner: 'acme' });
    expect(await viewerOf(open, stdout.trim())).toBe(401);
  });

  test('has no key to sign with where the issuer is somebody else', async () => {
    const { JWT_SECRET: _, ...settings } = tokenSettings;
    const env = { ...settings, JWT_JWKS_URL: 'https://issuer.test/keys' };
    const { code, stderr } = await runCli('token', env, ['--role', 'partner-admin']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^AUTH_MODE: jwt/);
  });

  test.for<[args: string[], problem: string]>([
    [[], '--role is missing'],
    [['--role', 'root'], '--role is one of: partner-admin'],
    [['--role', 'partner-admin', '--permission', 'all'], '--permission is one of: tenant:create'],
    [['--role', 'partner-admin', '--expires', '0s'], '--expires is a time'],
    [['--role', 'partner-admin', '--expires', '366d'], '--expires is a time'],
    [['--role', 'partner-admin', '--sub', ''], '--sub and --partner are texts'],
    ...['platform', 'sub:x', 'sub:'].map((partner): [string[], string] => [
      ['--role', 'partner-admin', '--partner', partner],
      '--partner must not be platform, or begin with sub:',
    ]),
    [['--nonsense'], 'nonsense'],
  ])('%j is refused with how to use it', async ([args, problem]) => {
    const { code, stdout, stderr } = await runCli('token', { DATA_DIR: dataDir }, args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(problem);
    expect(stderr).toContain('Usage: npm run -s token');
  });
});
