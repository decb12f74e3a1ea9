import { permissions, type Permission } from '../provisioning/caller.ts';

/** What each role may do: the one table. Whose tenants it does it to is the caller's partner. */
const rolePermissions: ReadonlyMap<string, readonly Permission[]> = new Map<
  string,
  readonly Permission[]
>([
  [
    'partner-admin',
    ['tenant:create', 'tenant:read', 'tenant:update', 'tenant:delete', 'tenant:operate'],
  ],
  ['partner-viewer', ['tenant:read']],
  ['platform-admin', permissions],
]);

/** All that a set of roles may do; unknown roles may nothing. */
export function permissionsOf(roles: readonly string[]): ReadonlySet<Permission> {
  return new Set(roles.flatMap((role) => rolePermissions.get(role) ?? []));
}
