import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerWith, fixContent, makeOnce, type FixedContent } from './fixed-content.ts';
import { exampleHeaders, exampleOperations } from './graphiql-examples.ts';
import { headerOf } from './incoming.ts';

/** The GraphiQL page, with everything it needs in it: it works without the internet. */
export interface GraphiQLPage {
  serve(request: IncomingMessage, response: ServerResponse): Promise<void>;
}

/**
 * The page. 9 MB of text, so it is loaded, rendered and compressed once, when somebody first asks for
 * it: a start does not wait for that.
 */
export function createGraphiQLPage(): GraphiQLPage {
  const page = makeOnce(render);
  return {
    async serve(request, response) {
      const content = await page();
      response.appendHeader('Vary', 'Accept, Accept-Encoding');
      const { status, headers, body } = answerWith(content, (name) => headerOf(request, name));
      response.writeHead(status, headers).end(body);
    },
  };
}

async function render(): Promise<FixedContent> {
  const { renderGraphiQL } = await import('@graphql-yoga/render-graphiql');
  const html = renderGraphiQL({
    title: 'Tenantry GraphiQL',
    endpoint: '/graphql',
    defaultQuery: exampleOperations,
    headers: exampleHeaders,
    defaultEditorToolsVisibility: 'headers',
    shouldPersistHeaders: false,
  });
  return fixContent(html, {
    type: 'text/html; charset=utf-8',
    cache: 'revalidate',
    headers: {
      // All of it is inline, and its editor works in blobs; nothing outside is ever needed.
      'Content-Security-Policy':
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; " +
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; " +
        "worker-src 'self' blob: data:; connect-src 'self' data: blob:; frame-ancestors 'none'",
    },
  });
}
