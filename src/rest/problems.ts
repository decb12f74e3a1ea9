import type { ReplyHeader } from './docs.ts';
import type { Issue, ProblemCode } from './errors.ts';
import type { DocumentedRoute } from './route.ts';

/** What `/openapi.json` tells of a problem, whichever the contract. */
interface ProblemDocs {
  readonly when: string;
  /** A message as clients get it. */
  readonly message: string;
  /** The same in open mode, where it is another. */
  readonly openMessage?: string;
  readonly issues?: readonly Issue[];
  readonly headers?: readonly ReplyHeader[];
}

const aboutTheKey = (message: string): readonly Issue[] => [
  { type: 'value_error', path: ['idempotencyKey'], message },
];
const badKey = 'idempotencyKey must have 1 to 255 characters';
const otherPayload = 'This idempotency key was used with another payload';

export const problemDocs: Readonly<Record<ProblemCode, ProblemDocs>> = {
  INVALID: {
    when: 'A rule is broken',
    message: `Invalid idempotencyKey: ${badKey}`,
    issues: aboutTheKey(badKey),
  },
  BAD_REQUEST: {
    when: 'The `Host` is no name or address',
    message: 'The Host header must be a name or address, with or without a port',
  },
  MALFORMED_JSON: { when: 'The body is no JSON', message: 'Malformed JSON' },
  BAD_USER_INPUT: { when: 'An argument is wrong', message: 'Invalid request' },
  TAKEN: { when: 'Something that must be unique is in use', message: 'Already exists' },
  NOT_FOUND: { when: 'Not there, or not yours', message: 'Not found' },
  INVALID_STATE: {
    when: 'Its state does not allow it now',
    message: 'Another operation on this tenant is under way',
  },
  PROTECTED: {
    when: 'It is protected',
    message: 'Deletion protection of this tenant is on',
  },
  VERSION_MISMATCH: {
    when: 'It was changed meanwhile',
    message: 'Another version is there by now',
  },
  LIMIT_EXCEEDED: {
    when: 'The partner has all the tenants that it may have',
    message: 'This partner may have at most 1 tenants',
  },
  IDEMPOTENCY_MISMATCH: {
    when: 'The `Idempotency-Key` was used with another payload',
    message: otherPayload,
    issues: aboutTheKey(otherPayload),
  },
  UNAUTHENTICATED: {
    when: 'No credentials, or bad ones',
    message: 'These credentials are not valid here',
    headers: ['WWW-Authenticate'],
  },
  FORBIDDEN: {
    when: 'You may not do this; the page that sends it may not; in open mode, the `Host` is no loopback name',
    message: 'You may not do this',
    openMessage: 'In open mode only requests to a loopback name are served',
  },
  RATE_LIMITED: {
    when: 'Over the limit of creations',
    message: 'More than 10 creations a minute',
    headers: ['Retry-After'],
  },
  PROVISIONING_FAILED: {
    when: 'A step failed; everything was undone',
    message: 'Step create_database failed. Everything was undone.',
  },
  UNAVAILABLE: { when: 'No cluster can take it now', message: 'No cluster takes new tenants' },
  TIMED_OUT: {
    when: 'It did not end in time; follow the operation in `Location`',
    message: 'The operation has not ended in time; follow it by its id',
    headers: ['Location'],
  },
  UNSUPPORTED_MEDIA_TYPE: {
    when: 'The body is not `application/json`, or compressed',
    message: 'Content-Type must be application/json',
  },
  PAYLOAD_TOO_LARGE: {
    when: 'The body is over 1 MiB',
    message: 'A request may have at most 1048576 bytes',
  },
  METHOD_NOT_ALLOWED: {
    when: 'Answer to methods that are not served here',
    message: 'TRACE is not allowed here',
    headers: ['Allow'],
  },
  INTERNAL_SERVER_ERROR: { when: 'Anything unexpected', message: 'Unexpected error' },
};

const anywhere: readonly ProblemCode[] = ['METHOD_NOT_ALLOWED'];
const inOpenMode: readonly ProblemCode[] = ['FORBIDDEN']; // by another Host
const withCaller: readonly ProblemCode[] = [
  'UNAUTHENTICATED',
  'FORBIDDEN',
  'INTERNAL_SERVER_ERROR',
];
const withBody: readonly ProblemCode[] = [
  'INVALID',
  'MALFORMED_JSON',
  'UNSUPPORTED_MEDIA_TYPE',
  'PAYLOAD_TOO_LARGE',
];
const withMutation: readonly ProblemCode[] = [
  'UNSUPPORTED_MEDIA_TYPE',
  'INVALID', // its idempotency key may be
  'IDEMPOTENCY_MISMATCH',
];
const withOperation: readonly ProblemCode[] = ['PROVISIONING_FAILED', 'TIMED_OUT'];

/** What creations of one tenant add to it, beside what is taken. */
export const creationProblems = messagesOf('LIMIT_EXCEEDED', 'RATE_LIMITED', 'UNAVAILABLE');

function messagesOf(...codes: readonly ProblemCode[]): Partial<Record<ProblemCode, string>> {
  return Object.fromEntries(codes.map((code) => [code, problemDocs[code].message]));
}

/** All that can go wrong on a route: what follows from its kind, and what its docs add. */
export function problemsOf(route: DocumentedRoute, open: boolean): readonly ProblemCode[] {
  return [
    ...new Set([
      ...anywhere,
      ...(open ? inOpenMode : []),
      ...(route.document === undefined ? [] : withCaller),
      ...(route.body === undefined ? [] : withBody),
      ...(route.query === undefined ? [] : (['INVALID'] as const)),
      ...(isMutation(route) ? withMutation : []),
      ...(runsOperation(route) ? withOperation : []),
      ...(route.ifMatch === true ? (['VERSION_MISMATCH'] as const) : []),
      ...(Object.keys(route.docs.problems ?? {}) as ProblemCode[]),
    ]),
  ].filter((code) => route.docs.without?.includes(code) !== true);
}

/** Whether a route begins an operation: then it can be waited for. */
export function runsOperation(route: DocumentedRoute): boolean {
  return isMutation(route) && /\boperation \{/.test(route.document ?? '');
}

/** Whether a route changes something: then it takes an idempotency key. */
export function isMutation({ document }: DocumentedRoute): boolean {
  return /^\s*mutation\b/.test(document ?? '');
}
