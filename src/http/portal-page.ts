import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fixContent, makeOnce, type FixedContent } from './fixed-content.ts';

const file = new URL('../../examples/partner-portal/index.html', import.meta.url);

/** The page at `/portal`: the example of a partner's own portal, as it stands in `examples/`. */
export function createPortalPage(): () => Promise<FixedContent> {
  return makeOnce(async () => {
    const html = await readFile(file, 'utf8');
    return fixContent(html, {
      type: 'text/html; charset=utf-8',
      cache: 'revalidate',
      headers: { 'Content-Security-Policy': contentPolicy(html) },
    });
  });
}

/** What stands in the page itself may run, and nothing else; it talks to its own origin alone. */
function contentPolicy(html: string): string {
  return [
    "default-src 'none'",
    `script-src ${hashOf('script', html)}`,
    `style-src ${hashOf('style', html)}`,
    'img-src data:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

function hashOf(element: 'script' | 'style', html: string): string {
  const [, content] = new RegExp(`<${element}>(.*)</${element}>`, 's').exec(html) ?? [];
  if (content === undefined) throw new Error(`the portal has no <${element}>`);
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
}
