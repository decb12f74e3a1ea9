import { Writable } from 'node:stream';
import pino from 'pino';
import { describe, expect, test } from 'vitest';
import type { Recognition } from '../../src/auth/recognition.ts';
import { Refusal } from '../../src/errors.ts';
import { createGraphQL, executeInProcess } from '../../src/http/graphql.ts';
import type { Incoming } from '../../src/http/incoming.ts';
import type { Gateway } from '../../src/schema/context.ts';

const incoming: Incoming = {
  requestId: 'the-request',
  ipAddress: '127.0.0.1',
  authorization: null,
  apiKey: null,
  idempotencyKey: null,
  apiKeyOnCreate: true,
  signal: new AbortController().signal,
  onRateLimit: () => undefined,
};
const query = '{ viewer { kind } }';

/** The engine with nothing behind it, whose callers are recognised like this. */
function engine(recognise: Recognition) {
  const lines: string[] = [];
  const log = pino(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(chunk.toString());
        done();
      },
    }),
  );
  // Recognition comes before anything else of the gateway is touched.
  const graphql = createGraphQL({ gateway: { log } as Gateway, recognise, introspection: true });
  const post = async (): Promise<{ status: number; json: unknown }> => {
    const response = await graphql.fetch(
      'http://localhost/graphql',
      {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ query }),
      },
      { incoming },
    );
    return { status: response.status, json: await response.json() };
  };
  return { graphql, post, lines };
}

describe('when recognition breaks down', () => {
  const outage: Recognition = () => Promise.reject(new Error('keys.internal does not answer'));
  const shown = {
    message: 'Unexpected error',
    extensions: { code: 'INTERNAL_SERVER_ERROR', requestId: 'the-request' },
  };
  function expectLogged(lines: readonly string[]): void {
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: 50,
      requestId: 'the-request',
      msg: 'request failed',
      err: { message: 'keys.internal does not answer' },
    });
  }

  test('POST /graphql is 500, and the log knows why', async () => {
    const { post, lines } = engine(outage);
    expect(await post()).toEqual({ status: 500, json: { errors: [shown] } });
    expectLogged(lines);
  });

  test('a route of REST is told the same, and the log knows why', async () => {
    const { graphql, lines } = engine(outage);
    const { errors, data } = await executeInProcess(graphql, query, {}, incoming);
    expect(data).toBeUndefined();
    expect(errors).toHaveLength(1);
    expect(errors![0]).toMatchObject(shown);
    expectLogged(lines);
  });
});

describe('when recognition refuses', () => {
  const refusal: Recognition = () =>
    Promise.reject(new Refusal('UNAUTHENTICATED', 'The token has expired'));

  test('POST /graphql is 401, and the log says nothing of an error', async () => {
    const { post, lines } = engine(refusal);
    const errors = [{ message: 'The token has expired', extensions: { code: 'UNAUTHENTICATED' } }];
    expect(await post()).toEqual({ status: 401, json: { errors } });
    expect(lines).toEqual([]);
  });

  test('a route of REST is told the same', async () => {
    const { graphql, lines } = engine(refusal);
    const { errors } = await executeInProcess(graphql, query, {}, incoming);
    expect(errors![0]).toMatchObject({ extensions: { code: 'UNAUTHENTICATED' } });
    expect(lines).toEqual([]);
  });
});
