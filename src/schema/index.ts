import type { GraphQLSchema } from 'graphql';
import { builder } from './builder.ts';
import './scalars.ts';
import './viewer.ts';
import './tenant.ts';
import './operation.ts';
import './progress.ts';
import './tenants-page.ts';
import './api-key-mutations.ts';
import './create-tenant.ts';
import './batch.ts';
import './create-tenants-batch.ts';
import './delete-tenant.ts';
import './update-tenant.ts';
import './reveal-tenant-connection.ts';
import './audit.ts';
import './drift.ts';
import './cancel-operation.ts';
import './health.ts';

/** The GraphQL schema; built once, since types are registered by loading their files. */
export const schema: GraphQLSchema = builder.toSchema();
