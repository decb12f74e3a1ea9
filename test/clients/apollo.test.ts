import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { OperationTypeNode, parse, type DocumentNode, type OperationDefinitionNode } from 'graphql';
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { exampleOperations } from '../../src/http/graphiql-examples.ts';
import { schema } from '../../src/schema/index.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';

let world: World;
let gateway: TestGateway;
let apollo: ApolloClient;
let socket: ReturnType<typeof createClient>;

beforeAll(async () => {
  world = await createWorld();
  gateway = await world.start();
  socket = createClient({
    url: gateway.url.replace('http', 'ws').concat('/graphql'),
    webSocketImpl: WebSocket,
  });
  apollo = new ApolloClient({
    cache: new InMemoryCache(),
    link: ApolloLink.split(
      ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
      new GraphQLWsLink(socket),
      new HttpLink({ uri: `${gateway.url}/graphql` }),
    ),
    defaultOptions: { query: { fetchPolicy: 'no-cache' } },
  });
});
afterAll(async () => {
  apollo.stop();
  await socket.dispose();
  await world.close();
});

/** The documents that GraphiQL opens with, one for each operation, by name. */
const documents = new Map<string, DocumentNode>(
  parse(exampleOperations)
    .definitions.filter((node): node is OperationDefinitionNode => 'operation' in node)
    .map((node) => [node.name?.value ?? '', { kind: parse('{ a }').kind, definitions: [node] }]),
);

function documentOf(name: string): DocumentNode {
  const document = documents.get(name);
  if (document === undefined) throw new Error(`GraphiQL has no operation ${name}`);
  return document;
}

describe('@apollo/client with the operations that GraphiQL opens with', () => {
  test('there is one for every mutation and subscription of the schema', () => {
    const used = [...documents.values()].flatMap(({ definitions }) =>
      definitions.flatMap((node) =>
        'operation' in node
          ? node.selectionSet.selections.map((field) => ('name' in field ? field.name.value : ''))
          : [],
      ),
    );
    const roots = [schema.getMutationType(), schema.getSubscriptionType()];
    for (const root of roots) {
      for (const field of Object.keys(root?.getFields() ?? {})) expect(used).toContain(field);
    }
  });

  test('Mutation.createTenant, Query.tenants, Query.operations, Query.viewer', async () => {
    const created = await apollo.mutate({ mutation: documentOf('CreateTenant') });
    expect(created.data).toMatchObject({
      createTenant: { tenant: { slug: 'acme-corp', status: 'ACTIVE' }, userErrors: [] },
    });
    const again = await apollo.mutate({ mutation: documentOf('CreateTenant') });
    expect(again.data).toEqual(created.data);
    const listed = await apollo.query({ query: documentOf('Tenants') });
    expect(listed.data).toMatchObject({ tenants: { totalCount: 1 } });
    const operations = await apollo.query({ query: documentOf('Operations') });
    expect(operations.data).toMatchObject({
      operations: { nodes: [{ kind: 'CREATE', percent: 100 }] },
    });
    const viewer = await apollo.query({ query: documentOf('WhoAmI') });
    expect(viewer.data).toMatchObject({ viewer: { kind: 'OPERATOR' } });
  });

  test('Subscription.tenantProvisioningProgress over graphql-ws', async () => {
    await apollo.mutate({ mutation: documentOf('CreateTenant') });
    const events: unknown[] = [];
    await new Promise<void>((resolve, reject) => {
      apollo.subscribe({ query: documentOf('WatchTenant') }).subscribe({
        next: ({ data, error }) => {
          if (error === undefined) events.push(data);
          else reject(new Error('the subscription failed', { cause: error }));
        },
        error: reject,
        complete: resolve,
      });
    });
    expect(events.at(-1)).toMatchObject({
      tenantProvisioningProgress: { step: 'activate', status: 'SUCCEEDED', percent: 100 },
    });
  });

  test('Mutation.createTenantsBatch, and its progress by batchId', async () => {
    const created = await apollo.mutate({
      mutation: parse(`mutation {
        createTenantsBatch(input: { wait: false, tenants: [
          { name: "Apollo one", isolation: SCHEMA }, { name: "Apollo two", isolation: SCHEMA }
        ] }) { batch { id } }
      }`),
    });
    const { createTenantsBatch } = created.data as {
      createTenantsBatch: { batch: { id: string } };
    };
    const batchId = createTenantsBatch.batch.id;
    const query = parse(`subscription ($batchId: ID!) {
      tenantProvisioningProgress(batchId: $batchId) {
        sequence step status batch { total succeeded percent }
      }
    }`);
    const events: { tenantProvisioningProgress: { sequence: number } }[] = [];
    await new Promise<void>((resolve, reject) => {
      apollo.subscribe<(typeof events)[number]>({ query, variables: { batchId } }).subscribe({
        next: ({ data }) => {
          if (data != null) events.push(data);
        },
        error: reject,
        complete: resolve,
      });
    });
    const sequences = events.map((event) => event.tenantProvisioningProgress.sequence);
    expect(sequences).toEqual([...new Set(sequences)].toSorted((a, b) => a - b));
    expect(events.at(-1)).toMatchObject({
      tenantProvisioningProgress: { batch: { total: 2, succeeded: 2, percent: 100 } },
    });
  });

  test('Mutation.deleteTenant', async () => {
    const { data } = await apollo.query({ query: documentOf('Tenants') });
    const [tenant] = (data as { tenants: { nodes: { id: string }[] } }).tenants.nodes;
    const text = JSON.stringify(documentOf('DeleteTenant'));
    const document = JSON.parse(text.replace("the tenant's id", tenant?.id ?? '')) as DocumentNode;
    const deleted = await apollo.mutate({ mutation: document });
    expect(deleted.data).toMatchObject({
      deleteTenant: { tenant: { status: 'DELETED' }, userErrors: [] },
    });
  });
});
