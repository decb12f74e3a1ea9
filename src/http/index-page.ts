import { createHash } from 'node:crypto';
import { fixContent, makeOnce, type FixedContent } from './fixed-content.ts';

/** The page at `/`: where to go from here. */
export function createIndexPage({
  graphiql,
}: {
  readonly graphiql: boolean;
}): () => Promise<FixedContent> {
  return makeOnce(() => make(graphiql));
}

async function make(graphiql: boolean): Promise<FixedContent> {
  const hash = createHash('sha256').update(style).digest('base64');
  return fixContent(html(graphiql), {
    type: 'text/html; charset=utf-8',
    cache: 'revalidate',
    headers: {
      'Content-Security-Policy': `default-src 'none'; style-src 'sha256-${hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    },
  });
}

const style = `
  body { margin: 15vh auto 0; max-width: 34rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
  dt { margin-top: 1rem; font-weight: 600; }
  dd { margin: 0; color: #555; }
  @media (prefers-color-scheme: dark) {
    body { background: #1a1d21; color: #e8e8e8; }
    a { color: #8ab4f8; }
    dd { color: #aaa; }
  }
`;

const html = (graphiql: boolean): string => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Tenantry</title>
    <link rel="icon" href="data:,">
    <style>${style}</style>
  </head>
  <body>
    <h1>Tenantry</h1>
    <p>A PostgreSQL database of its own for every tenant.</p>
    <dl>
      ${graphiql ? '<dt><a href="graphql">GraphiQL</a></dt><dd>The GraphQL API: try it, with ready examples.</dd>' : ''}
      ${graphiql ? '<dt><a href="portal">Partner portal</a></dt><dd>An example to copy: a batch of tenants, watched while they are made.</dd>' : ''}
      <dt><a href="docs">REST reference</a></dt><dd>Every route, body, error and header, to try out.</dd>
      <dt><a href="openapi.json">openapi.json</a></dt><dd>The same for programs (OpenAPI 3.1).</dd>
      <dt><a href="readyz">Health</a></dt><dd>Whether it can serve, and what is in the way.</dd>
    </dl>
  </body>
</html>
`;
