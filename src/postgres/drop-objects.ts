import type pg from 'pg';
import {
  countDependents,
  distantDependents,
  droppableUnits,
  lockBudget,
  type Place,
} from './dependencies.ts';
import { codeOf, errorCodes, isTransient, PassingError } from './error-codes.ts';
import {
  describeObjects,
  dropStatement,
  type CatalogObject,
  type ObjectRef,
} from './object-ddl.ts';
import { inTransactionAs, type AdminClient } from './roles.ts';

/** How an ObjectDropper deals with other sessions. */
export interface DropOptions extends Place {
  /** Longest wait for one lock, milliseconds. */
  readonly lockTimeoutMs: number;
  /**
   * Ends what keeps this session waiting for a lock, while `work` is under way; absent: nothing is ended,
   * and the lock's timeout is thrown.
   */
  readonly withoutBlockers?: <T>(work: () => Promise<T>) => Promise<T>;
  /** Epoch milliseconds after which no further batch is begun; absent: none. */
  readonly until?: number;
}

/** Drops objects of the connected database in transactions that fit the server's table of locks. */
export interface ObjectDropper {
  /**
   * Drops objects with all that depends on them; those that are gone already are fine.
   *
   * @param most objects of one transaction, however few locks they take
   * @throws the error of the smallest piece that could not be dropped
   */
  drop(refs: readonly ObjectRef[], most?: number): Promise<void>;
  /** Whether the time is over: what `drop` was asked for may still be there. */
  expired(): boolean;
}

const largestBatch = 50;
// Of waits for a lock that are broken off: each time, what blocks has been ended.
const lockAttempts = 5;

/** Builds a dropper for a session. */
export async function createObjectDropper(
  client: AdminClient,
  options: DropOptions,
): Promise<ObjectDropper> {
  const budget = await lockBudget(client);
  const underWay = new Set<string>();

  /** One transaction. */
  async function dropTogether(refs: readonly ObjectRef[]): Promise<void> {
    const objects = await describeObjects(client, refs);
    const statements = objects.flatMap((object) => dropStatement(object) ?? []);
    if (statements.length === 0) return;
    const drop = (owned: readonly CatalogObject[]): Promise<void> => {
      const owners = owned.flatMap(({ owner }) => owner ?? []);
      const run = (): Promise<void> =>
        inTransactionAs(client, owners, async () => {
          await client.query(
            `SET LOCAL lock_timeout = ${options.lockTimeoutMs}; SET LOCAL client_min_messages = error;
             ${statements.join(';\n')}`,
          );
        });
      return whileLocked(run, options);
    };
    try {
      // To own the schema is enough for whole objects in it; a membership for each batch costs more.
      await drop(
        options.schema === null ? objects : objects.filter(({ parent }) => parent !== null),
      );
    } catch (error) {
      if (client.isSuperuser || codeOf(error) !== errorCodes.insufficientPrivilege) throw error;
      await drop(objects);
    }
  }

  async function fits(refs: readonly ObjectRef[]): Promise<boolean> {
    return (await countDependents(client, refs, budget)) <= budget;
  }

  function expired(): boolean {
    return options.until !== undefined && Date.now() > options.until;
  }

  async function dropAll(refs: readonly ObjectRef[], most = largestBatch): Promise<void> {
    let size = most;
    for (let start = 0; start < refs.length && !expired();) {
      const batch = refs.slice(start, start + size);
      const [first] = batch;
      if (first === undefined) return;
      const problem = await dropBatch(batch);
      if (problem === null) {
        start += batch.length;
        size = Math.min(most, size * 2);
      } else if (batch.length > 1) {
        size = Math.ceil(batch.length / 2);
      } else {
        await dropDependentsFirst(first, problem);
        start += 1;
      }
    }
  }

  /** @returns null, or why it has to be done in smaller pieces */
  async function dropBatch(batch: readonly ObjectRef[]): Promise<Error | null> {
    if (!(await fits(batch))) return tooMany;
    try {
      await dropTogether(batch);
      return null;
    } catch (error) {
      const code = codeOf(error) ?? '';
      // One of a batch may have gone along with another one.
      const smaller = code === errorCodes.outOfMemory || batch.length > 1;
      if (smaller && code !== errorCodes.queryCanceled) return error as Error;
      throw error;
    }
  }

  /** Drops what depends on an object before it, the furthest away first. */
  async function dropDependentsFirst(ref: ObjectRef, problem: Error): Promise<void> {
    const key = keyOf(ref);
    if (underWay.has(key)) return;
    underWay.add(key);
    const tried = new Set([key]);
    do {
      const distant = await distantDependents(client, ref, budget);
      const next = (await droppableUnits(client, distant, options)).filter((unit) => {
        return !tried.has(keyOf(unit)) && !underWay.has(keyOf(unit));
      });
      if (next.length === 0) {
        // The same again would take as many locks.
        if (tried.size === 1 && problem !== tooMany) throw problem;
        break;
      }
      for (const unit of next) tried.add(keyOf(unit));
      await dropUnits(next);
    } while (!expired() && !(await fits([ref])));
    underWay.delete(key);
    if (!expired()) await dropTogether([ref]);
  }

  /** What cannot be dropped alone (an inherited constraint) goes with what it is a part of. */
  async function dropUnits(units: readonly ObjectRef[]): Promise<void> {
    try {
      await dropAll(units);
    } catch (error) {
      if (isTransient(error) || isResourceError(error)) throw error;
      if (units.length > 1) for (const unit of units) await dropUnits([unit]);
    }
  }

  return { drop: dropAll, expired };
}

const tooMany = new Error('more objects depend on it than fit into one transaction');

function isResourceError(error: unknown): boolean {
  const code = codeOf(error);
  return code === errorCodes.outOfMemory || code === errorCodes.queryCanceled;
}

/** Runs a transaction that drops something, again where it gave up waiting for a lock whose holder is ended. */
export async function whileLocked(
  run: () => Promise<void>,
  { withoutBlockers }: Pick<DropOptions, 'withoutBlockers'>,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await (withoutBlockers?.(run) ?? run());
      return;
    } catch (error) {
      const code = codeOf(error) ?? '';
      const passes = code === errorCodes.deadlockDetected || code === errorCodes.lockNotAvailable;
      if (!passes || withoutBlockers === undefined || attempt === lockAttempts) throw error;
    }
  }
}

function keyOf({ classid, objid }: ObjectRef): string {
  return `${classid}/${objid}`;
}

// One transaction's worth for a look at the catalogs.
const listAtOnce = 1_000;

/** Objects in a schema that no other object contains, partitions first, then the newest. */
export async function listSchemaObjects(
  client: pg.ClientBase,
  schema: string,
): Promise<ObjectRef[]> {
  const { rows } = await client.query<ObjectRef>(
    `SELECT d.classid, d.objid, 0 AS subid FROM pg_catalog.pg_depend d
     JOIN pg_catalog.pg_namespace n ON n.oid = d.refobjid
     LEFT JOIN pg_catalog.pg_class c
       ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid
     WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
       AND n.nspname = $1 AND d.deptype = 'n'
       -- Extensions are the operator's: they go with the schema.
       AND d.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend part
         WHERE part.classid = d.classid AND part.objid = d.objid
           AND part.deptype IN ('i', 'e', 'P', 'S'))
     ORDER BY coalesce(c.relispartition, false) DESC, d.objid DESC LIMIT $2`,
    [schema, listAtOnce],
  );
  return rows;
}

/** Large objects of the connected database that roles own. */
export async function listLargeObjects(
  client: pg.ClientBase,
  roles: readonly string[],
): Promise<ObjectRef[]> {
  const { rows } = await client.query<ObjectRef>(
    `SELECT d.classid, d.objid, 0 AS subid FROM pg_catalog.pg_roles r
     JOIN pg_catalog.pg_shdepend d
       ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
     WHERE r.rolname = ANY ($1::pg_catalog.name[]) AND d.deptype = 'o'
       AND d.dbid = (SELECT db.oid FROM pg_catalog.pg_database db
                     WHERE db.datname = pg_catalog.current_database())
       AND d.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass LIMIT $2`,
    [roles, listAtOnce],
  );
  return rows;
}

/** Objects of the connected database that roles own, the newest first. */
export async function listOwnedObjects(
  client: pg.ClientBase,
  roles: readonly string[],
): Promise<ObjectRef[]> {
  const { rows } = await client.query<ObjectRef>(
    `SELECT DISTINCT d.classid, d.objid, 0 AS subid FROM pg_catalog.pg_roles r
     JOIN pg_catalog.pg_shdepend d
       ON d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid
     WHERE r.rolname = ANY ($1::pg_catalog.name[]) AND d.deptype = 'o'
       AND d.dbid = (SELECT db.oid FROM pg_catalog.pg_database db
                     WHERE db.datname = pg_catalog.current_database())
       -- Default privileges have no DROP of their own.
       AND d.classid <> 'pg_catalog.pg_default_acl'::pg_catalog.regclass
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend part
         WHERE part.classid = d.classid AND part.objid = d.objid
           AND part.deptype IN ('i', 'e', 'P', 'S'))
     ORDER BY d.objid DESC LIMIT $2`,
    [roles, listAtOnce],
  );
  return rows;
}

/**
 * Drops what `list` finds until it finds nothing more.
 *
 * @throws PassingError when what it finds does not become less
 */
export async function dropEverything(
  dropper: ObjectDropper,
  list: () => Promise<readonly ObjectRef[]>,
  most?: number,
): Promise<void> {
  let before = '';
  while (!dropper.expired()) {
    const refs = await list();
    const found = refs.map(keyOf).join(' ');
    if (found === '') return;
    if (found === before) throw new PassingError('objects are still there after they were dropped');
    before = found;
    await dropper.drop(refs, most);
  }
}
