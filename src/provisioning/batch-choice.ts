import type { Knex } from 'knex';
import type { BatchItem } from '../control/batches.ts';
import { takenSchemaNames } from '../control/tenant-databases.ts';
import {
  countTenants,
  lockTenantName,
  takenDomains,
  takenSlugs,
  takenTenantNames,
} from '../control/tenants.ts';
import type { Failure } from '../errors.ts';
import { schemaNameFromSlug, slugFromName, withRandomEnding } from './names.ts';
import { partnerFull } from './record-tenant.ts';
import type { Reservation, ReserveSettings } from './reservation.ts';
import { slugRoom } from './reserve.ts';
import { taken } from './taken.ts';

/** A checked item of a batch. */
export type ItemReservation = Reservation & { readonly index: number };

export interface Choice {
  /** Items that can be made, each with its slug. */
  readonly chosen: readonly { readonly item: ItemReservation; readonly slug: string }[];
  readonly refusals: readonly Pick<BatchItem, 'index' | 'failures'>[];
}

/** What is in use: by tenants that are there, and by items that stand before. */
interface InUse {
  readonly slugs: Set<string>;
  /** In lower case. */
  readonly domains: Set<string>;
  readonly schemaNames: Set<string>;
  readonly names: Set<string>;
  /** Tenants by partner. */
  readonly counts: Map<string, number>;
}

/**
 * Decides which items of a batch can be made. Of two that ask for the same slug, domain or schema name
 * the first one stands.
 */
export async function chooseItems(
  trx: Knex.Transaction,
  settings: ReserveSettings,
  items: readonly ItemReservation[],
): Promise<Choice> {
  const wanted = items.map((item) => ({ item, ...wantedNames(item, settings) }));
  const used = await inUse(trx, settings, wanted);
  const chosen: { item: ItemReservation; slug: string }[] = [];
  const refusals: Pick<BatchItem, 'index' | 'failures'>[] = [];
  for (const { generatesSchema, item, room, slug: first } of wanted) {
    const { command, index, partner } = item;
    const schemaOf = (slug: string): string | undefined =>
      generatesSchema ? schemaNameFromSlug(settings.schemaPrefix, slug) : command.schemaName;
    const isTaken = (slug: string): boolean =>
      used.slugs.has(slug) || used.schemaNames.has(schemaOf(slug) ?? '');
    const slug =
      command.slug === undefined && generatesSchema && isTaken(first)
        ? withRandomEnding(first, room)
        : command.slug === undefined && used.slugs.has(first)
          ? withRandomEnding(first, room)
          : first;
    const failures = problemsOf(item, slug, schemaOf(slug), used, settings);
    if (failures.length > 0) {
      refusals.push({ index, failures: failures.map((failure) => inItem(failure, index)) });
      continue;
    }
    chosen.push({ item, slug });
    used.slugs.add(slug);
    used.names.add(nameKey(partner, command.name));
    used.counts.set(partner, (used.counts.get(partner) ?? 0) + 1);
    if (command.domain !== undefined) used.domains.add(command.domain.toLowerCase());
    const schemaName = schemaOf(slug);
    if (schemaName !== undefined) used.schemaNames.add(schemaName);
  }
  return { chosen, refusals };
}

/** A failure of one tenant's input, as that of an item. */
export function inItem(failure: Failure, index: number): Failure {
  const [argument = 'input', ...rest] = failure.field ?? [];
  return { ...failure, field: [argument, 'tenants', String(index), ...rest] };
}

function problemsOf(
  { command, partner }: ItemReservation,
  slug: string,
  schemaName: string | undefined,
  used: InUse,
  settings: ReserveSettings,
): Failure[] {
  const { maxTenantsPerPartner: most } = settings;
  return [
    ...(command.uniqueName && used.names.has(nameKey(partner, command.name))
      ? [taken.name(command.name)]
      : []),
    ...(used.slugs.has(slug) ? [taken.slug(slug)] : []),
    ...(command.domain !== undefined && used.domains.has(command.domain.toLowerCase())
      ? [taken.domain(command.domain)]
      : []),
    ...(schemaName !== undefined && used.schemaNames.has(schemaName)
      ? [taken.schemaName(schemaName)]
      : []),
    ...(most > 0 && (used.counts.get(partner) ?? 0) >= most ? [partnerFull(settings)] : []),
  ];
}

function wantedNames({ command }: ItemReservation, { schemaPrefix }: ReserveSettings) {
  const { generatesSchema, room } = slugRoom(command, schemaPrefix);
  return { generatesSchema, room, slug: command.slug ?? slugFromName(command.name, room) };
}

type Wanted = { readonly item: ItemReservation } & ReturnType<typeof wantedNames>;

async function inUse(
  trx: Knex.Transaction,
  settings: ReserveSettings,
  wanted: readonly Wanted[],
): Promise<InUse> {
  const items = wanted.map(({ item }) => item);
  const names = await lockNames(trx, items);
  const counts = await countPartners(trx, settings, items);
  const [slugs, domains, schemaNames] = await Promise.all([
    takenSlugs(
      trx,
      wanted.map(({ slug }) => slug),
    ),
    takenDomains(
      trx,
      items.flatMap(({ command: { domain } }) => domain?.toLowerCase() ?? []),
    ),
    takenSchemaNames(
      trx,
      wanted.flatMap(({ generatesSchema, item: { command }, slug }) =>
        generatesSchema
          ? schemaNameFromSlug(settings.schemaPrefix, slug)
          : (command.schemaName ?? []),
      ),
    ),
  ]);
  return {
    slugs: new Set(slugs),
    domains: new Set(domains),
    schemaNames: new Set(schemaNames),
    names,
    counts,
  };
}

/** Takes the locks under which unique names are decided, in one order, and looks which are in use. */
async function lockNames(
  trx: Knex.Transaction,
  items: readonly ItemReservation[],
): Promise<Set<string>> {
  const unique = items.filter(({ command }) => command.uniqueName);
  const used = new Set<string>();
  for (const [partner, own] of Map.groupBy(unique, (item) => item.partner)) {
    const names = [...new Set(own.map(({ command }) => command.name))].sort();
    await Promise.all(names.map((name) => lockTenantName(trx, partner, name)));
    for (const name of await takenTenantNames(trx, partner, names)) {
      used.add(nameKey(partner, name));
    }
  }
  return used;
}

async function countPartners(
  trx: Knex.Transaction,
  { maxTenantsPerPartner }: ReserveSettings,
  items: readonly ItemReservation[],
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  if (maxTenantsPerPartner === 0) return counts;
  for (const partner of [...new Set(items.map((item) => item.partner))].sort()) {
    await lockTenantName(trx, partner, '');
    counts.set(partner, await countTenants(trx, partner));
  }
  return counts;
}

function nameKey(partner: string, name: string): string {
  return JSON.stringify([partner, name]);
}
