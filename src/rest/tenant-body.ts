import { z } from 'zod';
import { tenantStatuses } from '../control/tenants.ts';
import { lowerCase, time, timeOrNull, uuid } from './body-schemas.ts';

/** The selection `tenantFields`. */
export interface TenantResult {
  readonly id: string;
  readonly number: number;
  readonly name: string;
  readonly slug: string;
  readonly status: string;
  readonly domain: string | null;
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly purgeAt: string | null;
  readonly database: { readonly schemaName: string | null } | null;
}

/** What every document that shows a tenant of `/api/tenants` selects. */
export const tenantFields =
  'id number name slug status domain createdAt deletedAt purgeAt database { schemaName }';

/** A tenant's status in an answer. */
export const tenantStatus = z.enum(lowerCase(tenantStatuses));

/** What `tenantBody` makes. */
export const tenantSchema = z
  .object({
    id: uuid('The tenant.'),
    name: z.string(),
    slug: z.string(),
    status: tenantStatus,
    created_at: time('When it was asked for.'),
    deleted_at: timeOrNull('When it was deleted softly.'),
    purge_at: timeOrNull('When what a deletion left is removed for good.'),
    tenant_id: z.int().meta({ description: 'Its number.' }),
    tenant_name: z.string().meta({ description: 'The same as `name`.' }),
    domain: z.string().nullable(),
    schema_name: z.string().nullable().meta({ description: 'Of a tenant that is a schema.' }),
  })
  .meta({ id: 'Tenant', description: 'What both B’s and C’s clients read of a tenant.' });

/** What both B's and C's clients read of a tenant. */
export function tenantBody(tenant: TenantResult): object {
  return {
    id: tenant.id,
    name: tenant.name,
    slug: tenant.slug,
    status: tenant.status.toLowerCase(),
    created_at: tenant.createdAt,
    deleted_at: tenant.deletedAt,
    purge_at: tenant.purgeAt,
    tenant_id: tenant.number,
    tenant_name: tenant.name,
    domain: tenant.domain,
    schema_name: tenant.database?.schemaName ?? null,
  };
}

/** A tenant made by the example of contract B. */
export const tenantExample = {
  id: '550e8400-e29b-41d4-a716-446655440000',
  name: 'Acme Corp',
  slug: 'acme',
  status: 'active',
  created_at: '2026-01-17T10:30:00.000Z',
  deleted_at: null,
  purge_at: null,
  tenant_id: 1,
  tenant_name: 'Acme Corp',
  domain: null,
  schema_name: null,
};
