/** Every example of the document is run, in its order: what one makes is there for the next. */
import { afterAll, describe, expect, test } from 'vitest';
import { createWorld } from '../harness.ts';
import { exchange, type WireAnswer } from '../http/wire.ts';
import {
  createCheck,
  needsToken,
  operationsOf,
  readDocument,
  requestOf,
  type Operation,
} from './openapi-document.ts';
import { bearer, tokenSettings } from '../tokens.ts';

// Here and not in `beforeAll`: the document is the table of the tests.
const world = await createWorld();
afterAll(() => world.close());
const { url } = await world.start({
  settings: { ...tokenSettings, AUTH_MODE: 'open', RATE_LIMIT_CREATIONS_PER_MINUTE: '10' },
});
const token = await bearer({ roles: ['partner-admin'], partner: 'examples' });
const document = await readDocument(url);
const check = createCheck(document);
const operations = operationsOf(document);

const uuid = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;

/** Path parameters by operation, found by following the documented links. */
const linked = new Map<string, Record<string, string>>();

function paramsOf({ operationId, parameters }: Operation): Record<string, string> {
  const params: Record<string, string> = {};
  for (const parameter of parameters) {
    if ('$ref' in parameter || parameter.in !== 'path') continue;
    const example = String(parameter.example);
    // Nobody can choose an id: the one to ask for is in an earlier answer.
    const known = example.match(uuid) ? linked.get(operationId)?.[parameter.name] : example;
    expect(known, `nothing links to ${operationId}`).toBeDefined();
    params[parameter.name] = known!;
  }
  return params;
}

/** Runs a request, compares the answer with the document, and follows its links. */
async function run(operation: Operation, body: unknown, headers = {}): Promise<WireAnswer> {
  const answer = await exchange(
    url,
    requestOf(operation, body, paramsOf(operation), {
      ...(needsToken(operation) ? token : {}),
      ...headers,
    }),
  );
  check(operation, answer);
  const { links = {} } = operation.responses[answer.status]!;
  for (const { operationId, parameters } of Object.values(links)) {
    const params = linked.get(operationId) ?? {};
    for (const [name, pointer] of Object.entries(parameters)) {
      const field = pointer.replace('$response.body#/', '');
      params[name] ??= String((answer.json as Record<string, unknown>)[field]);
    }
    linked.set(operationId, params);
  }
  return answer;
}

/** The documented answer holds nothing that a real one has not, ids, times and counts apart. */
function expectExample(operation: Operation, answer: WireAnswer): void {
  const content = operation.responses[answer.status]?.content ?? {};
  const [[type, { example }] = ['', {}]] = Object.entries(content);
  if (example === undefined) return;
  if (type === 'application/json') expect(plain(answer.json)).toEqual(within(plain(example)));
  else expect(plain(answer.text)).toContain(plain(example));
}

/** Without what differs from run to run. */
function plain(value: unknown): unknown {
  if (typeof value === 'number') return 0;
  if (typeof value === 'string') {
    return value.replaceAll(uuid, 'uuid').replaceAll(time, 'time');
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

function within(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return expect.arrayContaining(value.map(within)) as unknown;
  const entries = Object.entries(value).map(([key, inner]) => [key, within(inner)]);
  return expect.objectContaining(Object.fromEntries(entries) as object);
}

describe.each(operations.map((operation) => [operation.operationId, operation] as const))(
  '%s',
  (_id, operation) => {
    test.each(operation.requests)('%s', async (name, body) => {
      const first = name === operation.requests[0]?.[0];
      const accepts = operation.responses['202'] !== undefined;
      const headers = accepts ? { 'Idempotency-Key': `${operation.operationId} ${name}` } : {};
      if (accepts) {
        const accepted = await run(operation, body, { ...headers, Prefer: 'respond-async' });
        expect(accepted.status).toBe(202);
        if (first) expectExample(operation, accepted);
      }
      // With the same key it waits for what was accepted.
      const answer = await run(operation, body, headers);
      expect([200, 201, 204]).toContain(answer.status);
      if (first) expectExample(operation, answer);
    });
  },
);

test('nothing comes after the last event', async () => {
  const operation = operations.find(({ operationId }) => operationId === 'followOperation')!;
  const headers = { 'Last-Event-ID': '1000' };
  expect((await run(operation, undefined, headers)).status).toBe(204);
});
