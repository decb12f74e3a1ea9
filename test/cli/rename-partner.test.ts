import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { bearer, startWithTokens, tokenSettings } from '../tokens.ts';
import { runCli } from './run.ts';

let world: World;
let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  world = await createWorld();
  gateway = await startWithTokens(world);
});
afterAll(() => world.close());

const roles = ['partner-admin'];
const rename = (...args: string[]) =>
  runCli(
    'rename-partner',
    { ...tokenSettings, DATABASE_URL: world.controlUrl, ENCRYPTION_KEY: world.encryptionKey },
    args,
  );

type Person = Awaited<ReturnType<typeof bearer>>;

async function ask<T>(person: Person, query: string, variables: object = {}): Promise<T> {
  const answer = await gateway.post('/graphql', { query, variables }, person);
  const { data, errors } = answer.json as { data: T; errors?: unknown };
  expect(errors).toBeUndefined();
  return data;
}

/** Makes a batch of one tenant; the same key makes it once. */
async function make(person: Person, key: string): Promise<{ id: string; apiKey: string }> {
  const { createTenantsBatch } = await ask<{
    createTenantsBatch: { batch: { results: [{ tenant: { id: string }; apiKey: string }] } };
  }>(
    person,
    `mutation ($key: String!) {
      createTenantsBatch(input: { tenants: [{ name: "Renamed" }], idempotencyKey: $key }) {
        batch { results { tenant { id } apiKey } } } }`,
    { key },
  );
  const [{ tenant, apiKey }] = createTenantsBatch.batch.results;
  return { id: tenant.id, apiKey };
}

/** What a caller sees: tenants, operations, batches, and the actions of its audit log. */
async function seenBy(person: Person): Promise<object> {
  const seen = await ask<{
    tenants: { nodes: { id: string }[] };
    operations: { totalCount: number };
    batches: { totalCount: number };
    auditLog: { totalCount: number; nodes: { tenantId: string }[] };
  }>(
    person,
    `{ tenants(first: 50) { nodes { id } } operations { totalCount } batches { totalCount }
       auditLog(first: 100) { totalCount nodes { tenantId } } }`,
  );
  expect(seen.auditLog.totalCount).toBe(seen.auditLog.nodes.length);
  return {
    tenants: seen.tenants.nodes.map(({ id }) => id).sort(),
    operations: seen.operations.totalCount,
    batches: seen.batches.totalCount,
    audited: [...new Set(seen.auditLog.nodes.map(({ tenantId }) => tenantId))].sort(),
  };
}

const nothing = { tenants: [], operations: 0, batches: 0, audited: [] };
const all = (...ids: string[]): object => ({
  tenants: ids.sort(),
  operations: ids.length,
  batches: ids.length,
  audited: ids,
});

let name: string;
let old: Person;
let renamed: Person;

/** Two partners of one name each: by a claim, and by the subject. */
beforeEach(async () => {
  name = `partner-${(count += 1)}`;
  old = await bearer({ roles, sub: name, partner: name });
  renamed = await bearer({ roles, sub: name });
});

describe('npm run -s rename-partner', () => {
  test('gives everything of a partner the new name, and the partner what was its own', async () => {
    const first = await make(old, 'one');
    const { code, stderr, stdout } = await rename(name, `sub:${name}`);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(
      `${name} is now sub:${name}: 1 tenants, 1 operations and 1 batches, 1 idempotency keys.\n` +
        'Entries of the audit log keep the old name; the partner sees them all the same.\n',
    );
    expect(await seenBy(renamed)).toEqual(all(first.id));
    expect(await seenBy(old)).toEqual(nothing);
    // The retry of a creation is a replay, with the key that is shown once.
    expect(await make(renamed, 'one')).toEqual(first);
    expect(await seenBy(renamed)).toEqual(all(first.id));
  });

  test('covers every table that names partners', async () => {
    await make(old, 'one');
    const before = await world.query('SELECT * FROM control_plane.audit_log ORDER BY id');
    await rename(name, `sub:${name}`);
    const tables = await world.query<{ table_name: string }>(
      `SELECT table_name FROM information_schema.columns
       WHERE table_schema = 'control_plane' AND column_name = 'partner' ORDER BY 1`,
    );
    expect(tables.map(({ table_name }) => table_name)).toEqual([
      'audit_log',
      'batches',
      'operations',
      'tenants',
    ]);
    for (const table of ['batches', 'operations', 'tenants']) {
      expect(
        await world.query(`SELECT FROM control_plane.${table} WHERE partner = $1`, [name]),
      ).toEqual([]);
    }
    const callers = await world.query<{ caller: string }>(
      `SELECT caller FROM control_plane.idempotency_records
       UNION SELECT caller FROM control_plane.batch_api_keys`,
    );
    expect(callers.map(({ caller }) => JSON.parse(caller) as unknown)).not.toContainEqual([
      'USER',
      name,
      name,
    ]);
    // The audit log is as it was, with one entry more, and its chain holds.
    const after = await world.query('SELECT * FROM control_plane.audit_log ORDER BY id');
    expect(after.slice(0, before.length)).toEqual(before);
    expect(after.slice(before.length)).toMatchObject([
      {
        actor: 'rename-partner',
        partner: 'platform',
        action: 'renamePartner',
        outcome: 'SUCCEEDED',
        tenant_id: null,
        details: { from: name, to: `sub:${name}`, tenants: 1, operations: 1, batches: 1 },
      },
    ]);
    const verified = await runCli('verify-audit', {
      DATABASE_URL: world.controlUrl,
      ENCRYPTION_KEY: world.encryptionKey,
      AUTH_MODE: 'open',
    });
    expect(verified).toMatchObject({ code: 0, stderr: '' });
  });

  test('hides the old entries of the audit log from whoever takes the name later', async () => {
    const first = await make(old, 'one');
    await rename(name, `sub:${name}`);
    const second = await make(old, 'one');
    expect(second).not.toEqual(first);
    expect(await seenBy(old)).toEqual(all(second.id));
    expect(await seenBy(renamed)).toEqual(all(first.id));
    // Renamed once more, it still sees all that was written while it had other names.
    await rename(`sub:${name}`, `${name}-now`);
    expect(await seenBy(await bearer({ roles, partner: `${name}-now` }))).toEqual(all(first.id));
    expect(await seenBy(renamed)).toEqual(nothing);
    expect(await seenBy(old)).toEqual(all(second.id));
  });

  test('joins two partners with --merge alone', async () => {
    const first = await make(old, 'one');
    const second = await make(renamed, 'one');
    const third = await make(renamed, 'two');
    const refused = await rename(name, `sub:${name}`);
    expect(refused).toEqual({
      code: 1,
      stdout: '',
      stderr: `sub:${name} has 2 tenants, 2 operations and 2 batches: with --merge both partners become one, for good.\n`,
    });
    expect(await seenBy(old)).toEqual(all(first.id));
    expect(await rename(name, `sub:${name}`, '--merge')).toMatchObject({ code: 0, stderr: '' });
    const ids = [first.id, second.id, third.id].sort();
    expect(await seenBy(renamed)).toEqual(all(...ids));
    expect(await seenBy(old)).toEqual(nothing);
    // What the new name did with a key counts.
    expect(await make(renamed, 'one')).toEqual(second);
  });

  test('refuses a name that nothing belongs to', async () => {
    expect(await rename('unknown', 'sub:unknown')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'Nothing belongs to unknown.\n',
    });
  });

  test.for<[args: string[], problem: string]>([
    [[], 'Two names are needed'],
    [['acme'], 'Two names are needed'],
    [['acme', 'sub:acme', 'x'], 'Two names are needed'],
    [['acme', 'acme'], 'Both names are the same'],
    [['acme', 'platform'], "platform is the operator's own"],
    [['platform', 'acme'], "platform is the operator's own"],
    [['acme', ''], 'NEW is no name for a partner'],
    [['acme', 'sub:'], 'NEW is no name for a partner'],
    [['acme', 'x'.repeat(256)], 'NEW is no name for a partner'],
    [['acme', 'sub:acme', '--force'], '--force'],
  ])('refuses %j, and says how to use it', async ([args, problem]) => {
    const { code, stdout, stderr } = await rename(...args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(problem);
    expect(stderr).toContain('Usage: npm run -s rename-partner');
  });
});
