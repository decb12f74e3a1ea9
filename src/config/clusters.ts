import { z } from 'zod';
import { databaseUrl, host, masked, maskUrl, one } from './rules.ts';

/** One tenant cluster as it is configured. Holds a secret: not for logs. */
export interface ClusterSetting {
  /** What callers call it. */
  readonly name: string;
  /** Admin connection string, a secret. */
  readonly url: string;
  /** Its share of new tenants, beside the others'. 0: only when named. */
  readonly weight: number;
  /** Null: no limit. */
  readonly maxTenants: number | null;
  /** Host, port and sslmode in the tenants' connection strings; null: as in `url`. */
  readonly publicHost: string | null;
  readonly publicPort: number | null;
  readonly sslmode: string | null;
}

// verify-ca needs a file with certificates, which a connection string cannot carry to the tenant.
const tenantSslModes = ['disable', 'prefer', 'require', 'verify-full'] as const;

const form = '[{"name": "eu-1", "url": "postgres://user:password@host:5432/database"}]';

const fields = {
  name: z
    .string('name is required: letters, digits and -, e.g. eu-1')
    .regex(
      /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/,
      'name must be 1 to 63 letters, digits and inner -, e.g. eu-1',
    ),
  url: z.string('url is required: postgres://user:password@host:5432/database').pipe(databaseUrl()),
  weight: number('weight', 'a number from 0 to 1000000', (value) => value >= 0 && value <= 1e6),
  maxTenants: number(
    'maxTenants',
    'a whole number from 0 to 1000000000',
    (value) => Number.isInteger(value) && value >= 0 && value <= 1e9,
  ),
  publicHost: z
    .string('must be a text')
    .pipe(one(host, 'an address or host name, without scheme, port or brackets'))
    .optional(),
  publicPort: number(
    'publicPort',
    'a whole number from 1 to 65535',
    (value) => Number.isInteger(value) && value >= 1 && value <= 65_535,
  ),
  sslmode: z
    .enum(tenantSslModes, `sslmode must be one of: ${tenantSslModes.join(', ')}`)
    .optional(),
};

const entry = z.strictObject(fields, {
  error: (issue) =>
    issue.code === 'unrecognized_keys'
      ? `unknown field ${issue.keys.join(', ')}; there are ${Object.keys(fields).join(', ')}`
      : 'must be an object',
});

/** The tenant clusters: a JSON list of at least one, with names of their own. */
export function clusterList(): z.ZodType<readonly ClusterSetting[], string> {
  return z.string().transform((text, context) => {
    const problem = (message: string): void => {
      context.addIssue({ code: 'custom', message });
    };
    const list = parsed(text);
    if (!Array.isArray(list) || list.length === 0) {
      problem(`must be a JSON list of clusters: ${form}`);
      return z.NEVER;
    }
    const clusters: ClusterSetting[] = [];
    for (const [index, item] of (list as unknown[]).entries()) {
      const place = placeOf(item, index);
      const checked = entry.safeParse(item);
      if (checked.success) clusters.push(withDefaults(checked.data));
      else for (const issue of checked.error.issues) problem(`${place}: ${ruleOf(issue)}`);
      const name = nameOf(item);
      const first = name === null ? -1 : list.findIndex((other) => nameOf(other) === name);
      if (first !== -1 && first < index) {
        problem(`${place}: name must be its own; entry ${first + 1} has it too`);
      }
      if (checked.success && needsSslMode(checked.data)) {
        problem(
          `${place}: sslmode must be given, since url has verify-ca, which takes a file that tenants do not have; one of: ${tenantSslModes.join(', ')}`,
        );
      }
    }
    return clusters;
  });
}

/** The list as it may be shown: without passwords. */
export function maskClusters(text: string): string {
  const list = parsed(text);
  if (!Array.isArray(list)) return masked();
  return JSON.stringify(
    list.map((item: unknown) =>
      typeof item === 'object' && item !== null && 'url' in item
        ? { ...item, url: typeof item.url === 'string' ? maskUrl(item.url) : masked() }
        : item,
    ),
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function number(field: string, rule: string, holds: (value: number) => boolean) {
  const message = `${field} must be ${rule}`;
  return z.number(message).refine(holds, message).optional();
}

function withDefaults(given: z.output<typeof entry>): ClusterSetting {
  return {
    name: given.name,
    url: given.url,
    weight: given.weight ?? 1,
    maxTenants: given.maxTenants ?? null,
    publicHost: given.publicHost ?? null,
    publicPort: given.publicPort ?? null,
    sslmode: given.sslmode ?? null,
  };
}

function nameOf(item: unknown): string | null {
  if (typeof item !== 'object' || item === null || !('name' in item)) return null;
  return typeof item.name === 'string' ? item.name : null;
}

/** Says which entry it is without repeating what may be a secret in the wrong place. */
function placeOf(item: unknown, index: number): string {
  const name = nameOf(item);
  const known = name !== null && fields.name.safeParse(name).success;
  return `entry ${index + 1}${known ? ` (${name})` : ''}`;
}

/** Rules that are shared with other settings do not name the field by themselves. */
function ruleOf({ message, path }: z.core.$ZodIssue): string {
  const field = path[0];
  return field === undefined || message.startsWith(String(field))
    ? message
    : `${String(field)} ${message}`;
}

function needsSslMode({ url, sslmode }: z.output<typeof entry>): boolean {
  return sslmode === undefined && new URL(url).searchParams.get('sslmode') === 'verify-ca';
}
