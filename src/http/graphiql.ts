import type { IncomingMessage, ServerResponse } from 'node:http';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
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
  let rendered: Promise<RenderedPage> | undefined;
  return {
    async serve(request, response) {
      rendered ??= render();
      const { html, compressed, headers } = await rendered;
      response.appendHeader('Vary', 'Accept, Accept-Encoding');
      if (headerOf(request, 'if-none-match') === headers['ETag']) {
        response.writeHead(304, headers).end();
      } else if (/\bgzip\b/.test(headerOf(request, 'accept-encoding') ?? '')) {
        response.writeHead(200, { ...headers, 'Content-Encoding': 'gzip' }).end(compressed);
      } else {
        response.writeHead(200, headers).end(html);
      }
    },
  };
}

interface RenderedPage {
  readonly html: string;
  readonly compressed: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

async function render(): Promise<RenderedPage> {
  const { renderGraphiQL } = await import('@graphql-yoga/render-graphiql');
  const html = renderGraphiQL({
    title: 'Tenantry GraphiQL',
    endpoint: '/graphql',
    defaultQuery: exampleOperations,
    headers: exampleHeaders,
    defaultEditorToolsVisibility: 'headers',
    shouldPersistHeaders: false,
  });
  const compressed = await promisify(gzip)(html, { level: 6 });
  const digest = createHash('sha256').update(compressed).digest('base64url').slice(0, 22);
  return {
    html,
    compressed,
    headers: {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-cache', // asks each time, and is told 304
      ETag: `"${digest}"`,
      // All of it is inline, and its editor works in blobs; nothing outside is ever needed.
      'Content-Security-Policy':
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; " +
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; " +
        "worker-src 'self' blob: data:; connect-src 'self' data: blob:; frame-ancestors 'none'",
    },
  };
}
