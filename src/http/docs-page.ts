import { readFile } from 'node:fs/promises';
import { fixContent, makeOnce, type FixedContent } from './fixed-content.ts';

/** The REST reference: Swagger UI, from our own origin and nowhere else. */
export interface DocsPage {
  page(): Promise<FixedContent>;
  /** A file that the page loads from below itself; null: there is none of this name. */
  file(name: string): Promise<FixedContent | null>;
}

/** The page. It is read and compressed when somebody first asks for it: a start does not wait for that. */
export function createDocsPage({ publicUrl }: { readonly publicUrl: string }): DocsPage {
  const load = makeOnce(() => loadAll(publicUrl));
  return {
    page: async () => (await load()).page,
    file: async (name) => (await load()).files.get(name) ?? null,
  };
}

interface Loaded {
  readonly page: FixedContent;
  readonly files: ReadonlyMap<string, FixedContent>;
}

async function loadAll(publicUrl: string): Promise<Loaded> {
  const libraryCss = await readFile(new URL(import.meta.resolve('swagger-ui-dist/swagger-ui.css')));
  const libraryScript = await readFile(
    new URL(import.meta.resolve('swagger-ui-dist/swagger-ui-bundle.js')),
  );
  const css = { type: 'text/css; charset=utf-8', cache: 'forever' } as const;
  const script = { type: 'text/javascript; charset=utf-8', cache: 'forever' } as const;
  const files = new Map([
    ['swagger-ui.css', await fixContent(libraryCss, css)],
    ['swagger-ui-bundle.js', await fixContent(libraryScript, script)],
    ['style.css', await fixContent(style, css)],
    ['start.js', await fixContent(start, script)],
  ]);
  const page = await fixContent(
    html((name) => `docs/${name}?${files.get(name)?.hash ?? ''}`),
    {
      type: 'text/html; charset=utf-8',
      cache: 'revalidate',
      headers: { 'Content-Security-Policy': contentPolicy(publicUrl) },
    },
  );
  return { page, files };
}

/** Nothing from outside; requests that are tried out go where the document says the API is. */
function contentPolicy(publicUrl: string): string {
  const origin = publicUrl === '' ? '' : ` ${new URL(publicUrl).origin}`;
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    `connect-src 'self'${origin}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

/** Addresses are relative: a proxy may serve all of this below a path of its own. */
const html = (urlOf: (name: string) => string): string => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Tenantry REST reference</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="${urlOf('swagger-ui.css')}">
    <link rel="stylesheet" href="${urlOf('style.css')}">
  </head>
  <body>
    <div id="reference"></div>
    <noscript>This page needs JavaScript. What it shows is in <a href="openapi.json">openapi.json</a>.</noscript>
    <script src="${urlOf('swagger-ui-bundle.js')}"></script>
    <script src="${urlOf('start.js')}"></script>
  </body>
</html>
`;

const start = `// Answers that tell of a problem are one line until somebody wants to know more.
const foldProblems = ({ React }) => ({
  wrapComponents: {
    response: (Response) => function FoldedResponse(props) {
      const [open, setOpen] = React.useState(Number(props.code) < 400);
      if (open) return React.createElement(Response, props);
      const text = String(props.response.get('description')).replaceAll('\`', '');
      const button = React.createElement(
        'button', { className: 'problem', onClick: () => setOpen(true) }, text + ' …');
      return React.createElement('tr', { className: 'response' },
        React.createElement('td', { className: 'response-col_status' }, props.code),
        React.createElement('td', { className: 'response-col_description', colSpan: 2 }, button));
    },
  },
});

SwaggerUIBundle({
  url: new URL('openapi.json', document.baseURI).href,
  dom_id: '#reference',
  plugins: [foldProblems],
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // would send the document to somebody else's server
});
`;

const style = `body { margin: 0; }
.swagger-ui .info { margin: 2rem 0 1rem; }
.swagger-ui .scheme-container { padding: 1rem 0; }
.swagger-ui .headers td { font-weight: normal; }
.swagger-ui button.problem { border: 0; padding: 0; background: none; color: inherit; font: inherit; cursor: pointer; text-align: left; }
.swagger-ui button.problem:hover { text-decoration: underline; }
`;
