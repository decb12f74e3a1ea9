import type { IncomingMessage, ServerResponse } from 'node:http';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { renderGraphiQL } from '@graphql-yoga/render-graphiql';
import { headerOf } from './incoming.ts';

/** The GraphiQL page, with everything it needs in it: it works without the internet. */
export interface GraphiQLPage {
  serve(request: IncomingMessage, response: ServerResponse): void;
}

const example = `# Welcome to Tenantry. Press the play button (or Ctrl-Enter) and choose an operation.
# Every field is described: hover over it, or open the documentation on the left.

# A tenant with a PostgreSQL database of its own: created, verified, sealed.
mutation CreateTenant {
  createTenant(input: { name: "Acme Corp", environment: DEVELOPMENT }) {
    tenant {
      id
      number
      slug
      status
      database {
        cluster
        databaseName
        migrationVersion
        sizeBytes
      }
    }
    operation {
      status
      durationMs
      steps {
        name
        status
        durationMs
      }
    }
    # Shown this once.
    apiKey
    userErrors {
      code
      field
      message
    }
  }
}

query Tenants {
  tenants(first: 10, orderBy: { field: CREATED_AT, direction: DESC }) {
    totalCount
    nodes {
      number
      name
      slug
      status
      createdAt
    }
  }
}

query WhoAmI {
  viewer {
    subject
    kind
    permissions
  }
}
`;

/** Renders the page: 9 MB of text, so it is made and compressed once. */
export async function createGraphiQLPage(): Promise<GraphiQLPage> {
  const html = renderGraphiQL({
    title: 'Tenantry GraphiQL',
    endpoint: '/graphql',
    defaultQuery: example,
    headers: '{}',
    shouldPersistHeaders: false,
  });
  const compressed = await promisify(gzip)(html, { level: 6 });
  const etag = `"${createHash('sha256').update(compressed).digest('base64url').slice(0, 22)}"`;
  const headers = {
    'Content-Type': 'text/html; charset=utf-8',
    'Cache-Control': 'no-cache', // asks each time, and is told 304
    ETag: etag,
    // All of it is inline, and its editor works in blobs; nothing outside is ever needed.
    'Content-Security-Policy':
      "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; " +
      "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; " +
      "worker-src 'self' blob: data:; connect-src 'self' data: blob:; frame-ancestors 'none'",
  };
  return {
    serve(request, response) {
      response.appendHeader('Vary', 'Accept, Accept-Encoding');
      if (headerOf(request, 'if-none-match') === etag) {
        response.writeHead(304, headers).end();
        return;
      }
      if (/\bgzip\b/.test(headerOf(request, 'accept-encoding') ?? '')) {
        response.writeHead(200, { ...headers, 'Content-Encoding': 'gzip' }).end(compressed);
        return;
      }
      response.writeHead(200, headers).end(html);
    },
  };
}
