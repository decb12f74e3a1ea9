import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import pg from 'pg';
import { createKeyRing, generateEncryptionKey } from '../../src/crypto/envelope.ts';
import { sealedColumns } from '../../src/provisioning/sealed-columns.ts';
import { sealBare } from '../crypto/bare.ts';
import { insertOperationRow, insertRow, insertTenantRow } from '../control/rows.ts';
import { createWorld, type World } from '../harness.ts';
import { makeTenant } from '../provisioning/tenants.ts';
import { runCli, startCli } from './run.ts';

let world: World;
let current: string;
const next = generateEncryptionKey();
const nextId = createKeyRing({ current: next }).currentKeyId;

beforeAll(async () => {
  world = await createWorld();
  current = world.encryptionKey;
});
afterEach(() => world.query('TRUNCATE control_plane.tenants CASCADE'));
afterAll(() => world.close());

const settings = (previous = [current]) => ({
  DATABASE_URL: world.controlUrl,
  ENCRYPTION_KEY: next,
  ENCRYPTION_KEYS_PREVIOUS: previous.join(),
  AUTH_MODE: 'open',
});

/** A tenant with a database of this connection string, sealed; returns its id. */
async function sealedTenant(sealed: (tenantId: string) => string): Promise<string> {
  const id = await insertTenantRow(world);
  await insertRow(world, 'tenant_databases', {
    tenant_id: id,
    cluster: 'default',
    isolation: 'DATABASE',
    database_name: `never_made_${id}`.slice(0, 63),
    owner_role: `o${id}`,
    login_role: `l${id}`,
    status: 'PROVISIONED',
    connection_string_encrypted: sealed(id),
  });
  return id;
}

const seal =
  (text: string, purpose = 'connection-string') =>
  (id: string) =>
    createKeyRing({ current }).seal(text, purpose, id);

async function stored(): Promise<{ id: string; sealed: string }[]> {
  return world.query(
    `SELECT tenant_id AS id, connection_string_encrypted AS sealed
     FROM control_plane.tenant_databases ORDER BY tenant_id`,
  );
}

function open(value: { id: string; sealed: string }, key = next): string {
  return createKeyRing({ current: key }).open(value.sealed, 'connection-string', value.id);
}

test('every column that holds sealed values is on the list', async () => {
  const columns = await world.query<{ name: string }>(
    `SELECT table_name || '.' || column_name AS name FROM information_schema.columns
     WHERE table_schema = 'control_plane' AND column_name LIKE '%encrypted%' ORDER BY 1`,
  );
  const listed = sealedColumns.map(({ table, column }) => `${table}.${column}`);
  expect(columns.map(({ name }) => name)).toEqual(listed.sort());
});

test('seals everything anew, the older form too, and says so', async () => {
  await sealedTenant(seal('first'));
  await sealedTenant(() => sealBare(Buffer.from(current, 'base64url'), 'second'));
  const tenant = await insertTenantRow(world);
  const operation = await insertOperationRow(world, tenant, {
    secrets_encrypted: seal('third', 'operation-secrets')(tenant),
  });
  await insertRow(world, 'idempotency_records', {
    caller: 'c',
    mutation: 'createTenant',
    key: 'k, "1"',
    payload_hash: Buffer.alloc(32),
    operation_id: operation,
    api_key_encrypted: seal('fourth', 'api-key')(tenant),
    expires_at: new Date(Date.now() + 60_000),
  });
  await insertRow(world, 'idempotency_records', {
    caller: 'c',
    mutation: 'rotateTenantApiKey',
    key: 'without an operation',
    payload_hash: Buffer.alloc(32),
    tenant_id: tenant,
    api_key_encrypted: seal('sixth', 'api-key')(tenant),
    expires_at: new Date(Date.now() + 60_000),
  });
  const standby = randomUUID();
  await insertRow(world, 'standbys', {
    id: standby,
    operation_id: randomUUID(),
    cluster: 'default',
    isolation: 'DATABASE',
    database_name: 'never_made',
    owner_role: 'o',
    login_role: 'l',
    secrets_encrypted: seal('fifth', 'operation-secrets')(standby),
    recipe_hash: Buffer.alloc(32),
    status: 'DROPPING',
  });
  const { code, stdout, stderr } = await runCli('rotate-encryption-key', settings());
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toBe(`Sealing under key ${nextId}.
tenant_databases.connection_string_encrypted: 2 sealed anew; now 2 under key ${nextId}
standbys.secrets_encrypted: 1 sealed anew; now 1 under key ${nextId}
operations.secrets_encrypted: 1 sealed anew; now 1 under key ${nextId}
idempotency_records.api_key_encrypted: 2 sealed anew; now 2 under key ${nextId}
batch_api_keys.api_key_encrypted: 0 sealed anew; now none
Everything is sealed under this key: no previous key is needed any more.
`);
  expect((await stored()).map((value) => open(value)).sort()).toEqual(['first', 'second']);
  const [row] = await world.query<{ secret: string; key: string }>(
    `SELECT secrets_encrypted AS secret, api_key_encrypted AS key
     FROM control_plane.operations o JOIN control_plane.idempotency_records i ON i.operation_id = o.id`,
  );
  const ring = createKeyRing({ current: next });
  expect(ring.open(row!.secret, 'operation-secrets', tenant)).toBe('third');
  expect(ring.open(row!.key, 'api-key', tenant)).toBe('fourth');
  const [rotated] = await world.query<{ key: string }>(
    `SELECT api_key_encrypted AS key FROM control_plane.idempotency_records
     WHERE operation_id IS NULL`,
  );
  expect(ring.open(rotated!.key, 'api-key', tenant)).toBe('sixth');
  const [made] = await world.query<{ secret: string }>(
    'DELETE FROM control_plane.standbys RETURNING secrets_encrypted AS secret',
  );
  expect(ring.open(made!.secret, 'operation-secrets', standby)).toBe('fifth');

  const again = await runCli('rotate-encryption-key', settings([]));
  expect(again.code).toBe(0);
  expect(again.stdout).toContain('0 sealed anew; now 2 under');
});

test('names the key that is missing, and leaves what it cannot open', async () => {
  const lost = generateEncryptionKey();
  const id = await sealedTenant((tenant) =>
    createKeyRing({ current: lost }).seal('lost', 'connection-string', tenant),
  );
  await sealedTenant(seal('found'));
  const { code, stdout, stderr } = await runCli('rotate-encryption-key', settings());
  expect(code).toBe(1);
  const lostId = createKeyRing({ current: lost }).currentKeyId;
  expect(stdout).toContain('1 sealed anew; now 1 under key');
  expect(stderr).toContain('tenant_databases.connection_string_encrypted: 1 cannot be opened\n');
  expect(stderr).toContain(`Still sealed under key ${lostId}: put the missing keys`);
  expect(
    open(
      (await stored()).find((row) => row.id === id)!,
      lost,
    ),
  ).toBe('lost');
});

test('killed in the middle, it loses nothing, and the next run goes on', async () => {
  const texts = await Promise.all(
    Array.from({ length: 30 }, async () => {
      const text = `secret ${randomUUID()}`;
      await sealedTenant(seal(text));
      return text;
    }),
  );
  const middle = (await stored())[15]!.id;
  const holder = new pg.Client(world.controlUrl);
  await holder.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM control_plane.tenant_databases WHERE tenant_id = $1 FOR UPDATE', [
    middle,
  ]);
  const child = startCli('rotate-encryption-key', settings());
  await expect
    .poll(
      () => stored().then((rows) => rows.filter(({ sealed }) => sealed.includes(nextId)).length),
      {
        timeout: 30_000,
      },
    )
    .toBe(15);
  child.kill('SIGKILL');
  await once(child, 'close');
  await holder.query('ROLLBACK');
  await holder.end();

  const half = await stored();
  for (const value of half) {
    const ring = createKeyRing({ current: next, previous: [current] });
    expect(texts).toContain(ring.open(value.sealed, 'connection-string', value.id));
  }
  expect((await runCli('rotate-encryption-key', settings())).code).toBe(0);
  expect((await stored()).map((value) => open(value)).sort()).toEqual(texts.sort());
});

test('what is changed meanwhile is not overwritten', async () => {
  const id = await sealedTenant(seal('before'));
  const holder = new pg.Client(world.controlUrl);
  await holder.connect();
  await holder.query('BEGIN');
  await holder.query(
    'UPDATE control_plane.tenant_databases SET connection_string_encrypted = $2 WHERE tenant_id = $1',
    [id, seal('changed')(id)],
  );
  const rotation = runCli('rotate-encryption-key', settings());
  await expect
    .poll(
      () =>
        world.query(
          `SELECT FROM pg_stat_activity WHERE application_name = 'tenantry rotate-encryption-key'
           AND wait_event_type = 'Lock'`,
        ),
      { timeout: 30_000 },
    )
    .toHaveLength(1);
  await holder.query('COMMIT');
  await holder.end();
  expect((await rotation).code).toBe(0);
  expect((await stored()).map((value) => open(value))).toEqual(['changed']);
});

test('gateways go on meanwhile, and start with the new key alone afterwards', async () => {
  const gateway = await world.start({ settings: settings() });
  const one = await makeTenant(gateway, { name: 'One', slug: 'rotate-one' });
  await world.query(
    'UPDATE control_plane.tenant_databases SET connection_string_encrypted = $2 WHERE tenant_id = $1',
    [one.tenant.id, seal('postgres://old')(one.tenant.id)],
  );
  await expect(
    world.start({ settings: { ENCRYPTION_KEY: next, ENCRYPTION_KEYS_PREVIOUS: '' } }),
  ).rejects.toThrow(/^ENCRYPTION_KEY: this key does not open .* that are stored; .*$/);
  const [rotation, two] = await Promise.all([
    runCli('rotate-encryption-key', settings()),
    makeTenant(gateway, { name: 'Two', slug: 'rotate-two', idempotencyKey: 'two' }),
  ]);
  expect(rotation.code).toBe(0);
  const values = await stored();
  expect(values.map(({ sealed }) => sealed.split('.')[1])).toEqual([nextId, nextId]);
  expect(open(values.find(({ id }) => id === one.tenant.id)!)).toBe('postgres://old');
  expect(values.map(({ id }) => id)).toContain(two.tenant.id);
  const restarted = await world.start({
    settings: { ENCRYPTION_KEY: next, ENCRYPTION_KEYS_PREVIOUS: '' },
  });
  await restarted.close();
  await gateway.close();
  await removeMade();
});

/** `TRUNCATE` forgets what there is to remove. */
async function removeMade(): Promise<void> {
  const rows = await world.query<{ name: string; login: string; owner: string }>(
    `SELECT database_name AS name, login_role AS login, owner_role AS owner
     FROM control_plane.tenant_databases`,
  );
  for (const { name, login, owner } of rows) {
    await world.query(`DROP DATABASE "${name}" WITH (FORCE)`);
    await world.query(`DROP ROLE "${login}"`);
    await world.query(`DROP ROLE "${owner}"`);
  }
}
