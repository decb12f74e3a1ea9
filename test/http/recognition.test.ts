import { Writable } from 'node:stream';
import pino from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import type { AccessWatch } from '../../src/auth/access-watch.ts';
import type { Recognition } from '../../src/auth/recognition.ts';
import { Refusal } from '../../src/errors.ts';
import { createGraphQL } from '../../src/http/graphql.ts';
import { listen, type HttpServer } from '../../src/http/server.ts';
import type { Gateway } from '../../src/schema/context.ts';
import { exchange } from './wire.ts';

const access: AccessWatch = {
  check: () => Promise.resolve(),
  watch: () => () => undefined,
  close: () => undefined,
};
let server: HttpServer | undefined;
afterEach(() => server?.close(0));

/** The HTTP server with nothing behind it, whose callers are recognised like this. */
async function serve(recognise: Recognition): Promise<{ url: string; errors: () => object[] }> {
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
  server = await listen({
    host: '127.0.0.1',
    port: 0,
    publicUrl: '',
    corsOrigins: [],
    trustedProxies: 0,
    loopbackOnly: true,
    graphiql: null,
    graphql: createGraphQL({ gateway: { log } as Gateway, access, introspection: true }),
    recognise,
    access,
    streamTimes: {},
    health: { ready: () => Promise.resolve({ ready: true, checks: {} }) },
    log,
  });
  const errors = (): { level: number }[] =>
    lines.map((line) => JSON.parse(line) as { level: number }).filter(({ level }) => level >= 50);
  return { url: server.url, errors };
}

const json = { 'Content-Type': 'application/json', 'X-Request-Id': 'the-request' };
// None of them would do if they were looked at: a stranger learns nothing about that.
const requests = [
  ['POST /graphql', { method: 'POST', path: '/graphql', headers: json, body: '{"query": "{"}' }],
  ['GET /graphql', { path: '/graphql?query=%7B', headers: json }],
  ['POST /api/v1/tenants', { method: 'POST', path: '/api/v1/tenants', headers: json, body: '{' }],
  ['POST /api/tenants', { method: 'POST', path: '/api/tenants', headers: json, body: '{}' }],
  ['GET /api/tenants', { path: '/api/tenants?limit=0', headers: json }],
  ['GET /api/operations/{id}/events', { path: '/api/operations/x/events', headers: json }],
] as const;

describe.for(requests)('%s', ([name, request]) => {
  test('is 500 when recognition breaks down, and the log knows why', async () => {
    const outage: Recognition = () => Promise.reject(new Error('keys.internal does not answer'));
    const { url, errors } = await serve(outage);
    const answer = await exchange(url, request);
    expect(answer.status).toBe(500);
    expect(answer.text).not.toContain('keys.internal');
    expect(errors()).toEqual([
      expect.objectContaining({
        requestId: 'the-request',
        msg: 'request failed',
        err: expect.objectContaining({ message: 'keys.internal does not answer' }) as unknown,
      }),
    ]);
  });

  test.for([
    [new Refusal('UNAUTHENTICATED', 'The token has expired'), 401, 'www-authenticate', 'Bearer'],
    [new Refusal('RATE_LIMITED', 'Too many', 7), 429, 'retry-after', '7'],
    [new Refusal('UNAVAILABLE', 'No keys'), 503, undefined, undefined],
  ] as const)('is refused with %s', async ([refusal, status, header, value]) => {
    const { url, errors } = await serve(() => Promise.reject(refusal));
    const answer = await exchange(url, request);
    expect(answer.status).toBe(status);
    if (header !== undefined) expect(answer.headers[header]).toBe(value);
    const { code, message } = refusal;
    expect(answer.json).toEqual(
      name.endsWith('/graphql')
        ? { errors: [{ message, extensions: { code } }] }
        : name.includes('/v1/')
          ? { detail: message }
          : { error: { code, message } },
    );
    expect(errors()).toEqual([]);
  });
});
