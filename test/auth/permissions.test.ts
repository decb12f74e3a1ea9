import { describe, expect, test } from 'vitest';
import { permissionsOf, seesEverything } from '../../src/auth/permissions.ts';
import { identityOf, permissions, type Caller } from '../../src/provisioning/caller.ts';

const partnerAdmin = [
  'tenant:create',
  'tenant:read',
  'tenant:update',
  'tenant:delete',
  'tenant:operate',
];

describe('what roles may do', () => {
  // security.md, 'Who may do what'.
  test.for<[roles: string[], allowed: readonly string[]]>([
    [['partner-admin'], partnerAdmin],
    [['partner-viewer'], ['tenant:read']],
    [['platform-admin'], permissions],
    [['partner-viewer', 'partner-admin'], partnerAdmin],
    [['partner-viewer', 'partner-viewer'], ['tenant:read']],
    [[], []],
    [['root'], []],
    [['PLATFORM-ADMIN'], []],
    [['platform-admin '], []],
    [['tenant:purge'], []],
    [['__proto__'], []],
    [['constructor'], []],
    [['toString', 'partner-viewer'], ['tenant:read']],
  ])('%j', ([roles, allowed]) => {
    expect([...permissionsOf(roles)].sort()).toEqual([...allowed].sort());
  });

  test('there are nine permissions', () => {
    expect([...permissions]).toEqual([
      'tenant:create',
      'tenant:read',
      'tenant:update',
      'tenant:delete',
      'tenant:purge',
      'tenant:operate',
      'tenant:connect',
      'fleet:read',
      'fleet:operate',
    ]);
  });
});

describe('whose tenants roles are about', () => {
  test.for<[roles: string[], everything: boolean]>([
    [['platform-admin'], true],
    [['partner-viewer', 'platform-admin'], true],
    [['partner-admin'], false],
    [['PLATFORM-ADMIN'], false],
    [['__proto__'], false],
    [[], false],
  ])('%j: everybody’s? %s', ([roles, everything]) => {
    expect(seesEverything(roles)).toBe(everything);
  });
});

describe('identityOf', () => {
  const caller = (
    partner: string | null,
    subject = 's',
    kind: Caller['kind'] = 'USER',
  ): Caller => ({
    kind,
    subject,
    partner,
    scope: null,
    roles: [],
    permissions: new Set(),
    credential: { kind: 'none' },
  });

  test('tells callers apart by kind, partner and subject together', () => {
    const identities = [
      caller(null),
      caller('s'),
      caller('s', 's', 'TENANT'),
      caller('a', 'b","c'),
      caller('a","b', 'c'),
      caller('a', 'null'),
      caller(null, 'a'),
      caller('null', 'a'),
    ].map(identityOf);
    expect(new Set(identities).size).toBe(identities.length);
    expect(identityOf(caller('acme'))).toBe(identityOf(caller('acme')));
  });
});
