import SchemaBuilder from '@pothos/core';
import ComplexityPlugin from '@pothos/plugin-complexity';
import RelayPlugin from '@pothos/plugin-relay';
import ScopeAuthPlugin from '@pothos/plugin-scope-auth';
import { Refusal } from '../errors.ts';
import type { Permission } from '../provisioning/caller.ts';
import type { Context } from './context.ts';
import { limitError } from './limits.ts';

/** What one document may ask for: a page of a hundred with all it holds, a few times over. */
const costLimit = 20_000;

/** Cost of the lists in a connection: it has counted their rows already, as many as are asked for. */
const ofThePage = { field: 1, multiplier: 1 } as const;

export const builder = new SchemaBuilder<{
  Context: Context;
  AuthScopes: { permission: Permission };
  Connection: { readonly countAll: () => Promise<number> };
  DefaultEdgesNullability: false;
  DefaultNodeNullability: false;
  Scalars: {
    ID: { Input: string; Output: string };
    DateTime: { Input: Date; Output: Date };
    BigInt: { Input: number; Output: number };
    JSON: { Input: unknown; Output: unknown };
  };
}>({
  // Order is meaning: the first is outermost. Whoever may not, learns nothing of what else is wrong.
  plugins: [ScopeAuthPlugin, ComplexityPlugin, RelayPlugin],
  scopeAuth: {
    authorizeOnSubscribe: true,
    authScopes: ({ caller }) => ({
      permission: (permission) => caller.permissions.has(permission),
    }),
    unauthorizedError: () => new Refusal('FORBIDDEN', 'You may not do this'),
  },
  complexity: {
    defaultComplexity: 1,
    defaultListMultiplier: 10,
    limit: { complexity: costLimit },
    complexityError: (_kind, { complexity }) =>
      limitError(
        `The document costs ${complexity}, more than the ${costLimit} allowed: ask for less at once`,
      ),
  },
  relay: {
    nodeQueryOptions: false,
    nodesQueryOptions: false,
    cursorType: 'String',
    edgesFieldOptions: {
      nullable: false,
      complexity: ofThePage,
      description: 'The rows of this page, with their cursors.',
    },
    nodeFieldOptions: { nullable: false, description: 'The row.' },
    cursorFieldOptions: {
      description: 'Place of the row in this order, for `after` and `before`.',
    },
    nodesOnConnection: { complexity: ofThePage, description: 'The rows of this page.' },
    pageInfoFieldOptions: { description: 'Whether there is more, and where to go on.' },
    pageInfoTypeOptions: { description: 'Whether there is more, and where to go on.' },
    hasNextPageFieldOptions: { description: 'Whether rows follow (when paging with `first`).' },
    hasPreviousPageFieldOptions: { description: 'Whether rows precede (when paging with `last`).' },
    startCursorFieldOptions: { description: 'Cursor of the first row of this page.' },
    endCursorFieldOptions: { description: 'Cursor of the last row of this page.' },
    firstArgOptions: { description: 'How many rows from the beginning, 1 to 100.' },
    afterArgOptions: { description: 'Only rows after this cursor.' },
    lastArgOptions: { description: 'How many rows from the end, 1 to 100.' },
    beforeArgOptions: { description: 'Only rows before this cursor.' },
  },
});

builder.queryType({ description: 'What can be asked.' });
builder.mutationType({ description: 'What can be done.' });
builder.subscriptionType({ description: 'What can be watched while it happens.' });

builder.globalConnectionField('totalCount', (t) =>
  t.int({
    nullable: false,
    description: 'How many rows there are on all pages.',
    resolve: (connection) => connection.countAll(),
  }),
);
