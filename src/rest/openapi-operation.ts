import type { RouteDocs } from './docs.ts';
import type { Components, JsonSchema } from './openapi-components.ts';
import type { RequestHeader } from './openapi-headers.ts';
import { describeResponses, type Chapter } from './openapi-responses.ts';
import { isMutation, runsOperation } from './problems.ts';
import type { DocumentedRoute } from './route.ts';

/** An operation object of OpenAPI. */
export function describeOperation(
  route: DocumentedRoute,
  chapter: Chapter,
  components: Components,
  open: boolean,
): object {
  const { docs } = route;
  const requestBody = describeBody(route, components);
  return {
    operationId: docs.operationId,
    tags: [chapter.docs.tag],
    summary: docs.summary,
    description: docs.description,
    ...(route.document === undefined ? { security: [] } : {}),
    ...(chapter.tokenOnly === true ? { security: [{ bearer: [] }] } : {}),
    parameters: [
      ...pathParameters(route.path, docs),
      ...queryParameters(route, components),
      ...requestHeaders(route).map((name) => components.parameter(name)),
    ],
    ...(requestBody === null ? {} : { requestBody }),
    responses: describeResponses(route, chapter, components, open),
  };
}

/** A path as OpenAPI writes it: `/api/tenants/{slug}`. */
export function templateOf(path: string): string {
  return path.replaceAll(parameterPattern, '{$1}');
}

const parameterPattern = /:(\w+)/g;

function pathParameters(path: string, { params, operationId }: RouteDocs): object[] {
  return Array.from(path.matchAll(parameterPattern), ([, name = '']) => {
    const known = params?.[name];
    if (known === undefined) throw new Error(`${operationId}: ${name} is not documented`);
    return { name, in: 'path', required: true, ...known, schema: { type: 'string' } };
  });
}

function queryParameters({ query }: DocumentedRoute, components: Components): object[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = components.schema(query) as {
    properties?: Record<string, JsonSchema>;
    required?: readonly string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    description,
    schema,
    ...(schema['default'] === undefined ? {} : { example: schema['default'] }),
  }));
}

function requestHeaders(route: DocumentedRoute): RequestHeader[] {
  return [
    ...(isMutation(route) ? (['Idempotency-Key'] as const) : []),
    ...(runsOperation(route) ? (['Prefer'] as const) : []),
    ...(route.docs.requestHeaders ?? []),
    'X-Request-Id',
  ];
}

function describeBody({ body, docs }: DocumentedRoute, components: Components): object | null {
  if (body === undefined) return null;
  if (docs.requests === undefined) throw new Error(`${docs.operationId}: no example of a body`);
  const schema = components.schema(body);
  return { required: true, content: { 'application/json': { schema, examples: docs.requests } } };
}
