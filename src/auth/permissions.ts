import { permissions, type Caller, type Permission } from '../provisioning/caller.ts';

interface Role {
  readonly permissions: readonly Permission[];
  /** Whose tenants: the caller's own partner's, or everybody's. */
  readonly scope: 'own' | 'everything';
}

/** What each role may do, and to whose tenants: the one table. */
const roleTable: ReadonlyMap<string, Role> = new Map<string, Role>([
  [
    'partner-admin',
    {
      scope: 'own',
      permissions: [
        'tenant:create',
        'tenant:read',
        'tenant:update',
        'tenant:delete',
        'tenant:operate',
      ],
    },
  ],
  ['partner-viewer', { scope: 'own', permissions: ['tenant:read'] }],
  ['platform-admin', { scope: 'everything', permissions }],
]);

/** What a tenant may do with its API key, to itself. Beside it: `isTenantKey`. */
export const tenantKeyPermissions: readonly Permission[] = ['tenant:read'];

/** Whether the caller is a tenant with its own key, which it may rotate though it may operate nothing. */
export function isTenantKey({ kind }: Caller): boolean {
  return kind === 'TENANT';
}

/** The names of all roles. */
export const roleNames: readonly string[] = [...roleTable.keys()];

/** All that a set of roles may do; unknown roles may nothing. */
export function permissionsOf(roles: readonly string[]): ReadonlySet<Permission> {
  return new Set(roles.flatMap((role) => roleTable.get(role)?.permissions ?? []));
}

/** Whether one of these roles goes beyond the caller's own partner. */
export function seesEverything(roles: readonly string[]): boolean {
  return roles.some((role) => roleTable.get(role)?.scope === 'everything');
}
