import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError, describeConfig, readConfig } from '../../src/config.ts';
import { configuredClusters } from '../../src/app/clusters.ts';

const url = 'postgres://admin:swordfish@db.example.com:5432/postgres';
const short = {
  TENANT_DB_HOST: 'db.example.com',
  TENANT_DB_USER: 'admin',
  TENANT_DB_PASSWORD: 'swordfish',
};

function problemsOf(env: Record<string, string>): string[] {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n');
    throw error;
  }
  return [];
}

const listed = (...entries: unknown[]): Record<string, string> => ({
  CLUSTERS: JSON.stringify(entries),
});
const clustersOf = (env: Record<string, string>) =>
  configuredClusters(readConfig(env), 'postgres://control/plane');

describe('CLUSTERS', () => {
  test('is a list with defaults', () => {
    const all = {
      name: 'eu-2',
      url,
      weight: 0.5,
      maxTenants: 5000,
      publicHost: 'tenants.example.com',
      publicPort: 6432,
      sslmode: 'verify-full',
    };
    expect(clustersOf(listed({ name: 'eu-1', url }, all))).toEqual({
      setting: 'CLUSTERS',
      own: false,
      list: [
        {
          name: 'eu-1',
          url,
          weight: 1,
          maxTenants: null,
          publicAddress: { host: null, port: null, sslmode: null },
        },
        {
          name: 'eu-2',
          url,
          weight: 0.5,
          maxTenants: 5000,
          publicAddress: { host: 'tenants.example.com', port: 6432, sslmode: 'verify-full' },
        },
      ],
    });
  });

  test.each<[string, string]>([
    ['swordfish', 'must be a JSON list of clusters'],
    ['[]', 'must be a JSON list of clusters'],
    ['{"name": "eu-1"}', 'must be a JSON list of clusters'],
    ['["swordfish"]', 'entry 1: must be an object'],
  ])('refuses %s', (text, rule) => {
    const problems = problemsOf({ CLUSTERS: text });
    expect(problems).toEqual([expect.stringContaining(`CLUSTERS: ${rule}`)]);
    expect(problems.join()).not.toContain('swordfish');
  });

  test.each<[string, object, string]>([
    ['no name', { name: undefined }, 'entry 1: name is required'],
    ['no url', { url: undefined }, 'entry 1 (eu-1): url is required'],
    ['a name with a space', { name: 'eu 1' }, 'entry 1: name must be 1 to 63 letters, digits'],
    ['a name that ends in -', { name: 'eu-' }, 'entry 1: name must be 1 to 63 letters, digits'],
    ['a name that is a number', { name: 1 }, 'entry 1: name is required'],
    ['a url of the web', { url: 'https://swordfish' }, 'entry 1 (eu-1): url must have the form'],
    [
      'a url without database',
      { url: 'postgres://u:swordfish@h' },
      'entry 1 (eu-1): url must name',
    ],
    ['a weight below 0', { weight: -1 }, 'entry 1 (eu-1): weight must be a number from 0'],
    ['a weight in words', { weight: 'much' }, 'entry 1 (eu-1): weight must be a number from 0'],
    ['half a tenant', { maxTenants: 1.5 }, 'entry 1 (eu-1): maxTenants must be a whole number'],
    ['a port of 0', { publicPort: 0 }, 'entry 1 (eu-1): publicPort must be a whole number from 1'],
    ['a public URL', { publicHost: 'https://x' }, 'entry 1 (eu-1): publicHost must be an address'],
    ['an unknown sslmode', { sslmode: 'on' }, 'entry 1 (eu-1): sslmode must be one of: disable,'],
    [
      'an unknown field',
      { maxTenant: 1 },
      'entry 1 (eu-1): unknown field maxTenant; there are name',
    ],
  ])('refuses %s, naming entry, field and rule', (_what, change, rule) => {
    const problems = problemsOf(listed({ name: 'eu-1', url, ...change }));
    expect(problems).toEqual([expect.stringContaining(`CLUSTERS: ${rule}`)]);
    expect(problems.join()).not.toContain('swordfish');
  });

  test('tells all problems at once, and names that are there twice', () => {
    const problems = problemsOf(
      listed({ name: 'eu-1', url }, { name: 'eu-1', url, weight: -1, publicPort: 0 }),
    );
    expect(problems).toEqual([
      expect.stringContaining('entry 2 (eu-1): weight'),
      expect.stringContaining('entry 2 (eu-1): publicPort'),
      expect.stringContaining('entry 2 (eu-1): name must be its own; entry 1 has it too'),
    ]);
  });

  test('an sslmode that tenants cannot use has to be replaced for them', () => {
    const certificate = new URL('../../package.json', import.meta.url).pathname; // any readable file
    const strict = `${url}?sslmode=verify-ca&sslrootcert=${certificate}`;
    expect(problemsOf(listed({ name: 'eu-1', url: strict }))).toEqual([
      expect.stringContaining('entry 1 (eu-1): sslmode must be given'),
    ]);
    expect(problemsOf(listed({ name: 'eu-1', url: strict, sslmode: 'require' }))).toEqual([]);
  });

  test('never shows a password', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[\w!$&'()*+,;=.~-]{8,20}$/), (secret) => {
        const given = `postgres://admin:${encodeURIComponent(secret)}@h:5432/d?sslpassword=${encodeURIComponent(secret)}`;
        const text = describeConfig(readConfig(listed({ name: 'eu-1', url: given, weight: 2 })));
        const line = text.split('\n').find((one) => one.startsWith('CLUSTERS='))!;
        expect(line).toContain(
          '"name":"eu-1","url":"postgres://admin:***@h:5432/d?sslpassword=***"',
        );
        expect(line).toContain('"weight":2');
      }),
    );
  });
});

describe('TENANT_DB_*', () => {
  test('is one cluster', () => {
    const special = { ...short, TENANT_DB_HOST: '::1', TENANT_DB_PASSWORD: 'a/b@c%' };
    expect(clustersOf({ ...special, TENANT_DB_PORT: '6432' })).toMatchObject({
      setting: 'TENANT_DB_HOST',
      list: [{ name: 'tenants', url: 'postgres://admin:a%2Fb%40c%25@[::1]:6432/postgres' }],
    });
    expect(clustersOf(short).list[0]?.url).toBe(url);
  });

  test.each(Object.keys(short))('says that %s is missing', (name) => {
    const { [name as keyof typeof short]: _, ...rest } = short;
    const others = Object.keys(rest).join(', ');
    expect(problemsOf(rest)).toEqual([`${name}: is required with ${others}`]);
  });

  test('names all that is missing beside a port', () => {
    expect(problemsOf({ TENANT_DB_PORT: '5432' })).toEqual(
      Object.keys(short).map((name) => `${name}: is required with TENANT_DB_PORT`),
    );
    expect(problemsOf({ ...short, TENANT_DB_PORT: '0' })).toEqual([
      'TENANT_DB_PORT: must be a whole number from 1 to 65535',
    ]);
  });

  test('is refused together with CLUSTERS', () => {
    expect(problemsOf({ ...listed({ name: 'eu-1', url }), ...short })).toEqual([
      'CLUSTERS: cannot stand beside TENANT_DB_HOST, TENANT_DB_USER, TENANT_DB_PASSWORD; keep one way or the other',
    ]);
  });

  test('masks the password', () => {
    const text = describeConfig(readConfig(short));
    expect(text).toContain('TENANT_DB_PASSWORD=***\n');
    expect(text).not.toContain('swordfish');
  });
});

test('without either, it is the control plane’s own server', () => {
  expect(clustersOf({})).toMatchObject({
    setting: 'DATA_DIR',
    own: true,
    list: [{ name: 'default', url: 'postgres://control/plane', weight: 1, maxTenants: null }],
  });
});
