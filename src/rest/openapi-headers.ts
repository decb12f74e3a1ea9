import type { ReplyHeader } from './docs.ts';

/** Request headers that routes read, beside those of HTTP itself. */
export type RequestHeader =
  'X-Request-Id' | 'Idempotency-Key' | 'Prefer' | 'Last-Event-ID' | 'If-Match';

interface ParameterDocs {
  readonly description: string;
  readonly schema: Readonly<Record<string, unknown>>;
}

interface HeaderDocs extends ParameterDocs {
  readonly example: string | number;
  /** Default: not always there. */
  readonly required?: boolean;
}

export const headerDocs: Readonly<Record<ReplyHeader, HeaderDocs>> = {
  'X-Request-Id': {
    description: 'Id of this request, in the log too: yours, or a new one.',
    required: true,
    schema: { type: 'string' },
    example: '29f39103-e75a-415b-b9ea-94b37ad14282',
  },
  RateLimit: {
    description:
      'Creations left (`r`) until the window starts anew in `t` seconds. Absent where nothing was counted.',
    schema: { type: 'string' },
    example: '"creations";r=9;t=60',
  },
  'RateLimit-Policy': {
    description: 'Creations (`q`) in a window of `w` seconds. Absent where nothing was counted.',
    schema: { type: 'string' },
    example: '"creations";q=10;w=60',
  },
  'Retry-After': {
    description: 'Seconds to wait.',
    required: true,
    schema: { type: 'integer', minimum: 1 },
    example: 42,
  },
  Location: {
    description: 'The operation to follow.',
    schema: { type: 'string', format: 'uri-reference' },
    example: '/api/operations/0b5d2a8e-6f0c-4c3a-9d57-3f1f6b7a9c21',
  },
  Link: {
    description: '`first`, `prev`, `next` and `last` page, as far as they are there (RFC 8288).',
    required: true,
    schema: { type: 'string' },
    example:
      '</api/tenants?page=1&limit=50>; rel="first", </api/tenants?page=1&limit=50>; rel="last"',
  },
  Allow: {
    description: 'Methods that are served here.',
    required: true,
    schema: { type: 'string' },
    example: 'GET, HEAD',
  },
  'WWW-Authenticate': {
    description: 'How to prove who one is.',
    required: true,
    schema: { type: 'string' },
    example: 'Bearer',
  },
  ETag: {
    description:
      'Of this version. For `If-Match`, where a change takes it; of pages for `If-None-Match`: `304` while nothing has changed.',
    required: true,
    schema: { type: 'string' },
    example: '"x2hYb0Wc4m1kQd9uPfL3aw"',
  },
  'Cache-Control': {
    description: 'How long it may be kept without asking.',
    schema: { type: 'string' },
    example: 'no-cache',
  },
};

// Without examples: the page at /docs would send them with every request that is tried out.
export const parameterDocs: Readonly<Record<RequestHeader, ParameterDocs>> = {
  'X-Request-Id': {
    description:
      'Id of this request in answers and in the log. Anything but 1 to 128 of letters, digits and `_.:/+=-` is replaced.',
    schema: { type: 'string' },
  },
  'Idempotency-Key': {
    description:
      'The same key with the same body, such as `order-4711`, is done once: a retry gets the answer of the first.',
    schema: { type: 'string', minLength: 1, maxLength: 255 },
  },
  Prefer: {
    description: '`respond-async`: answer `202` at once, with the operation to follow (RFC 7240).',
    schema: { type: 'string' },
  },
  'If-Match': {
    description: 'The `ETag` that you know: `412` when another version is there by now.',
    schema: { type: 'string' },
  },
  'Last-Event-ID': {
    description: 'Goes on after the event with this `id`.',
    schema: { type: 'string' },
  },
};
