import { failure, type Failure } from '../errors.ts';

/** What is in use, as whoever asks for it is told: messages that clients know. */
export const taken = {
  slug: (slug: string): Failure =>
    failure('TAKEN', `Tenant with slug '${slug}' already exists`, ['input', 'slug']),
  domain: (domain: string): Failure =>
    failure('TAKEN', `Domain already exists: ${domain}`, ['input', 'domain']),
  schemaName: (name: string): Failure =>
    failure('TAKEN', `Schema already exists: ${name}`, ['input', 'schemaName']),
  name: (name: string): Failure =>
    failure('TAKEN', `Tenant with name '${name}' already exists`, ['input', 'name']),
} as const;
