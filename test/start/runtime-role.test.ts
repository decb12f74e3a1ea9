import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import pg from 'pg';
import { runCli } from '../cli/run.ts';
import { onServer, withLogin } from '../control-template.ts';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { makeTenant, refusal } from '../provisioning/tenants.ts';

// The owner migrates; gateways run as a role that changes no table, and of the audit log nothing.
const role = `test_gateway_${randomBytes(6).toString('hex')}`;
let world: World;
let url: string;
let gateway: TestGateway;

const owner = () => ({
  DATABASE_URL: world.controlUrl,
  ENCRYPTION_KEY: world.encryptionKey,
  AUTH_MODE: 'open',
});

beforeAll(async () => {
  world = await createWorld();
  await world.query(`CREATE ROLE ${role} LOGIN CREATEDB CREATEROLE PASSWORD '${role}'`);
  url = withLogin(world.controlUrl, role, role);
  const { code, stdout } = await runCli('migrate', owner(), ['--grant-to', role]);
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringMatching(
      new RegExp(`^The control plane is at .*\\nGateways may run as ${role}, .*\\n$`),
    ) as string,
  });
  gateway = await world.start({ settings: { DATABASE_URL: url, AUDIT_RETENTION_DAYS: '30' } });
});
afterAll(async () => {
  await world.close();
  await onServer(inject('serverUrl'), (client) => client.query(`DROP ROLE ${role}`));
});

test('a gateway does all its work as that role, and its queue has nothing to complain of', async () => {
  const { tenant } = await makeTenant(gateway, { name: 'Restricted', slug: 'runtime-role' });
  const { updateTenant, deleteTenant } = await gateway.graphql(
    `mutation ($id: ID!) {
      updateTenant(input: { id: $id, name: "Renamed" }) { userErrors { code } }
      deleteTenant(input: { id: $id }) { tenant { status } userErrors { code } } }`,
    { id: tenant.id },
  );
  expect(updateTenant).toEqual({ userErrors: [] });
  expect(deleteTenant).toEqual({ tenant: { status: 'DELETED' }, userErrors: [] });
  const ready = await gateway.get('/readyz');
  expect(ready.status, ready.text).toBe(200);
  expect(gateway.logs()).not.toMatch(/queue reports|permission denied/);
});

test('a second one starts beside it, and the audit log is whole', async () => {
  const second = await world.start({ settings: { DATABASE_URL: url } });
  await makeTenant(second, { name: 'Second', slug: 'runtime-role-2' });
  await second.close();
  const asRole = { ...owner(), DATABASE_URL: url };
  expect(await runCli('verify-audit', asRole)).toMatchObject({ code: 0, stderr: '' });
});

test('what is too old is the owner’s to prune', async () => {
  await expect.poll(() => gateway.logs()).toContain('npm run prune-audit');
  const { code, stderr } = await runCli('prune-audit', {
    ...owner(),
    DATABASE_URL: url,
    AUDIT_RETENTION_DAYS: '1',
  });
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: 'DATABASE_URL: this role may not prune the audit log; its owner may\n',
  });
});

describe('as that role', () => {
  let client: pg.Client;
  beforeAll(async () => {
    client = new pg.Client(url);
    await client.connect();
  });
  afterAll(() => client.end());

  test.each([
    `UPDATE control_plane.audit_log SET actor = 'x'`,
    'DELETE FROM control_plane.audit_log',
    'TRUNCATE control_plane.audit_log',
    'ALTER TABLE control_plane.audit_log DISABLE TRIGGER ALL',
    'DROP TRIGGER audit_log_append_only ON control_plane.audit_log',
    'DROP TABLE control_plane.audit_log CASCADE',
    `SET session_replication_role = 'replica'`,
    `INSERT INTO control_plane.audit_chain VALUES (999, 999, decode(repeat('00', 32), 'hex'))`,
    'DELETE FROM control_plane.audit_chain',
    'UPDATE control_plane.audit_head SET sequence = 0',
    'UPDATE control_plane.audit_head SET anchor_sequence = sequence',
    'CREATE OR REPLACE FUNCTION control_plane.chain_audit() RETURNS trigger LANGUAGE sql AS $$$$',
    'CREATE TABLE control_plane.mine ()',
    'ALTER TABLE control_plane.tenants ADD mine integer',
    'TRUNCATE control_plane.tenants CASCADE',
    'DELETE FROM control_plane.knex_migrations',
    'CREATE TABLE control_plane_jobs.mine ()',
  ])('%s is refused', async (statement) => {
    expect(await refusal(client.query(statement))).toMatch(/^42501$|^42P13$/);
  });
});

test.each([
  ['nobody_there', () => 'nobody_there', 'there is no role nobody_there'],
  [
    'the owner',
    () => new URL(world.controlUrl).username,
    'is a superuser, whom no right can be denied',
  ],
])('rights are not granted to %s', async (_who, name, reason) => {
  const { code, stdout, stderr } = await runCli('migrate', owner(), ['--grant-to', name()]);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain(reason);
});

test('without the owner’s migration the start says what is missing', async () => {
  await world.query(
    `UPDATE control_plane.knex_migrations SET name = name || '_' WHERE name LIKE '%audit_chain'`,
  );
  try {
    await expect(world.start({ settings: { DATABASE_URL: url } })).rejects.toThrow(
      /^DATABASE_URL: the control plane's tables cannot be made or brought up to date: /,
    );
  } finally {
    await world.query(
      `UPDATE control_plane.knex_migrations SET name = rtrim(name, '_') WHERE name LIKE '%audit_chain_'`,
    );
  }
});
