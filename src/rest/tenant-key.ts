import { looksLikeUuid } from '../provisioning/names.ts';

/** What a path's `{slug}` or `{tenant_id}` names: a UUID, a number or a slug, told apart by its form. */
export function tenantVariables(key: string): Readonly<Record<string, unknown>> {
  if (looksLikeUuid(key)) return { id: key };
  // A larger number is no Int of GraphQL, and no tenant's.
  if (/^[0-9]{1,9}$/.test(key)) return { number: Number(key) };
  return { slug: key };
}
