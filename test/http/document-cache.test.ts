import { Writable } from 'node:stream';
import { createClient } from 'graphql-ws';
import { parse } from 'graphql';
import pino from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { AccessWatch } from '../../src/auth/access-watch.ts';
import { recogniseLocalOperator } from '../../src/auth/local-operator.ts';
import { createRecognition } from '../../src/auth/recognition.ts';
import { DocumentCache } from '../../src/http/document-cache.ts';
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

/** The HTTP server with nothing behind it, and the documents that it keeps. */
async function serve(): Promise<{ url: string; documents: DocumentCache }> {
  const log = pino(
    new Writable({
      write: (_chunk, _encoding, done) => {
        done();
      },
    }),
  );
  const documents = new DocumentCache();
  server = await listen({
    host: '127.0.0.1',
    port: 0,
    publicUrl: '',
    corsOrigins: [],
    trustedProxies: 0,
    loopbackOnly: true,
    graphiql: null,
    graphql: createGraphQL({ gateway: { log } as Gateway, access, introspection: true, documents }),
    recognise: createRecognition([recogniseLocalOperator]),
    access,
    streamTimes: {},
    health: { ready: () => Promise.resolve({ ready: true, checks: {} }) },
    log,
  });
  return { url: server.url, documents };
}

const limit = 16 * 1024 * 1024;
const answer = { data: { __typename: 'Query' } };

/** A document of that many bytes; `number` makes it another one. */
function long(number: number, bytes: number): string {
  const document = `{ __typename } # ${number} `;
  return document + 'x'.repeat(bytes - document.length);
}

/** A short document of many tokens, which take far more memory than its text. */
function dense(number: number): string {
  const ids = '1 '.repeat(1300);
  return `query Q${number}($ids: [ID!] = [${ids}]) {
    __typename tenantHealth(ids: $ids) @skip(if: true) { error } }`;
}

type Ask = (query: string) => Promise<unknown>;

const transports: Readonly<
  Record<string, (url: string) => { readonly ask: Ask; readonly end: () => unknown }>
> = {
  HTTP: (url) => ({
    end: () => undefined,
    ask: async (query) => {
      const body = JSON.stringify({ query });
      const headers = { 'Content-Type': 'application/json' };
      return (await exchange(url, { method: 'POST', path: '/graphql', headers, body })).json;
    },
  }),
  WebSocket: (url) => {
    const address = `${url.replace('http', 'ws')}/graphql`;
    const client = createClient({ url: address, webSocketImpl: WebSocket, lazy: false });
    return {
      end: () => client.dispose(),
      ask: async (query) => {
        try {
          return (await client.iterate({ query }).next()).value as unknown;
        } catch (errors) {
          return { errors };
        }
      },
    };
  },
};

describe.for(Object.entries(transports))('documents over %s', ([, transport]) => {
  test('that are long are answered, and none of them is kept', async () => {
    const { url, documents } = await serve();
    const { ask, end } = transport(url);
    for (let number = 0; number < 20; number += 1) {
      expect(await ask(long(number, 16 * 1024 + 1))).toEqual(answer);
      expect(await ask(long(number, 90_000))).toEqual(answer);
    }
    expect(documents).toMatchObject({ size: 0, bytes: 0 });
    await end();
  });

  test('that are many take no more than 16 MB', async () => {
    const { url, documents } = await serve();
    const { ask, end } = transport(url);
    for (let number = 0; number < 50; number += 1) {
      expect(await ask(dense(number))).toEqual(answer);
    }
    expect(documents.bytes).toBeGreaterThan(limit / 2);
    expect(documents.bytes).toBeLessThanOrEqual(limit);
    expect(documents.size).toBeLessThan(50);
    await end();
  });

  test('that are no documents are not kept, and are refused each time', async () => {
    const { url, documents } = await serve();
    const { ask, end } = transport(url);
    for (const broken of ['{ __typename', '{ nothing }', `{ ${'nothing '.repeat(500)}}`]) {
      const first = await ask(broken);
      expect(first).toHaveProperty('errors');
      expect(await ask(broken)).toEqual(first);
    }
    expect(documents).toMatchObject({ size: 0, bytes: 0 });
    await end();
  });

  test('that are sent again are found', async () => {
    const { url, documents } = await serve();
    const { ask, end } = transport(url);
    const found: string[] = [];
    const get = documents.get.bind(documents);
    documents.get = (text) => {
      const document = get(text);
      if (document !== null) found.push(text);
      return document;
    };
    for (let time = 0; time < 3; time += 1) expect(await ask('{ __typename }')).toEqual(answer);
    expect(found).toEqual(['{ __typename }', '{ __typename }']);
    expect(documents.size).toBe(1);
    await end();
  });
});

describe('the cache', () => {
  test('forgets the least recently used document first', () => {
    const text = (name: string): string => `{ ${name} }`;
    const one = new DocumentCache();
    one.add(text('a'), parse(text('a')));
    const cache = new DocumentCache({ documentBytes: 100, totalBytes: 2 * one.bytes });
    for (const name of ['a', 'b', 'a', 'c']) {
      if (cache.get(text(name)) === null) cache.add(text(name), parse(text(name)));
    }
    expect(['a', 'b', 'c'].map((name) => cache.get(text(name)) !== null)).toEqual([
      true,
      false,
      true,
    ]);
    expect(cache.bytes).toBe(2 * one.bytes);
  });

  test('counts bytes of UTF-8, and a document once', () => {
    const cache = new DocumentCache({ documentBytes: 20, totalBytes: 100_000 });
    const ascii = `{ a } #${'x'.repeat(13)}`;
    const wide = `{ a } #${'é'.repeat(13)}`;
    for (const text of [ascii, ascii, wide]) cache.add(text, parse(text));
    expect(cache.size).toBe(1);
    expect(cache.get(wide)).toBeNull();
  });
});
