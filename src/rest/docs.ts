import type { z } from 'zod';
import type { ProblemCode } from './errors.ts';

/** What `/openapi.json` tells of a route that its path and its rules do not. */
export interface RouteDocs {
  /** Unique among all routes: generated clients name their functions by it. */
  readonly operationId: string;
  readonly summary: string;
  /** CommonMark. */
  readonly description: string;
  /** Each of the path's parameters. */
  readonly params?: Readonly<Record<string, ParamDocs>>;
  /** Bodies that work as they are, by name; of every route that takes one. */
  readonly requests?: Readonly<Record<string, RequestExample>>;
  /** Request headers that only this route reads. */
  readonly requestHeaders?: readonly ('Last-Event-ID' | 'If-Match')[];
  /** Its answers by status, apart from problems. */
  readonly replies: Readonly<Record<number, ReplyDocs>>;
  /**
   * Problems beyond those that all routes of its kind have (see problems.ts), each with the message
   * that comes of the examples: what `acme` collides with, say.
   */
  readonly problems?: Readonly<Partial<Record<ProblemCode, string>>>;
  /** Problems that all routes of its kind have, and this one has not. */
  readonly without?: readonly ProblemCode[];
  /** Bodies that come with the status of a problem in the place of the contract's error form. */
  readonly otherBodies?: Readonly<Record<number, z.ZodType>>;
}

export interface ParamDocs {
  readonly description: string;
  /** One that is there once the examples of the other routes have been run. */
  readonly example: string;
}

export interface RequestExample {
  readonly summary: string;
  readonly value: unknown;
}

/** What a response may carry beside its body; told of in openapi-headers.ts. */
export type ReplyHeader =
  | 'X-Request-Id'
  | 'RateLimit'
  | 'RateLimit-Policy'
  | 'Retry-After'
  | 'Location'
  | 'Link'
  | 'Allow'
  | 'WWW-Authenticate'
  | 'ETag'
  | 'Cache-Control';

export interface ReplyDocs {
  readonly description: string;
  /** Default `application/json`. */
  readonly mediaType?: string;
  /** What the body is; named by `.meta({ id })` it is shared among routes. Absent: there is none. */
  readonly schema?: z.ZodType;
  /** The answer to the first example of a request. A page has none. */
  readonly example?: unknown;
  readonly headers?: readonly ReplyHeader[];
  /** By the `operationId` of a route that follows, where its path parameters stand in this body. */
  readonly links?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** What a contract is, for its chapter in the reference. */
export interface DialectDocs {
  readonly tag: string;
  /** CommonMark. */
  readonly description: string;
  /** The body of its problems with this HTTP status. */
  readonly errorBody: (status: number) => z.ZodType;
}
