import { isObjectType, Kind, parse } from 'graphql';
import { schema } from '../schema/index.ts';
import type { Execute, Route } from './route.ts';

/**
 * Whether the caller lacks the permission that a route's mutation asks for. What does not get as far as
 * the mutation, because its body breaks a rule, is asked this first: whoever may not, learns no rules.
 */
export async function isForbidden({ document }: Route, execute: Execute): Promise<boolean> {
  const permission = permissionOf(document);
  if (permission === null) return false;
  const { data } = await execute('{ viewer { permissions } }', {});
  const { viewer } = data as { readonly viewer: { readonly permissions: string[] } | null };
  return viewer?.permissions.includes(permission) === false;
}

/** The permission that the root field of a mutation names; null: none, or it depends on the tenant. */
function permissionOf(document: string): string | null {
  const type = schema.getMutationType();
  for (const definition of parse(document).definitions) {
    if (definition.kind !== Kind.OPERATION_DEFINITION || !isObjectType(type)) continue;
    for (const selection of definition.selectionSet.selections) {
      const field = selection.kind === Kind.FIELD ? type.getFields()[selection.name.value] : null;
      const options = field?.extensions['pothosOptions'] as
        { readonly authScopes?: { readonly permission?: string } } | undefined;
      if (options?.authScopes?.permission !== undefined) return options.authScopes.permission;
    }
  }
  return null;
}
