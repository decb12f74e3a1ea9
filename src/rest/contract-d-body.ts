import { z } from 'zod';
import { time, uuid } from './body-schemas.ts';
import type { Failure } from '../errors.ts';
import { boundedText, messageFor, toIssue } from './body.ts';
import { codeForm, type ErrorForm, type Issue } from './errors.ts';

/** The selection `companyFields`. */
export interface CompanyResult {
  readonly id: string;
  readonly name: string;
  readonly email: string | null;
  readonly phoneNumber: string | null;
  readonly industry: string | null;
  readonly status: string;
  readonly version: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** What every document of contract D that shows a tenant selects. */
export const companyFields =
  'id name email phoneNumber industry status version createdAt updatedAt';

/** What contract D tells of a tenant. */
export function companyBody(tenant: CompanyResult): object {
  return {
    tenant: tenant.id,
    company_name: tenant.name,
    email: tenant.email,
    phone_number: tenant.phoneNumber,
    industry: tenant.industry,
    created_at: tenant.createdAt,
    updated_at: tenant.updatedAt,
  };
}

/** What `companyBody` makes. */
export const companySchema = z
  .object({
    tenant: uuid('The tenant.'),
    company_name: z.string(),
    email: z.string().nullable(),
    phone_number: z.string().nullable(),
    industry: z.string().nullable(),
    created_at: time('When it was asked for.'),
    updated_at: time('When it last changed.'),
  })
  .meta({ id: 'Company', description: 'A tenant as contract D tells of it.' });

/** A tenant made by the example of contract D. */
export const companyExample = {
  tenant: '550e8400-e29b-41d4-a716-446655440000',
  company_name: 'Example Corp',
  email: 'admin@example.com',
  phone_number: '+1234567890',
  industry: 'Technology',
  created_at: '2026-01-17T10:30:00.000Z',
  updated_at: '2026-01-17T10:30:00.000Z',
};

const nameRequired = 'Company name is required';
const badEmail = 'Invalid email address';

const companyName = boundedText(255)
  .refine((name) => name.trim() !== '', nameRequired)
  .meta({ description: 'Unique among your tenants.' });
// Checked further in, by the rules of all contracts.
const email = z.string().meta({ format: 'email', maxLength: 255 });
const phoneNumber = z.string().nullish().meta({ description: 'Digits, with an optional +.' });
const industry = z.string().nullish();

/** What a tenant is made from, and what `PUT` puts in the place of all that was there. */
export const company = z
  .object({ company_name: companyName, email, phone_number: phoneNumber, industry })
  .meta({ id: 'NewCompany', description: 'A tenant as contract D asks for it.' });

/** What `PATCH` changes: what is absent stays, null clears. */
export const companyChanges = z
  .object({
    company_name: companyName.optional(),
    email: email.optional(),
    phone_number: phoneNumber,
    industry,
  })
  .meta({ id: 'CompanyChanges', description: 'What to change; null clears.' });

/** GraphQL's names of the fields, and D's. */
const names: ReadonlyMap<string | number, string> = new Map([
  ['name', 'company_name'],
  ['phoneNumber', 'phone_number'],
]);

/** As `codeForm`, with this contract's names and the messages that its clients know. */
export const companyErrors: ErrorForm = (problem) => {
  const issues = problem.issues?.map(toCompanyIssue);
  if (issues === undefined) return codeForm(problem);
  const [first] = issues;
  const known = first !== undefined && knownMessages.has(first.message);
  const message = known ? first.message : renamed(problem.message);
  return codeForm({ ...problem, message, issues });
};

/** What is wrong with one company of a batch, in the same words. */
export function companyProblem(issue: Failure | z.core.$ZodIssue): string {
  if ('field' in issue && issue.code !== 'INVALID') return issue.message;
  const { message, path, type } =
    'path' in issue
      ? toIssue(issue)
      : // Behind the argument and the item's place.
        { type: 'value_error', path: (issue.field ?? []).slice(3), message: issue.message };
  const one = toCompanyIssue({ type, path, message });
  return knownMessages.has(one.message) ? one.message : messageFor([one]);
}

const knownMessages: ReadonlySet<string> = new Set([nameRequired, badEmail]);

function toCompanyIssue(issue: Issue): Issue {
  const [field, ...rest] = issue.path;
  if (field === undefined) return issue;
  const path = [names.get(field) ?? field, ...rest];
  if (path[0] === 'email') return { ...issue, path, message: badEmail };
  // Too long is the one thing that can be wrong with a name that is there.
  const isMissing = path[0] === 'company_name' && issue.type !== 'string_too_long';
  const message = isMissing && !issue.message.includes('NUL') ? nameRequired : issue.message;
  return { ...issue, path, message: renamed(message) };
}

function renamed(message: string): string {
  let text = message;
  for (const [name, own] of names) {
    text = text.replace(new RegExp(`^(Invalid )?${String(name)}\\b`), `$1${own}`);
  }
  return text.replaceAll(/(?<=: )(name|phoneNumber)\b/g, (name) => names.get(name) ?? name);
}
