import { dialects } from './index.ts';
import { createComponents } from './openapi-components.ts';
import { describeOperation, templateOf } from './openapi-operation.ts';
import { mergeOperations } from './openapi-merge.ts';
import type { Chapter } from './openapi-responses.ts';

export interface OpenApiOptions {
  /** Where clients reach the gateway; empty: where they got the document from. */
  readonly publicUrl: string;
  /** Whether callers without credentials are the local operator. */
  readonly open: boolean;
  /** The routes beside the contracts. */
  readonly service: Chapter;
}

export type OpenApiDocument = Readonly<Record<string, unknown>>;

/** The OpenAPI 3.1 document of everything that is served, made from the route tables. */
export function describeApi({ publicUrl, open, service }: OpenApiOptions): OpenApiDocument {
  const components = createComponents();
  const chapters: readonly Chapter[] = [...dialects, service];
  const paths: Record<string, Record<string, object>> = {};
  for (const chapter of chapters) {
    for (const route of chapter.routes) {
      const path = (paths[templateOf(route.path)] ??= {});
      const method = route.method.toLowerCase();
      const described = describeOperation(route, chapter, components, open);
      const rival = path[method];
      path[method] = rival === undefined ? described : mergeOperations(described, rival);
    }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tenantry',
      version: '1.0.0',
      summary: 'A PostgreSQL database of its own for every tenant.',
      description,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: publicUrl === '' ? '/' : publicUrl }],
    security: open ? [{}, ...credentials] : credentials,
    tags: chapters.map(({ docs }) => ({ name: docs.tag, description: docs.description })),
    paths,
    components: { ...components.collected(), securitySchemes },
  };
}

const credentials = [{ bearer: [] }, { apiKey: [] }];

const securitySchemes = {
  bearer: {
    type: 'http',
    scheme: 'bearer',
    description:
      'A JWT, or the API key of a tenant. In open mode callers without credentials are the local operator; credentials that are presented are never ignored.',
  },
  apiKey: {
    type: 'apiKey',
    in: 'header',
    name: 'X-API-Key',
    description: 'The API key of a tenant.',
  },
};

const description = `Several contracts stand side by side; each keeps the bodies and the error form that its clients know.
What holds for all of them:

- **Done once.** With an \`Idempotency-Key\` a retry gets the answer of the first request.
- **Not waited for.** With \`Prefer: respond-async\` a change answers \`202\` at once; \`Location\` names the
  operation to follow.
- **Found again.** Every answer has an \`X-Request-Id\`, which is in the log too.
- **JSON only**, in UTF-8, at most 1 MiB.

The same engine answers GraphQL at \`/graphql\`: a REST call runs a GraphQL document.
`;
