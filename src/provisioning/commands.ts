import { z } from 'zod';
import { maxNameLength, namedSubject } from './partner-names.ts';
import { environments, isolations } from '../control/tenants.ts';
import { failure, type Failure } from '../errors.ts';
import {
  isProductRoleName,
  isReservedSchemaName,
  isReservedSlug,
  schemaNameFromSlug,
  schemaNamePattern,
  slugMaxLength,
  slugMaxLengthBehind,
  slugPattern,
} from './names.ts';
import { provisionTime } from './schedule.ts';
import { maxIdentifierBytes } from '../postgres/identifiers.ts';

export const databaseNamings = ['TENANT_ID', 'SLUG'] as const;

/** Rules of the settings that differ between installations. */
export interface CommandRules {
  readonly availableFeatures: readonly string[];
  readonly defaultFeatures: readonly string[];
  /** In front of the slug in generated names of schemas. */
  readonly schemaPrefix: string;
  /** Schema of the operator's extensions. */
  readonly extensionsSchema: string;
}

/** What has been checked of a `createTenant` input, defaults filled in. */
export type CreateTenantCommand = z.output<ReturnType<typeof createTenantSchema>>;
/** The same as a caller sends it. */
export type CreateTenantInput = z.input<ReturnType<typeof createTenantSchema>>;

/** The rules of `createTenant`, for one installation. */
export function createTenantSchema(rules: CommandRules) {
  return z
    .object({
      name: text('name', 255),
      uniqueName: optional(z.boolean()).transform((value) => value ?? false),
      slug: optional(slug()),
      environment: optional(z.enum(environments)).transform((value) => value ?? 'PRODUCTION'),
      isolation: optional(z.enum(isolations)).transform((value) => value ?? 'DATABASE'),
      databaseNaming: optional(z.enum(databaseNamings)),
      schemaName: optional(schemaName(rules)),
      cluster: optional(text('cluster', 255)),
      partner: optional(partnerName()),
      domain: optional(domain()),
      description: optional(text('description', 4000)),
      email: optional(email()),
      phoneNumber: optional(phoneNumber()),
      industry: optional(text('industry', 255)),
      settings: optional(settings(rules)).transform((value) => ({
        features: value?.features ?? rules.defaultFeatures,
        limits: {
          users: value?.limits?.users ?? 100,
          storageGb: value?.limits?.storageGb ?? 50,
        },
      })),
      deletionProtection: optional(z.boolean()).transform((value) => value ?? false),
      provisionAt: optional(provisionTime()),
    })
    .refine(({ isolation, schemaName }) => isolation === 'SCHEMA' || schemaName === undefined, {
      path: ['schemaName'],
      error: 'schemaName belongs to SCHEMA isolation; this tenant has DATABASE',
      when: always,
    })
    .refine(
      ({ isolation, databaseNaming }) => isolation === 'DATABASE' || databaseNaming === undefined,
      {
        path: ['databaseNaming'],
        error: 'databaseNaming belongs to DATABASE isolation; this tenant has SCHEMA',
        when: always,
      },
    )
    .refine(
      ({ isolation, schemaName, slug }) =>
        isolation !== 'SCHEMA' ||
        schemaName !== undefined ||
        slug === undefined ||
        slug.length <= slugMaxLengthBehind(rules.schemaPrefix),
      {
        path: ['slug'],
        error: ({ input }) => {
          const slug = (input as { slug?: string }).slug ?? '';
          const made = schemaNameFromSlug(rules.schemaPrefix, slug);
          return `slug makes the schema name ${made}, which has more than ${String(maxIdentifierBytes)} bytes; name a schemaName, or take a shorter slug`;
        },
      },
    );
}

/** What has been checked of an `updateTenant` input: undefined is unchanged, null is cleared. */
export type UpdateTenantCommand = z.output<ReturnType<typeof updateTenantSchema>>;
/** The same as a caller sends it. */
export type UpdateTenantInput = z.input<ReturnType<typeof updateTenantSchema>>;

/** The rules of `updateTenant`, for one installation: each field's are those of `createTenant`. */
export function updateTenantSchema(rules: CommandRules) {
  const version = 'expectedVersion must be a whole number, at least 1';
  return z.object({
    expectedVersion: optional(z.int(version).min(1, version)),
    name: notCleared('name', text('name', 255)),
    uniqueName: optional(z.boolean()).transform((value) => value ?? false),
    environment: notCleared('environment', z.enum(environments)),
    domain: domain().nullish(),
    description: text('description', 4000).nullish(),
    email: email().nullish(),
    phoneNumber: phoneNumber().nullish(),
    industry: text('industry', 255).nullish(),
    settings: notCleared('settings', settings(rules)),
    deletionProtection: notCleared('deletionProtection', z.boolean()),
  });
}

// Zod leaves out what compares fields once a field is wrong by itself; callers are told all at once.
const always = (): boolean => true;

/** An idempotency key, wherever it comes from. */
export const idempotencyKeySchema = text('idempotencyKey', 255);

/** Problems of one input that are told one by one. */
const maxFailures = 100;

/**
 * Checks an input against its rules.
 *
 * @param path where the input stands, put in front of each field
 * @returns the command, or all problems at once, as long as they are not very many
 */
export function parseCommand<T extends z.ZodType>(
  schema: T,
  input: unknown,
  path: readonly string[],
): { readonly command: z.output<T> } | { readonly failures: readonly Failure[] } {
  const parsed = schema.safeParse(input);
  if (parsed.success) return { command: parsed.data };
  const { issues } = parsed.error;
  const more = issues.length - maxFailures;
  return {
    failures: [
      ...issues
        .slice(0, maxFailures)
        .map((issue) => failure('INVALID', issue.message, [...path, ...issue.path.map(String)])),
      ...(more > 0 ? [failure('INVALID', `${more} more rules are broken`, path)] : []),
    ],
  };
}

// GraphQL tells absent from null; for an optional field of a new tenant they mean the same.
function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

/** A field that may be left out, and must not be null. */
function notCleared<T extends z.ZodType>(field: string, schema: T) {
  return schema
    .nullish()
    .check((context) => {
      if (context.value !== null) return;
      const message = `${field} cannot be cleared`;
      context.issues.push({ code: 'custom', message, input: null });
    })
    .transform((value) => value ?? undefined);
}

function text(field: string, maxCharacters: number) {
  const rule = `${field} must have 1 to ${String(maxCharacters)} characters`;
  return z.string({ error: `${field} must be a string` }).check((context) => {
    const problem = textProblem(field, context.value, maxCharacters, rule);
    if (problem !== null) {
      context.issues.push({ code: 'custom', message: problem, input: context.value });
    }
  });
}

/** Of a partner that is a subject, the subject has as many characters as any other name. */
function partnerName() {
  const rule = `partner must have 1 to ${maxNameLength} characters`;
  return z.string().check((context) => {
    const name = namedSubject(context.value) ?? context.value;
    const problem = textProblem('partner', name, maxNameLength, rule);
    if (problem !== null) context.issues.push({ code: 'custom', message: problem, input: name });
  });
}

function textProblem(field: string, value: string, max: number, rule: string): string | null {
  // Characters are code points, as PostgreSQL counts them; counting stops being worth it far above.
  if (value === '' || value.length > 2 * max || Array.from(value).length > max) return rule;
  if (value.includes('\0')) return `${field} must not contain the NUL character`;
  // Half a surrogate pair cannot be stored: it would come back as another character.
  if (!value.isWellFormed()) return `${field} must be well-formed Unicode (lone surrogate found)`;
  return null;
}

function slug() {
  return z.string().check((context) => {
    const { value } = context;
    const problem =
      value.length > slugMaxLength
        ? `slug must have at most ${String(slugMaxLength)} characters`
        : !slugPattern.test(value)
          ? 'slug must be lower-case letters and digits in groups joined by single "-" or "_", beginning with a letter'
          : isReservedSlug(value)
            ? 'slug must not be a reserved word (batch, health, status, operations) or look like a UUID'
            : null;
    if (problem !== null) context.issues.push({ code: 'custom', message: problem, input: value });
  });
}

function schemaName({ extensionsSchema }: CommandRules) {
  return z.string().check((context) => {
    const { value } = context;
    const problem =
      value.length > maxIdentifierBytes
        ? `must have at most ${String(maxIdentifierBytes)} bytes`
        : !schemaNamePattern.test(value)
          ? 'must be letters without marks, digits and _, not beginning with a digit'
          : isReservedSchemaName(value)
            ? 'is reserved (public, information_schema, and what begins with pg_, sb_, tpl_ or control_plane)'
            : value.toLowerCase() === extensionsSchema.toLowerCase()
              ? 'is reserved for the extensions of the shared database'
              : isProductRoleName(value)
                ? 'is reserved for roles of the product (postgres, what begins with tenantry, and names like own_ and an id)'
                : null;
    if (problem !== null) {
      const shown = value.slice(0, maxIdentifierBytes);
      const message = `Invalid schema name: ${shown} (${problem})`;
      context.issues.push({ code: 'custom', message, input: value });
    }
  });
}

function domain() {
  const label = '[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?';
  return z
    .string()
    .max(255, 'domain must have at most 255 characters')
    .regex(
      new RegExp(`^(?:${label}\\.)+[a-zA-Z]{2,63}$`),
      'domain must be labels of letters, digits and inner hyphens, then a top-level label of 2 or more letters',
    );
}

function email() {
  return z
    .string()
    .max(255, 'email must have at most 255 characters')
    .check(z.email('email must be a valid email address'));
}

function phoneNumber() {
  return z
    .string()
    .max(50, 'phoneNumber must have at most 50 characters')
    .regex(
      /^\+?[0-9][0-9 ()./-]*$/,
      'phoneNumber must be digits, with an optional leading "+" and spaces, parentheses, dots, slashes or hyphens',
    );
}

/** Entries of a list of features, repeated ones included. */
const maxFeatures = 100;
/** Unknown entries of one list that are told one by one: an answer must not be far longer than its request. */
const maxUnknownFeatures = 10;

function features(available: readonly string[]) {
  const rule = `features must be out of ${available.join(', ')}`;
  return z.array(z.string()).check((context) => {
    const { issues, value } = context;
    const report = (message: string, path: PropertyKey[]): void => {
      issues.push({ code: 'custom', message, path, input: value });
    };
    if (value.length > maxFeatures) {
      report(`features must have at most ${maxFeatures} entries`, []);
      return;
    }
    const unknown = [...value.keys()].filter((index) => !available.includes(value[index] ?? ''));
    for (const index of unknown.slice(0, maxUnknownFeatures)) report(rule, [index]);
    const more = unknown.length - maxUnknownFeatures;
    if (more > 0) report(`${rule}; ${more} more are not`, []);
  });
}

function settings(rules: CommandRules) {
  const whole = (field: string, max: number) => {
    const rule = `${field} must be a whole number from 1 to ${String(max)}`;
    return optional(z.int(rule).min(1, rule).max(max, rule));
  };
  return z.object({
    features: optional(features(rules.availableFeatures)).transform((given) =>
      given === undefined ? undefined : [...new Set(given)],
    ),
    limits: optional(
      z.object({ users: whole('users', 10_000), storageGb: whole('storageGb', 1000) }),
    ),
  });
}
