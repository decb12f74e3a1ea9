import { readFile } from 'node:fs/promises';
import {
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isNonNullType,
  isObjectType,
  isSpecifiedScalarType,
  lexicographicSortSchema,
  printSchema,
} from 'graphql';
import { describe, expect, test } from 'vitest';
import { schema } from '../../src/schema/index.ts';

const types = Object.values(schema.getTypeMap()).filter(
  (type) => !isIntrospectionType(type) && !isSpecifiedScalarType(type),
);

test('schema.graphql is what the schema prints: npm run schema', async () => {
  const checkedIn = await readFile(new URL('../../schema.graphql', import.meta.url), 'utf8');
  expect(checkedIn).toBe(`${printSchema(lexicographicSortSchema(schema))}\n`);
});

describe('everything is described', () => {
  test.for(types.map((type) => [type.name, type] as const))('%s', ([, type]) => {
    const described: { readonly name: string; readonly description?: string | null | undefined }[] =
      [type];
    if (isEnumType(type)) described.push(...type.getValues());
    if (isInputObjectType(type)) described.push(...Object.values(type.getFields()));
    if (isObjectType(type) || isInterfaceType(type)) {
      for (const field of Object.values(type.getFields())) {
        described.push(field);
        for (const argument of field.args) {
          described.push({
            name: `${field.name}(${argument.name}:)`,
            description: argument.description,
          });
        }
      }
    }
    const silent = described.filter(({ description }) => (description ?? '').trim() === '');
    expect(silent.map(({ name }) => name)).toEqual([]);
  });
});

describe('names', () => {
  test.for(types.map((type) => [type.name, type] as const))('%s', ([name, type]) => {
    expect(name).toMatch(/^[A-Z][A-Za-z]*$/);
    if (isEnumType(type)) {
      for (const value of type.getValues()) expect(value.name).toMatch(/^[A-Z]+(_[A-Z]+)*$/);
    }
    if (isObjectType(type) || isInputObjectType(type)) {
      for (const field of Object.keys(type.getFields())) expect(field).toMatch(/^[a-z][A-Za-z]*$/);
    }
  });
});

describe('one error takes no other answer with it', () => {
  test.for(Object.values(schema.getQueryType()!.getFields()))(
    'Query.$name is nullable',
    (field) => {
      expect(isNonNullType(field.type)).toBe(false);
    },
  );

  const mutations = Object.values(schema.getMutationType()!.getFields());

  test.for(mutations)('Mutation.$name is nullable, as is what it tells but userErrors', (field) => {
    expect(isNonNullType(field.type)).toBe(false);
    expect(String(field.type)).toBe(
      `${field.name.charAt(0).toUpperCase()}${field.name.slice(1)}Payload`,
    );
    const payload = schema.getType(String(field.type));
    if (!isObjectType(payload)) throw new Error('a payload is an object');
    for (const [name, { type }] of Object.entries(payload.getFields())) {
      if (name === 'userErrors') expect(String(type)).toBe('[UserError!]!');
      else expect(isNonNullType(type)).toBe(false);
    }
  });

  test.for(mutations)('Mutation.$name takes one input of its own', (field) => {
    const input = `${field.name.charAt(0).toUpperCase()}${field.name.slice(1)}Input!`;
    expect(field.args.map(({ name, type }) => [name, String(type)])).toEqual([['input', input]]);
  });
});

test('no type is called Error: a driver’s message would pass through it', () => {
  expect(schema.getType('Error')).toBeUndefined();
});
