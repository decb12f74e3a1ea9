import { GraphQLError, type ExecutionResult } from 'graphql';
import { describe, expect, test } from 'vitest';
import { failure, Refusal, type Failure, type FailureCode } from '../../src/errors.ts';
import { contractA } from '../../src/rest/contract-a.ts';
import { codeForm, detailForm, type ProblemCode } from '../../src/rest/errors.ts';
import { errorFormFor } from '../../src/rest/index.ts';
import type { Reply } from '../../src/rest/reply.ts';
import type { Route } from '../../src/rest/route.ts';
import { runRoute } from '../../src/rest/run.ts';
import { toGraphQLError } from '../../src/schema/errors.ts';

/** rest.md, 'Errors, by contract'. */
const table: readonly (readonly [code: ProblemCode, a: number, others: number, name: string])[] = [
  ['INVALID', 422, 400, 'VALIDATION_ERROR'],
  ['MALFORMED_JSON', 422, 400, 'VALIDATION_ERROR'],
  ['TAKEN', 400, 409, 'CONFLICT'],
  ['NOT_FOUND', 404, 404, 'NOT_FOUND'],
  ['INVALID_STATE', 409, 409, 'INVALID_STATE'],
  ['PROTECTED', 409, 409, 'PROTECTED'],
  ['VERSION_MISMATCH', 412, 412, 'VERSION_MISMATCH'],
  ['LIMIT_EXCEEDED', 400, 400, 'LIMIT_EXCEEDED'],
  ['IDEMPOTENCY_MISMATCH', 422, 422, 'IDEMPOTENCY_MISMATCH'],
  ['UNAUTHENTICATED', 401, 401, 'UNAUTHENTICATED'],
  ['FORBIDDEN', 403, 403, 'FORBIDDEN'],
  ['RATE_LIMITED', 429, 429, 'RATE_LIMITED'],
  ['PROVISIONING_FAILED', 500, 500, 'PROVISIONING_FAILED'],
  ['UNAVAILABLE', 503, 503, 'UNAVAILABLE'],
  ['TIMED_OUT', 504, 504, 'TIMED_OUT'],
];
const message = 'what is wrong';

describe('the form of contract A', () => {
  test.for(table)('%s is %i', ([code, status]) => {
    const detail =
      status === 422 ? [{ type: 'value_error', loc: ['body'], msg: message }] : message;
    expect(detailForm({ code, message })).toEqual({ status, body: { detail } });
  });

  test('422 has a place for each problem', () => {
    const issues = [
      { type: 'missing', path: ['a'], message: 'one' },
      { type: 'enum', path: ['b', 0], message: 'two' },
    ];
    expect(detailForm({ code: 'INVALID', message, issues }).body).toEqual({
      detail: [
        { type: 'missing', loc: ['body', 'a'], msg: 'one' },
        { type: 'enum', loc: ['body', 'b', 0], msg: 'two' },
      ],
    });
  });
});

describe('the form of the other contracts', () => {
  test.for(table)('%s', ([code, , status, name]) => {
    expect(codeForm({ code, message })).toEqual({
      status,
      body: { error: { code: name, message } },
    });
  });

  test('details name the fields', () => {
    const issues = [{ type: 'enum', path: ['b', 0], message: 'two' }];
    expect(codeForm({ code: 'INVALID', message, issues }).body).toEqual({
      error: { code: 'VALIDATION_ERROR', message, details: [{ field: 'b.0', message: 'two' }] },
    });
  });
});

test.for([
  ['/api/v1/tenants', detailForm],
  ['/api/v1/anything/else', detailForm],
  ['/api/v1', detailForm],
  ['/api/v1x', codeForm],
  ['/api/operations/x', codeForm],
  ['/', codeForm],
] as const)('%s has the form of its contract', ([path, form]) => {
  expect(errorFormFor(path)).toBe(form);
});

const operation = { id: '550e8400-e29b-41d4-a716-446655440000' };
const location = `https://tenants.example.com/api/operations/${operation.id}`;

/** What contract A answers when its document comes to this result. */
function answered(result: ExecutionResult): Promise<Reply> {
  const request = {
    method: 'POST',
    params: {},
    query: new URLSearchParams(),
    header: (name: string) => (name === 'content-type' ? 'application/json' : null),
    body: Buffer.from('{"name": "acme", "environment": "production"}'),
  };
  return runRoute(contractA, contractA.routes[0] as Route, request, {
    execute: () => Promise.resolve(result),
    publicUrl: 'https://tenants.example.com',
  });
}

const failing = (...userErrors: Failure[]): Promise<Reply> =>
  answered({ data: { createTenant: { tenant: null, operation, userErrors } } });

describe('POST /api/v1/tenants: what comes of its document', () => {
  test.for<[FailureCode, number]>([
    ['UNAVAILABLE', 503],
    ['PROVISIONING_FAILED', 500],
    ['LIMIT_EXCEEDED', 400],
    ['TAKEN', 400],
    ['INVALID_STATE', 409],
    ['NOT_FOUND', 404],
  ])('%s is %i', async ([code, status]) => {
    expect(await failing(failure(code, message))).toEqual({ status, body: { detail: message } });
  });

  test('TIMED_OUT is 504 with the Location of the operation', async () => {
    expect(await failing(failure('TIMED_OUT', message))).toEqual({
      status: 504,
      body: { detail: message },
      headers: { Location: location },
    });
  });

  test('INVALID is 422 with all problems, and hides what else there is', async () => {
    const reply = await failing(
      failure('TAKEN', 'taken'),
      failure('INVALID', 'one', ['input', 'name']),
      failure('INVALID', 'two', ['input', 'settings', 'limits']),
      failure('INVALID', 'three'),
    );
    expect(reply).toEqual({
      status: 422,
      body: {
        detail: [
          { type: 'value_error', loc: ['body', 'name'], msg: 'one' },
          { type: 'value_error', loc: ['body', 'settings', 'limits'], msg: 'two' },
          { type: 'value_error', loc: ['body'], msg: 'three' },
        ],
      },
    });
  });

  test.for([
    [new Refusal('UNAUTHENTICATED', message), 401, { 'WWW-Authenticate': 'Bearer' }],
    [new Refusal('FORBIDDEN', message), 403, {}],
    [new Refusal('RATE_LIMITED', message, 7), 429, { 'Retry-After': '7' }],
    [new Refusal('NOT_FOUND', message), 404, {}],
  ] as const)('a refusal: %s', async ([refusal, status, headers]) => {
    const errors = [toGraphQLError(refusal)];
    const reply = await answered({ errors, data: { createTenant: null } });
    expect(reply).toEqual({ status, body: { detail: message }, headers });
  });

  test('an unexpected error is 500 and says nothing', async () => {
    const extensions = { code: 'INTERNAL_SERVER_ERROR', requestId: 'x' };
    const errors = [new GraphQLError('relation "x" does not exist', { extensions })];
    expect(await answered({ errors, data: null })).toEqual({
      status: 500,
      body: { detail: 'Unexpected error' },
    });
  });

  test('a document that its own schema refuses is a bug, and thrown', async () => {
    const errors = [new GraphQLError('Cannot query field "x"')];
    await expect(answered({ errors })).rejects.toBe(errors[0]);
  });
});
