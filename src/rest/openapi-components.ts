import { z } from 'zod';
import type { ReplyHeader } from './docs.ts';
import { headerDocs, parameterDocs, type RequestHeader } from './openapi-headers.ts';

/** A place of the document that stands for another one. */
export interface Reference {
  readonly $ref: string;
}

export type JsonSchema = Readonly<Record<string, unknown>>;

/** What a document's operations share. Each is there once it was asked for, and only then. */
export interface Components {
  /** What a zod schema takes: a reference where it has a name (`.meta({ id })`), else as it is. */
  schema(schema: z.ZodType): JsonSchema;
  header(name: ReplyHeader): Reference;
  parameter(name: RequestHeader): Reference;
  /** All that was asked for. */
  collected(): Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** Starts with nothing. */
export function createComponents(): Components {
  const schemas: Record<string, unknown> = {};
  const headers: Record<string, unknown> = {};
  const parameters: Record<string, unknown> = {};
  return {
    schema(schema) {
      const { $schema: _, $defs, ...own } = toJsonSchema(schema);
      Object.assign(schemas, $defs);
      return own;
    },
    header(name) {
      headers[name] = headerDocs[name];
      return { $ref: `#/components/headers/${name}` };
    },
    parameter(name) {
      parameters[name] = { name, in: 'header', ...parameterDocs[name] };
      return { $ref: `#/components/parameters/${name}` };
    },
    collected: () => ({ schemas: sorted(schemas), headers: sorted(headers), parameters }),
  };
}

/** JSON Schema 2020-12, the one of OpenAPI 3.1, with named schemas where OpenAPI keeps them. */
function toJsonSchema(schema: z.ZodType): JsonSchema {
  const json = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'throw',
    override({ zodSchema, jsonSchema }) {
      // zod drops the default of what is transformed: it may be that of the outcome.
      const stated = z.globalRegistry.get(zodSchema)?.['default'];
      if (stated !== undefined) jsonSchema.default = stated;
      // What every integer of JavaScript keeps to tells a reader nothing.
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  const text = JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/');
  return JSON.parse(text) as JsonSchema;
}

function sorted(record: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
