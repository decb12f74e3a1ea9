import type { DocumentNode } from 'graphql';
import type { Plugin } from 'graphql-yoga';

/** What the cache may hold. */
export interface DocumentCacheLimits {
  /** Bytes of the longest text that is kept, in UTF-8. */
  readonly documentBytes: number;
  /** Bytes of all documents that are kept, by estimate. */
  readonly totalBytes: number;
}

const usualLimits: DocumentCacheLimits = {
  documentBytes: 16 * 1024,
  totalBytes: 16 * 1024 * 1024,
};

/**
 * Keeps documents that were parsed and validated, the least recently used one going first. The limit is in
 * bytes, not in documents: one document may take 10,000 times the memory of another.
 */
export class DocumentCache {
  readonly #limits: DocumentCacheLimits;
  readonly #documents = new Map<string, { document: DocumentNode; bytes: number }>();
  #bytes = 0;

  constructor(limits: DocumentCacheLimits = usualLimits) {
    this.#limits = limits;
  }

  /** Estimated memory of what it holds. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Number of documents that it holds. */
  get size(): number {
    return this.#documents.size;
  }

  /** Finds a document by its whole text. */
  get(text: string): DocumentNode | null {
    const entry = this.#documents.get(text);
    if (entry === undefined) return null;
    this.#documents.delete(text);
    this.#documents.set(text, entry);
    return entry.document;
  }

  /** Keeps a document, unless it is too long to be kept. */
  add(text: string, document: DocumentNode): void {
    if (Buffer.byteLength(text) > this.#limits.documentBytes || this.#documents.has(text)) return;
    const bytes = estimateBytes(text, document);
    this.#documents.set(text, { document, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#documents) {
      if (this.#bytes <= this.#limits.totalBytes) break;
      this.#documents.delete(oldest);
      this.#bytes -= entry.bytes;
    }
  }
}

/**
 * Keeps documents in a cache, instead of yoga's own plugin, which keeps 1,024 documents, parse errors and
 * validation errors of any size. Only a valid document is kept: errors hold stack traces, and a client that
 * sends an invalid document again is not worth memory.
 */
export function useDocumentCache(cache: DocumentCache): Plugin {
  const valid = new WeakSet<object>();
  return {
    onParse({ params, setParsedDocument }) {
      const { source } = params as { readonly source: string | { readonly body: string } };
      const document = cache.get(typeof source === 'string' ? source : source.body);
      if (document !== null) setParsedDocument(document);
    },
    onValidate({ params, setResult }) {
      const document = params.documentAST as DocumentNode;
      if (valid.has(document)) {
        setResult([]);
        return;
      }
      return ({ valid: isValid }) => {
        if (!isValid || document.loc === undefined) return;
        valid.add(document);
        cache.add(document.loc.source.body, document);
      };
    },
  };
}

/** Measured: a token takes 250 to 450 bytes with the nodes and places that the parser makes of it. */
const bytesPerToken = 512;
/** Strings that hold a character beyond Latin-1 take two bytes for each. */
const bytesPerCharacter = 2;

function estimateBytes(text: string, document: DocumentNode): number {
  let tokens = 0;
  let token = document.loc?.startToken ?? null;
  while (token !== null) {
    tokens += 1;
    token = token.next;
  }
  return text.length * bytesPerCharacter + tokens * bytesPerToken;
}
