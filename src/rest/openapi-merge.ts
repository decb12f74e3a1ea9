import type { JsonSchema } from './openapi-components.ts';

interface MediaType {
  readonly schema: JsonSchema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, object>>;
}

interface Described {
  readonly description?: string;
  readonly content?: Readonly<Record<string, MediaType>>;
  readonly headers?: object;
  readonly links?: object;
}

interface OperationObject {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly requestBody?: Described;
  readonly responses: Readonly<Record<string, Described>>;
}

/**
 * One operation object for two contracts that serve the same method and path, told apart by the body:
 * what either takes, and what either answers.
 */
export function mergeOperations(one: object, other: object): object {
  const a = one as OperationObject;
  const b = other as OperationObject;
  const statuses = [...new Set([...Object.keys(a.responses), ...Object.keys(b.responses)])].sort();
  return {
    ...b,
    ...a,
    tags: [...a.tags, ...b.tags],
    description: [a, b]
      .map(({ description, tags }) => `${tags.join()}: ${description}`)
      .join('\n\n'),
    requestBody: merged(a.requestBody, b.requestBody),
    responses: Object.fromEntries(
      statuses.map((status) => [status, merged(a.responses[status], b.responses[status])]),
    ),
  };
}

function merged(a: Described | undefined, b: Described | undefined): Described | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const types = [...new Set([...Object.keys(a.content ?? {}), ...Object.keys(b.content ?? {})])];
  const content = types.map((type) => [type, mergedType(a.content?.[type], b.content?.[type])]);
  const descriptions = [...new Set([a.description, b.description])].filter(Boolean);
  return {
    ...b,
    ...a,
    ...(descriptions.length === 0 ? {} : { description: descriptions.join(' Or: ') }),
    ...(a.headers === undefined && b.headers === undefined
      ? {}
      : { headers: { ...b.headers, ...a.headers } }),
    ...(a.links === undefined && b.links === undefined
      ? {}
      : { links: { ...b.links, ...a.links } }),
    ...(content.length === 0 ? {} : { content: Object.fromEntries(content) as never }),
  };
}

function mergedType(a: MediaType | undefined, b: MediaType | undefined): MediaType | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const same = JSON.stringify(a.schema) === JSON.stringify(b.schema);
  // One alone could match both: an answer of one contract may be one of the other's too.
  const schema = same ? a.schema : { anyOf: [a.schema, b.schema] };
  // What the first example of a request comes to: the first contract's.
  const examples = { ...b.examples, ...a.examples };
  const named = Object.keys(examples).length > 0;
  return {
    schema,
    ...(named ? { examples: { ...a.examples, ...examples } } : {}),
    ...(a.example === undefined ? {} : { example: a.example }),
  };
}
