import { z } from 'zod';
import type { DialectDocs, RouteDocs } from '../rest/docs.ts';
import { codeBody } from '../rest/error-bodies.ts';

/** The chapter of what stands beside the contracts. */
export const chapter: DialectDocs = {
  tag: 'Service',
  description: 'Health, this document and the pages; nobody has to prove who he is.',
  errorBody: codeBody,
};

export const livez: RouteDocs = {
  operationId: 'getLiveness',
  summary: 'Whether the process answers',
  description: 'Asks nothing else: restart it when this fails.',
  replies: {
    200: {
      description: 'It does.',
      schema: z.object({ status: z.literal('ok') }),
      example: { status: 'ok' },
    },
  },
};

const checks = z.record(z.string(), z.string()).meta({
  description: 'What was checked: `ok`, `degraded: …` or `failed: …`.',
});

export const readyz: RouteDocs = {
  operationId: 'getReadiness',
  summary: 'Whether it can serve',
  description:
    'The control plane, the queue and the encryption key have to work. A cluster that is down is listed as degraded, and does not fail this.',
  replies: {
    200: {
      description: 'It can.',
      schema: z.object({ status: z.literal('ok'), checks }),
      example: {
        status: 'ok',
        checks: {
          controlPlane: 'ok',
          queue: 'ok',
          encryptionKey: 'ok',
          compensation: 'ok',
          'cluster:default': 'ok',
        },
      },
    },
    503: {
      description: 'It cannot.',
      schema: z.object({ status: z.literal('unavailable'), checks }),
      example: {
        status: 'unavailable',
        checks: {
          controlPlane: 'failed: does not work',
          queue: 'failed: does not work',
          encryptionKey: 'failed: does not work',
          compensation: 'degraded: does not work',
          'cluster:default': 'ok',
        },
      },
    },
  },
};

export const openApi: RouteDocs = {
  operationId: 'getOpenApi',
  summary: 'This document',
  description: 'OpenAPI 3.1 of everything that is served, made from the tables that serve it.',
  replies: {
    200: {
      description: 'The document.',
      schema: z.looseObject({
        openapi: z.string(),
        info: z.looseObject({ title: z.string(), version: z.string() }),
        paths: z.looseObject({}),
      }),
      example: { openapi: '3.1.0', info: { title: 'Tenantry', version: '1.0.0' }, paths: {} },
      headers: ['ETag', 'Cache-Control'],
    },
  },
};

export const docsPage: RouteDocs = {
  operationId: 'getDocs',
  summary: 'The reference as a page',
  description: 'Shows this document, and tries requests out. Needs nothing from the internet.',
  replies: { 200: pageReply('The page.') },
};

export const portalPage: RouteDocs = {
  operationId: 'getPortal',
  summary: 'A partner’s portal, as an example',
  description:
    'Makes a batch of tenants and shows each being made: one page without a build step, to copy. There where GraphiQL is on.',
  replies: { 200: pageReply('The page.') },
};

export const indexPage: RouteDocs = {
  operationId: 'getIndex',
  summary: 'Where to go from here',
  description: 'Links to GraphiQL where it is on, to the reference and to health.',
  replies: { 200: pageReply('The page.') },
};

function pageReply(description: string): RouteDocs['replies'][number] {
  return {
    description,
    mediaType: 'text/html',
    schema: z.string(),
    headers: ['ETag', 'Cache-Control'],
  };
}
