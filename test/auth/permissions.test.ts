import { describe, expect, test } from 'vitest';
import { permissionsOf } from '../../src/auth/permissions.ts';
import { identityOf, permissions, scopeOf, type Caller } from '../../src/provisioning/caller.ts';

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

describe('a caller', () => {
  const caller = (
    partner: string | null,
    subject = 's',
    kind: Caller['kind'] = 'USER',
  ): Caller => ({
    kind,
    subject,
    partner,
    roles: [],
    permissions: new Set(),
  });

  test('sees the rows of its partner; without one, all', () => {
    expect(scopeOf(caller('acme'))).toEqual({ partner: 'acme' });
    expect(scopeOf(caller(''))).toEqual({ partner: '' });
    expect(scopeOf(caller(null))).toBeNull();
  });

  test('is told apart by kind, partner and subject together', () => {
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
