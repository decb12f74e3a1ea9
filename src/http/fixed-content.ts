import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

/** What is the same for everybody until the next start: compressed and hashed once. */
export interface FixedContent {
  readonly body: Buffer<ArrayBuffer>;
  readonly compressed: Buffer<ArrayBuffer>;
  /** For URLs that may be kept for ever, since other content has another hash. */
  readonly hash: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface ContentKind {
  /** Media type, with its charset. */
  readonly type: string;
  /** `revalidate`: asked for each time, and told 304. `forever`: its URL holds its hash. */
  readonly cache: 'revalidate' | 'forever';
  readonly headers?: Readonly<Record<string, string>>;
}

/** Compresses and hashes. */
export async function fixContent(
  content: string | Buffer,
  { type, cache, headers = {} }: ContentKind,
): Promise<FixedContent> {
  const body = Buffer.from(content);
  const hash = createHash('sha256').update(body).digest('base64url').slice(0, 22);
  return {
    body,
    compressed: await promisify(gzip)(body, { level: 6 }),
    hash,
    headers: {
      'Content-Type': type,
      'Cache-Control': cache === 'forever' ? 'public, max-age=31536000, immutable' : 'no-cache',
      ETag: `"${hash}"`,
      ...headers,
    },
  };
}

/** Makes something when it is first asked for, and again only where that failed. */
export function makeOnce<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () =>
    (made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    }));
}

export interface FixedAnswer {
  readonly status: 200 | 304;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer<ArrayBuffer> | null;
}

/** The answer to a request with these headers: 304 to whoever has it, compressed to whoever takes it. */
export function answerWith(
  { body, compressed, headers }: FixedContent,
  header: (name: string) => string | null,
): FixedAnswer {
  // A proxy that compresses makes an ETag weak; what it stands for is the same.
  const known = (header('if-none-match') ?? '')
    .split(',')
    .map((tag) => tag.trim().replace(/^W\//, ''));
  if (known.includes(headers['ETag'] ?? '')) return { status: 304, headers, body: null };
  if (!/\bgzip\b/.test(header('accept-encoding') ?? '')) return { status: 200, headers, body };
  return { status: 200, headers: { ...headers, 'Content-Encoding': 'gzip' }, body: compressed };
}
