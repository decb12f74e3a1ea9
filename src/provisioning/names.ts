import { randomInt } from 'node:crypto';
import { identifierFromId, maxIdentifierBytes } from '../postgres/identifiers.ts';

/** What differs between installations in the names of tenant databases. */
export interface NameSettings {
  /** The database in each cluster that holds the tenants of SCHEMA isolation. */
  readonly sharedDatabase: string;
  /** In front of the slug in generated names of schemas. */
  readonly schemaPrefix: string;
  /** Schema of the operator's extensions, in each database that has them. */
  readonly extensionsSchema: string;
}

/** Comment on everything we make begins with this; readable by every tenant, so ids and nothing else. */
export const markerPrefix = 'tenantry:1:';

/**
 * Marker of what one operation made for one tenant.
 *
 * @param installation id of the control plane: others may use the same server
 */
export function tenantMarker(tenantId: string, operationId: string, installation: string): string {
  return `${tenantMarkerPrefix(tenantId)}${operationId}:${installation}`;
}

/** What a marker says. */
export interface Marking {
  readonly kind: 'tenant' | 'shared' | 'template';
  /** Of the tenant, shared database or template. */
  readonly id: string;
  /** What made it; null where markers of this kind name none. */
  readonly operationId: string | null;
  /** Null: made before markers named it. */
  readonly installation: string | null;
}

/** Reads a marker; null: it is none. */
export function readMarker(marker: string | null): Marking | null {
  if (marker?.startsWith(markerPrefix) !== true) return null;
  const [kind, ...ids] = marker.slice(markerPrefix.length).split(':');
  if (ids.length === 0 || !ids.every(looksLikeUuid)) return null;
  const [id = '', operationId = null, installation = null] = ids;
  if (kind === 'shared' && ids.length === 1) {
    return { kind, id, operationId: null, installation: null };
  }
  if (kind === 'template' && ids.length <= 2) {
    return { kind, id, operationId: null, installation: operationId };
  }
  if (kind !== 'tenant' || operationId === null || ids.length > 3) return null;
  return { kind, id, operationId, installation };
}

/** Beginning of the marker of everything that is this tenant's, whichever operation made it. */
export function tenantMarkerPrefix(tenantId: string): string {
  return `${markerPrefix}tenant:${tenantId}:`;
}

/**
 * Advisory lock of a cluster that whoever works on this tenant's roles or database holds: an undo
 * waits for a statement that was cut off, since the server goes on with it.
 */
export function tenantLock(tenantId: string): string {
  return `tenantry:tenant:${tenantId}`;
}

/** Marker of a shared tenant database; its id tells it from another control plane's. */
export function sharedDatabaseMarker(id: string): string {
  return `${markerPrefix}shared:${id}`;
}

/** Marker of a template and its owner role. */
export function templateMarker(templateId: string, installation: string): string {
  return `${markerPrefix}template:${templateId}:${installation}`;
}

/** Roles of a tenant; the login role has an id of its own, since a rotation makes a second one. */
export function tenantRoles(tenantId: string, loginId: string): { owner: string; login: string } {
  return { owner: identifierFromId('own_', tenantId), login: identifierFromId('usr_', loginId) };
}

/** Beginning of the names of templates' owner roles. */
export const templateOwnerPrefix = 'tpo_';

/** Roles of a template, named like a tenant's: it has no login of its own. */
export function templateRoles(templateId: string): { owner: string; service: string } {
  return {
    owner: identifierFromId(templateOwnerPrefix, templateId),
    service: identifierFromId('tps_', templateId),
  };
}

/**
 * Service login of a tenant: a member of its owner role alone, `NOLOGIN` and without a password at rest.
 * Made from the tenant's id, so that it is found without a record of its own.
 */
export function serviceRoleName(tenantId: string): string {
  return identifierFromId('svc_', tenantId);
}

/** Whether a role is called like a service login, a tenant's or a template's. */
export function isServiceLogin(role: string): boolean {
  return role.startsWith('svc_') || role.startsWith('tps_');
}

/** All roles that may log in as a tenant. */
export function tenantLogins(database: {
  readonly tenantId: string;
  readonly loginRole: string;
}): string[] {
  return [database.loginRole, serviceRoleName(database.tenantId)];
}

/** Schemas in which everything of a tenant's is looked up: its own, then the operator's extensions. */
export function searchPathOf(
  { schemaName }: { readonly schemaName: string | null },
  { extensionsSchema }: Pick<NameSettings, 'extensionsSchema'>,
): string[] {
  return [schemaName ?? 'public', extensionsSchema];
}

/**
 * Names for the role whose members may connect to a shared tenant database: the usual one, and one for
 * where another shared database of the same server has that.
 */
export function groupRoleNames(sharedDatabaseId: string): readonly [string, string] {
  return ['tenantry_tenants', `tenantry_tenants_${sharedDatabaseId.slice(0, 8)}`];
}

/** Opaque name of a tenant's database; the final one under TENANT_ID naming. */
export function opaqueDatabaseName(tenantId: string): string {
  return identifierFromId('car_', tenantId);
}

/** Opaque name of a tenant's schema, until it has its final one. */
export function opaqueSchemaName(tenantId: string): string {
  return identifierFromId('sb_', tenantId);
}

/** Name of a tenant's database under SLUG naming. */
export function slugDatabaseName(slug: string): string {
  return `dbtools_tenant_${slug}`;
}

/** Generated name of a tenant's schema. */
export function schemaNameFromSlug(prefix: string, slug: string): string {
  return `${prefix}${slug.replaceAll('-', '_')}`;
}

export const schemaNamePattern = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

// PostgreSQL's own, and those of what this product makes: standbys, templates, its registry and queue.
const reservedSchemaNames = ['public', 'information_schema'];
const reservedSchemaPrefixes = ['pg_', 'sb_', 'tpl_', 'control_plane'];
const roleNamePattern = /^(own|usr|svc|tpo|tps)_[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}$/;

/** Whether a role is called like one that a tenant logs in as. */
export function isTenantLogin(role: string): boolean {
  return roleNamePattern.test(role) && /^(usr|svc)_/.test(role);
}

/** Whether a tenant's schema must not be called so, in whatever case. */
export function isReservedSchemaName(name: string): boolean {
  const lower = name.toLowerCase();
  return (
    reservedSchemaNames.includes(lower) ||
    reservedSchemaPrefixes.some((prefix) => lower.startsWith(prefix))
  );
}

/**
 * Whether a schema would be called like a role of the product, in whatever case: it would be on the path of
 * every session of that role that looks up "$user".
 */
export function isProductRoleName(name: string): boolean {
  const lower = name.toLowerCase();
  return lower.startsWith('tenantry') || lower === 'postgres' || roleNamePattern.test(lower);
}

/** Whether the schema of the operator's extensions may be called so. */
export function isExtensionsSchema(name: string): boolean {
  return (
    schemaNamePattern.test(name) &&
    name.length <= 63 &&
    !isReservedSchemaName(name) &&
    !isProductRoleName(name)
  );
}

/** Whether a prefix leaves room for a slug, and none makes a reserved name with it. */
export function isSchemaPrefix(prefix: string): boolean {
  const lower = prefix.toLowerCase();
  return (
    schemaNamePattern.test(prefix) &&
    prefix.length <= 32 &&
    !isReservedSchemaName(prefix) &&
    ![...reservedSchemaNames, ...reservedSchemaPrefixes].some((name) => name.startsWith(lower))
  );
}

const sharedDatabasePattern = /^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$/;

/** Whether a shared tenant database may be called so: not like one of the server's or a tenant's own. */
export function isSharedDatabaseName(name: string): boolean {
  return (
    sharedDatabasePattern.test(name) &&
    !['postgres', 'template0', 'template1'].includes(name) &&
    !['car_', 'dbtools_tenant_', 'tpl_', 'shd_', 'sb_'].some((prefix) => name.startsWith(prefix))
  );
}

export const slugPattern = /^[a-z][a-z0-9]*([-_][a-z0-9]+)*$/;
export const slugMaxLength = maxIdentifierBytes - slugDatabaseName('').length;

/** The longest slug that still fits into a generated schema name behind this prefix. */
export function slugMaxLengthBehind(schemaPrefix: string): number {
  return Math.min(slugMaxLength, maxIdentifierBytes - schemaPrefix.length);
}

/** Words that paths have another use for. */
export const reservedSlugs: ReadonlySet<string> = new Set([
  'batch',
  'health',
  'status',
  'operations',
]);
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether a text is written like a UUID. */
export function looksLikeUuid(text: string): boolean {
  return uuidPattern.test(text);
}

/** Whether a slug would be mistaken for a path or an id. */
export function isReservedSlug(slug: string): boolean {
  return reservedSlugs.has(slug) || looksLikeUuid(slug);
}

/**
 * Makes a slug from a name: letters without their marks, lower case, everything else as hyphens;
 * `tenant` and a random ending when nothing is left of it.
 */
export function slugFromName(name: string, maxLength = slugMaxLength): string {
  const slug = name
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^[-0-9]+/, '')
    .slice(0, maxLength)
    .replace(/-+$/, '');
  if (slug === '') return withRandomEnding('tenant', maxLength);
  return isReservedSlug(slug) ? withRandomEnding(slug, maxLength) : slug;
}

/** The same slug with a short random ending, for when it is taken. */
export function withRandomEnding(slug: string, maxLength = slugMaxLength): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';
  const ending = Array.from({ length: 6 }, () => alphabet.charAt(randomInt(alphabet.length)));
  const room = maxLength - ending.length - 1;
  return `${slug.slice(0, room).replace(/[-_]+$/, '')}-${ending.join('')}`;
}
