/** The served OpenAPI document, as a strict client takes it: what it does not tell must not come. */
import { Ajv2020, type AnySchema } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { expect } from 'vitest';
import { exchange, type WireAnswer, type WireRequest } from '../http/wire.ts';

export interface ApiDocument {
  readonly info: { readonly version: string };
  readonly servers: readonly { readonly url: string }[];
  readonly security: readonly object[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: {
    readonly headers: Readonly<Record<string, HeaderObject>>;
    readonly parameters: Readonly<Record<string, ParameterObject>>;
    readonly schemas: Readonly<Record<string, AnySchema>>;
  };
}

interface OperationObject {
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters: readonly (ParameterObject | { readonly $ref: string })[];
  readonly requestBody?: { readonly content: Readonly<Record<string, MediaType>> };
  readonly responses: Readonly<Record<string, ResponseObject>>;
}

interface ParameterObject {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly example?: unknown;
}

interface HeaderObject {
  readonly required?: boolean;
  readonly schema: AnySchema;
  readonly example: unknown;
}

interface MediaType {
  readonly schema: AnySchema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
}

interface ResponseObject {
  readonly headers: Readonly<Record<string, { readonly $ref: string }>>;
  readonly content?: Readonly<Record<string, MediaType>>;
  readonly links?: Readonly<
    Record<string, { readonly operationId: string; readonly parameters: Record<string, string> }>
  >;
}

/** One operation of the document, with what a client needs to call it. */
export interface Operation extends OperationObject {
  readonly method: string;
  /** With `{names}`. */
  readonly path: string;
  /** Bodies that work, by name; of an operation that takes none, one request without. */
  readonly requests: readonly (readonly [name: string, body: unknown])[];
}

/** Reads the document from where it is served. */
export async function readDocument(url: string): Promise<ApiDocument> {
  const { json } = await exchange(url, { path: '/openapi.json' });
  return json as ApiDocument;
}

/** The document's operations, in its order. */
export function operationsOf({ paths }: ApiDocument): Operation[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const examples = operation.requestBody?.content['application/json']?.examples ?? {};
      const bodies = Object.entries(examples).map(([name, { value }]) => [name, value] as const);
      const requests = bodies.length === 0 ? [['no body', undefined] as const] : bodies;
      return { ...operation, method: method.toUpperCase(), path, requests };
    }),
  );
}

/** Whether an operation asks for a token, whoever calls. */
export function needsToken({ security = [] }: Operation): boolean {
  return security.length > 0 && security.every((way) => way['bearer'] !== undefined);
}

/** A request of an operation, with values for its path's parameters. */
export function requestOf(
  operation: Operation,
  body: unknown,
  params: Readonly<Record<string, string>> = {},
  headers: Readonly<Record<string, string>> = {},
): WireRequest {
  return {
    method: operation.method,
    path: operation.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => params[name] ?? 'nobody'),
    headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  };
}

/** Fails where an answer is not what the document says: status, media type, body, headers. */
export type CheckAnswer = (operation: Operation, answer: WireAnswer) => void;

/** Makes the check. Schemas are closed for it: a field that is not documented fails. */
export function createCheck(document: ApiDocument): CheckAnswer {
  const root = 'https://tenantry.test/openapi.json';
  const ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true });
  const lenient = new Ajv2020({ coerceTypes: true });
  addFormats.default(ajv);
  addFormats.default(lenient);
  const schemas = structuredClone(document.components.schemas);
  close(schemas);
  for (const [name, schema] of Object.entries(schemas)) {
    ajv.addSchema(schema, `${root}#/components/schemas/${name}`);
  }

  let ids = 0;

  function checkBody({ schema }: MediaType, body: unknown): void {
    const own = structuredClone(schema);
    close(own);
    const validate = ajv.compile({ $id: `${root}?${ids++}`, ...(rebased(own) as object) });
    expect(validate(body) ? [] : validate.errors, JSON.stringify(body)).toEqual([]);
  }

  /** What stands in the document as `#/…` stands for a schema of its own here. */
  function rebased(schema: AnySchema): unknown {
    return JSON.parse(JSON.stringify(schema).replaceAll('"#/components', `"${root}#/components`));
  }

  return (operation, answer) => {
    const response = operation.responses[answer.status];
    const what = `${operation.operationId} ${answer.status}: ${answer.text.slice(0, 500)}`;
    expect(response, what).toBeDefined();
    const { content = {}, headers } = response!;
    const mediaType = answer.headers['content-type']?.split(';')[0];
    expect(Object.keys(content), what).toEqual(mediaType === undefined ? [] : [mediaType]);
    if (mediaType !== undefined) {
      checkBody(content[mediaType]!, mediaType === 'application/json' ? answer.json : answer.text);
    }
    for (const [name, header] of Object.entries(document.components.headers)) {
      const value = answer.headers[name.toLowerCase()];
      const where = `${what}: ${name}`;
      if (headers[name] === undefined) expect(value, where).toBeUndefined();
      else if (value === undefined) expect(header.required ?? false, where).toBe(false);
      else expect(lenient.validate(header.schema, value), where).toBe(true);
    }
  };
}

/** No more properties than those that are named, wherever properties are named. */
function close(schema: unknown): void {
  if (typeof schema !== 'object' || schema === null) return;
  const object = schema as Record<string, unknown>;
  if (object['properties'] !== undefined) object['additionalProperties'] ??= false;
  for (const value of Object.values(object)) close(value);
}
