import { readFileSync } from 'node:fs';
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isNonNullType,
  isObjectType,
  Kind,
  parse,
  print,
  type DefinitionNode,
  type GraphQLNamedType,
} from 'graphql';
import { describe, expect, test } from 'vitest';
import { schema } from '../../src/schema/index.ts';

/**
 * What the contract has and this version does not: not yet, that is. Whoever makes one of these takes
 * it off the list. Types that nothing refers to yet go with the fields that will.
 */
const missing: readonly string[] = [
  // what is done to a tenant that is there
  'Mutation.restoreTenant',
  'Mutation.purgeTenant',
  'Mutation.suspendTenant',
  'Mutation.resumeTenant',
  'Mutation.rotateTenantCredentials',
  // what is done to an operation
  'Mutation.retryOperation',
];

const contract = parse(readFileSync(new URL('contract.graphql', import.meta.url), 'utf8'));

/** A field, argument, field of an input or value of an enum, and its type (none: a value). */
type Members = ReadonlyMap<string, string | null>;

function promised(definition: DefinitionNode): { name: string; members: Members } {
  switch (definition.kind) {
    case Kind.OBJECT_TYPE_DEFINITION: {
      const members = (definition.fields ?? []).flatMap((field): [string, string][] => [
        [field.name.value, print(field.type)],
        ...(field.arguments ?? []).map((argument): [string, string] => [
          `${field.name.value}(${argument.name.value}:)`,
          print(argument.type),
        ]),
      ]);
      return { name: definition.name.value, members: new Map(members) };
    }
    case Kind.INPUT_OBJECT_TYPE_DEFINITION: {
      const members = (definition.fields ?? []).map((field): [string, string] => [
        field.name.value,
        print(field.type),
      ]);
      return { name: definition.name.value, members: new Map(members) };
    }
    case Kind.ENUM_TYPE_DEFINITION: {
      const members = (definition.values ?? []).map((value): [string, null] => [
        value.name.value,
        null,
      ]);
      return { name: definition.name.value, members: new Map(members) };
    }
    default:
      throw new Error(`the contract has no ${definition.kind}`);
  }
}

function existing(type: GraphQLNamedType): Members {
  if (isEnumType(type)) return new Map(type.getValues().map(({ name }) => [name, null]));
  if (isInputObjectType(type)) {
    return new Map(
      Object.values(type.getFields()).map((field) => [field.name, String(field.type)]),
    );
  }
  if (!isObjectType(type)) throw new Error(`${type.name} is of another kind`);
  return new Map(
    Object.values(type.getFields()).flatMap((field): [string, string][] => [
      [field.name, String(field.type)],
      ...field.args.map((argument): [string, string] => [
        `${field.name}(${argument.name}:)`,
        String(argument.type),
      ]),
    ]),
  );
}

const definitions = contract.definitions.map(promised);

/** Members of types that exist. An argument is missing only where its field is not. */
function lacking(): string[] {
  return definitions.flatMap(({ name, members }) => {
    const type = schema.getType(name);
    if (type === undefined) return [];
    const there = existing(type);
    return [...members.keys()]
      .filter((member) => !there.has(member))
      .filter((member) => !member.includes('(') || there.has(member.replace(/\(.*/, '')))
      .map((member) => `${name}.${member}`);
  });
}

describe('the contract', () => {
  test('all of it is there, but for what is listed as missing', () => {
    expect(lacking().filter((coordinate) => !missing.includes(coordinate))).toEqual([]);
  });

  test('nothing is listed as missing that is there', () => {
    const there = lacking();
    expect(missing.filter((coordinate) => !there.includes(coordinate))).toEqual([]);
  });

  test.for(definitions)(
    '$name: what is there has the type that was promised',
    ({ name, members }) => {
      const type = schema.getType(name);
      if (type === undefined) return;
      const there = existing(type);
      const differing = [...members].filter(
        ([member, promise]) => there.has(member) && there.get(member) !== promise,
      );
      expect(differing).toEqual([]);
    },
  );

  test.for(definitions)(
    '$name: what is there beyond it is optional to give',
    ({ name, members }) => {
      const type = schema.getType(name);
      const required = isInputObjectType(type)
        ? Object.values(type.getFields())
            .filter((field) => isNonNullType(field.type) && field.default === undefined)
            .map((field) => field.name)
        : isObjectType(type)
          ? Object.values(type.getFields())
              .filter((field) => members.has(field.name))
              .flatMap((field) =>
                field.args
                  .filter((argument) => isNonNullType(argument.type))
                  .map((argument) => `${field.name}(${argument.name}:)`),
              )
          : [];
      expect(required.filter((member) => !members.has(member))).toEqual([]);
    },
  );

  test.for(['TenantConnection', 'OperationConnection', 'BatchConnection', 'AuditEntryConnection'])(
    '%s follows Relay',
    (name) => {
      const type = schema.getType(name);
      if (!isObjectType(type)) return; // listed as missing, with the field that has it
      const fields = type.getFields();
      expect(Object.keys(fields).sort()).toEqual(['edges', 'nodes', 'pageInfo', 'totalCount']);
      expect(String(fields['pageInfo']!.type)).toBe('PageInfo!');
      expect(String(fields['totalCount']!.type)).toBe('Int!');
      const node = name === 'BatchConnection' ? 'TenantBatch' : name.replace(/Connection$/, '');
      expect(getNamedType(fields['nodes']!.type).name).toBe(node);
      const edge = getNamedType(fields['edges']!.type);
      expect(isObjectType(edge) && Object.keys(edge.getFields()).sort()).toEqual([
        'cursor',
        'node',
      ]);
    },
  );
});
