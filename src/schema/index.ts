import type { GraphQLSchema } from 'graphql';
import { builder } from './builder.ts';
import './scalars.ts';
import './viewer.ts';
import './tenant.ts';
import './operation.ts';
import './create-tenant.ts';

/** The GraphQL schema; built once, since types are registered by loading their files. */
export const schema: GraphQLSchema = builder.toSchema();
