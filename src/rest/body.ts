import { z } from 'zod';
import type { Issue, Problem } from './errors.ts';
import type { RestRequest } from './route.ts';

/** A text of 1 to `max` characters, counted as code points, as PostgreSQL counts them. */
export function boundedText(max: number) {
  // What JSON Schema makes of the check, and of the NUL that is refused further in.
  const text = z.string().meta({ minLength: 1, maxLength: max, pattern: '^[^\\u0000]*$' });
  return text.check((context) => {
    const length = context.value.length > 2 * max ? Infinity : Array.from(context.value).length;
    if (length === 0) {
      context.issues.push({
        code: 'too_small',
        origin: 'string',
        minimum: 1,
        inclusive: true,
        input: context.value,
      });
    }
    if (length > max) {
      context.issues.push({
        code: 'too_big',
        origin: 'string',
        maximum: max,
        inclusive: true,
        input: context.value,
      });
    }
  });
}

/**
 * Reads and checks a JSON body.
 *
 * @returns the body as its rules see it, or the problem to tell
 */
export function readBody<Body>(
  request: RestRequest,
  rules: z.ZodType<Body>,
): { readonly body: Body } | { readonly problem: Problem } {
  const unsupported = encodingProblem(request);
  if (unsupported !== null) return { problem: unsupported };
  if (mediaTypeOf(request.header('content-type')) !== 'application/json') {
    return { problem: notJson };
  }
  if (request.body.length === 0) {
    const issue = { type: 'missing', path: [], message: 'Field required' };
    return { problem: { code: 'INVALID', message: 'A JSON body is required', issues: [issue] } };
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(request.body));
  } catch {
    const issue = { type: 'json_invalid', path: [], message: 'JSON decode error' };
    return { problem: { code: 'MALFORMED_JSON', message: 'Malformed JSON', issues: [issue] } };
  }
  const long = longList(json);
  if (long !== null)
    return { problem: { code: 'INVALID', message: messageFor([long]), issues: [long] } };
  const parsed = rules.safeParse(json, { reportInput: true });
  if (parsed.success) return { body: parsed.data };
  const issues = toIssues(parsed.error);
  return { problem: { code: 'INVALID', message: messageFor(issues), issues } };
}

/**
 * Checks a request that changes something and has no body to read. A form of any page can send one: what it
 * says of its body is refused, though nobody reads it.
 *
 * @returns the problem to tell; null: none
 */
export function formProblem(request: RestRequest): Problem | null {
  if (safeMethods.has(request.method)) return null;
  const mediaType = mediaTypeOf(request.header('content-type'));
  if (mediaType !== null && formTypes.test(mediaType)) return notJson;
  return encodingProblem(request);
}

const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);
/** What a form can send, alone or as one of several values. */
const formTypes =
  /(?:^|,)\s*(?:application\/x-www-form-urlencoded|multipart\/form-data|text\/plain)\s*(?:,|$)/;

const notJson: Problem = {
  code: 'UNSUPPORTED_MEDIA_TYPE',
  message: 'Content-Type must be application/json',
};

function encodingProblem({ header }: RestRequest): Problem | null {
  if (!isCompressed(header('content-encoding'))) return null;
  return { code: 'UNSUPPORTED_MEDIA_TYPE', message: compressedMessage };
}

/** What a compressed body is answered. */
export const compressedMessage = 'A compressed body is not taken: send it without Content-Encoding';

/** Whether a `Content-Encoding` names one. */
export function isCompressed(contentEncoding: string | null): boolean {
  return !['', 'identity'].includes(contentEncoding?.trim().toLowerCase() ?? '');
}

/** The media type of a `Content-Type`, without parameters and in lower case; null: absent. */
export function mediaTypeOf(contentType: string | null): string | null {
  return contentType?.split(';', 1)[0]?.trim().toLowerCase() ?? null;
}

/** Checks a query string: of a parameter given twice, the last one counts. */
export function readQuery<Query>(
  request: RestRequest,
  rules: z.ZodType<Query>,
): { readonly query: Query } | { readonly problem: Problem } {
  const parsed = rules.safeParse(Object.fromEntries(request.query), { reportInput: true });
  if (parsed.success) return { query: parsed.data };
  const issues = toIssues(parsed.error);
  return { problem: { code: 'INVALID', message: messageFor(issues), issues } };
}

/** Entries of a list, wherever it stands: each of them may break a rule. */
const maxEntries = 10_000;
/** Broken rules that are told one by one: an answer must not be far longer than its request. */
const maxIssues = 100;

function longList(json: unknown): Issue | null {
  const left: { readonly value: unknown; readonly path: Issue['path'] }[] = [
    { value: json, path: [] },
  ];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { path, value } = next;
    if (typeof value !== 'object' || value === null) continue;
    if (Array.isArray(value) && value.length > maxEntries) {
      const message = `List should have at most ${maxEntries} items`;
      return { type: 'too_long', path, message };
    }
    // Deeper than any rule looks, nothing is told one by one.
    if (path.length === maxDepth) continue;
    for (const [key, inner] of Object.entries(value)) {
      if (typeof inner !== 'object') continue;
      left.push({ value: inner, path: [...path, Array.isArray(value) ? Number(key) : key] });
    }
  }
  return null;
}

const maxDepth = 6;

function toIssues({ issues }: z.core.$ZodError): Issue[] {
  const more = issues.length - maxIssues;
  return [
    ...issues.slice(0, maxIssues).map(toIssue),
    ...(more > 0
      ? [{ type: 'value_error', path: [], message: `${more} more rules are broken` }]
      : []),
  ];
}

/** One line for clients that read no details. */
export function messageFor(issues: readonly Issue[]): string {
  const [first] = issues;
  if (first === undefined) return 'Invalid request';
  const field = first.path.join('.');
  if (first.type === 'missing' && field !== '') return `Missing required field: ${field}`;
  return field === '' ? first.message : `Invalid ${field}: ${first.message}`;
}

/** An issue of zod. Names and words as Pydantic has them, which contract A's clients parse. */
export function toIssue(issue: z.core.$ZodIssue): Issue {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  if (issue.input === undefined && path.length > 0) {
    return { type: 'missing', path, message: 'Field required' };
  }
  switch (issue.code) {
    case 'invalid_type':
      return path.length === 0
        ? {
            type: 'model_attributes_type',
            path,
            message: 'Input should be a valid dictionary or object to extract fields from',
          }
        : {
            type: `${issue.expected}_type`,
            path,
            message: `Input should be a valid ${issue.expected}`,
          };
    case 'invalid_value': {
      const quoted = issue.values.map((value) => `'${String(value)}'`);
      const last = quoted.pop() ?? '';
      const list = quoted.length === 0 ? last : `${quoted.join(', ')} or ${last}`;
      return { type: 'enum', path, message: `Input should be ${list}` };
    }
    case 'too_small':
      return {
        type: 'string_too_short',
        path,
        message: `String should have at least ${issue.minimum} character`,
      };
    case 'too_big':
      return {
        type: 'string_too_long',
        path,
        message: `String should have at most ${issue.maximum} characters`,
      };
    default:
      return { type: 'value_error', path, message: issue.message };
  }
}
