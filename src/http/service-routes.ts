import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import { codeForm } from '../rest/errors.ts';
import { describeApi } from '../rest/openapi.ts';
import type { DocumentedRoute } from '../rest/route.ts';
import { createDocsPage } from './docs-page.ts';
import { answerWith, fixContent, makeOnce, type FixedContent } from './fixed-content.ts';
import type { Incoming } from './incoming.ts';
import { createIndexPage } from './index-page.ts';
import { createPortalPage } from './portal-page.ts';
import * as docs from './service-docs.ts';

export interface RestEnv {
  Bindings: HttpBindings & { incomingRequest: Incoming };
}
export type RestContext = Context<RestEnv>;

/** What stands beside the contracts: health, the OpenAPI document, and the pages. */
export interface Service {
  readonly routes: readonly ServiceRoute[];
  /** A file of the page at `/docs`, named by the last part of the path. */
  docsFile(context: RestContext, name: string): Promise<Response>;
}

/** A route that belongs to no contract and runs no GraphQL document. */
interface ServiceRoute extends DocumentedRoute {
  answer(context: RestContext): Promise<Response> | Response;
}

export interface ServiceOptions {
  readonly publicUrl: string;
  readonly health: HealthChecks;
  /** Refuse requests whose Host header is not a loopback name (open mode). */
  readonly loopbackOnly: boolean;
  /** The page that a browser gets at `/graphql`; null: none. */
  readonly graphiql: object | null;
}

/** What the health endpoints ask. */
export interface HealthChecks {
  /** Whether requests can be served, and what is in the way. */
  ready(): Promise<{ readonly ready: boolean; readonly checks: Readonly<Record<string, string>> }>;
}

/** Builds what stands beside the contracts. */
export function createService(options: ServiceOptions): Service {
  const { publicUrl, health, loopbackOnly } = options;
  const index = createIndexPage({ graphiql: options.graphiql !== null });
  const page = createDocsPage({ publicUrl });
  const description = makeOnce(describe);
  const routes: readonly ServiceRoute[] = [
    {
      method: 'GET',
      path: '/livez',
      docs: docs.livez,
      answer: (context) => context.json({ status: 'ok' }),
    },
    {
      method: 'GET',
      path: '/readyz',
      docs: docs.readyz,
      async answer(context) {
        const { ready, checks } = await health.ready();
        return context.json({ status: ready ? 'ok' : 'unavailable', checks }, ready ? 200 : 503);
      },
    },
    fixed('/openapi.json', docs.openApi, description),
    fixed('/docs', docs.docsPage, () => page.page()),
    // For trying things out, as GraphiQL is.
    ...(options.graphiql === null ? [] : [fixed('/portal', docs.portalPage, createPortalPage())]),
    fixed('/', docs.indexPage, index),
  ];

  // Made when somebody first asks for it, of these very routes among others.
  async function describe(): Promise<FixedContent> {
    const service = { docs: docs.chapter, errors: codeForm, routes };
    const text = JSON.stringify(describeApi({ publicUrl, open: loopbackOnly, service }));
    return fixContent(text, { type: 'application/json; charset=utf-8', cache: 'revalidate' });
  }

  return {
    routes,
    async docsFile(context, name) {
      const file = await page.file(name);
      return file === null ? context.notFound() : send(context, file);
    },
  };
}

function fixed(
  path: string,
  routeDocs: DocumentedRoute['docs'],
  content: () => Promise<FixedContent>,
): ServiceRoute {
  return {
    method: 'GET',
    path,
    docs: routeDocs,
    answer: async (context) => send(context, await content()),
  };
}

function send(context: RestContext, content: FixedContent): Response {
  context.env.outgoing.appendHeader('Vary', 'Accept-Encoding'); // beside that of CORS
  const answer = answerWith(content, (name) => context.req.header(name) ?? null);
  return new Response(answer.body, answer);
}
