import { GraphQLScalarType } from 'graphql';
import { DateTimeResolver, SafeIntResolver } from 'graphql-scalars';
import { builder } from './builder.ts';

builder.addScalarType(
  'DateTime',
  new GraphQLScalarType({
    ...DateTimeResolver.toConfig(),
    name: 'DateTime',
    description: 'A moment as RFC 3339 in UTC, e.g. `2026-01-17T10:30:00.000Z`.',
  }),
);

builder.addScalarType(
  'BigInt',
  new GraphQLScalarType({
    ...SafeIntResolver.toConfig(),
    name: 'BigInt',
    description: 'A whole number as a JSON number, up to 2^53.',
  }),
);
