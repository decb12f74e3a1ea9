import { failureCodes, type Failure, type FailureCode } from '../errors.ts';
import { builder } from './builder.ts';

const meanings: Record<FailureCode, string> = {
  INVALID: 'The input breaks a rule; `field` says which.',
  TAKEN: 'Name, slug, domain or schema name is in use.',
  NOT_FOUND: 'Not there, or not yours.',
  INVALID_STATE: "Not allowed in the tenant's present status.",
  PROTECTED: 'Deletion protection is on.',
  VERSION_MISMATCH: '`expectedVersion` is not the current one.',
  LIMIT_EXCEEDED: 'Too many: batch too large, tenants of the partner used up, or cluster full.',
  IDEMPOTENCY_MISMATCH: 'The same key was used with another payload.',
  UNAVAILABLE: 'The cluster is down, or cannot do it at present.',
  PROVISIONING_FAILED: 'It failed and was undone; see the operation.',
  TIMED_OUT: 'Not ended in time; follow the operation.',
};

const UserErrorCode = builder.enumType('UserErrorCode', {
  description: 'What kind of problem the caller can do something about.',
  values: Object.fromEntries(
    failureCodes.map((code) => [code, { description: meanings[code] }]),
  ) as Record<FailureCode, { description: string }>,
});

/** A problem that the caller can do something about. */
export const UserError = builder.objectRef<Failure>('UserError').implement({
  description: 'A problem that the caller can do something about.',
  fields: (t) => ({
    code: t.field({
      type: UserErrorCode,
      nullable: false,
      description: 'What kind of problem.',
      resolve: (error) => error.code,
    }),
    message: t.exposeString('message', {
      nullable: false,
      description: 'For people: names the field and the rule.',
    }),
    field: t.stringList({
      nullable: true,
      description: 'Path from the argument down, e.g. `["input", "name"]`.',
      resolve: (error) => error.field,
    }),
  }),
});
