import type { Knex } from 'knex';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pruneAudit, verifyAuditChain } from '../../src/control/audit-chain.ts';
import { appendAudit, type AuditRecord } from '../../src/control/audit.ts';
import { runCli } from '../cli/run.ts';
import { createWorld, type World } from '../harness.ts';
import { openRegistry } from './rows.ts';

let world: World;
let control: Knex;

beforeAll(async () => {
  world = await createWorld();
  control = openRegistry(world);
});
afterAll(async () => {
  await control.destroy();
  await world.close();
});

/** What every column can hold that could be mistaken for something else. */
const record: AuditRecord = {
  actor: 'Zoë 🐘 "quoted", \\back\\ 1:2',
  partner: 'p',
  ipAddress: '::1',
  action: 'createTenant',
  tenantId: '550e8400-e29b-41d4-a716-446655440000',
  fromStatus: null,
  toStatus: 'PROVISIONING',
  outcome: 'ACCEPTED',
  requestId: null,
  details: { fields: ['name', 'ü'], nested: { b: 1, a: null } },
};

/** As somebody who owns the tables and wants to cheat. */
async function cheat(...statements: string[]): Promise<void> {
  await world.query('ALTER TABLE control_plane.audit_log DISABLE TRIGGER USER');
  for (const statement of statements) await world.query(statement);
  await world.query('ALTER TABLE control_plane.audit_log ENABLE TRIGGER USER');
}

async function problems(): Promise<string[]> {
  return (await verifyAuditChain(control)).findings.map(({ problem }) => problem);
}

/** Ids of the rows, by their place in the chain: the first is that of entry 1. */
async function entries(): Promise<[number, number, number, number, number]> {
  const rows = await world.query<{ id: string }>(
    'SELECT audit_id AS id FROM control_plane.audit_chain ORDER BY sequence',
  );
  return rows.map(({ id }) => Number(id)) as [number, number, number, number, number];
}

beforeEach(async () => {
  await cheat(
    'TRUNCATE control_plane.audit_log, control_plane.audit_chain',
    `UPDATE control_plane.audit_head SET sequence = 0, hash = decode(repeat('00', 32), 'hex'),
       anchor_sequence = 0, anchor_hash = decode(repeat('00', 32), 'hex')`,
  );
  for (const action of ['a', 'b', 'c', 'd', 'e']) await appendAudit(control, { ...record, action });
});

describe('verifyAuditChain', () => {
  test('finds nothing wrong with what was appended', async () => {
    const report = await verifyAuditChain(control);
    expect(report).toMatchObject({ checked: 5, findings: [], head: { sequence: 5 } });
  });

  test.each([
    ['actor', "actor = 'somebody else'"],
    ['time', "at = at + interval '1 microsecond'"],
    ['text that was empty', "request_id = ''"],
    ['status', "to_status = 'ACTIVE'"],
    ['details', `details = '{"fields": []}'`],
    ['text moved to the next column', "ip_address = NULL, partner = partner || '::1'"],
  ])('names a row whose %s was changed', async (_what, change) => {
    const id = (await entries())[2];
    await cheat(`UPDATE control_plane.audit_log SET ${change} WHERE id = ${id}`);
    expect(await problems()).toEqual([`entry 3 (row ${id}) was changed`]);
  });

  test('names a row that was removed, in the middle and at the tail', async () => {
    const ids = await entries();
    await cheat(`DELETE FROM control_plane.audit_log WHERE id IN (${ids[1]}, ${ids[4]})`);
    expect(await problems()).toEqual([
      `row ${ids[1]} of entry 2 is removed`,
      `row ${ids[4]} of entry 5 is removed`,
    ]);
  });

  test('names entries removed with their rows, in the middle and at the tail', async () => {
    const ids = await entries();
    const gone = `(${ids[1]}, ${ids[2]}, ${ids[4]})`;
    await cheat(
      `DELETE FROM control_plane.audit_log WHERE id IN ${gone}`,
      `DELETE FROM control_plane.audit_chain WHERE audit_id IN ${gone}`,
    );
    expect(await problems()).toEqual([
      'entries 2 to 3 are removed',
      'the last entries, 5 to 5, are removed',
    ]);
  });

  test('names a row slipped in past the trigger', async () => {
    await cheat(
      `INSERT INTO control_plane.audit_log (actor, partner, action, outcome)
       VALUES ('x', 'p', 'y', 'SUCCEEDED')`,
    );
    expect(await problems()).toEqual([
      expect.stringMatching(/^row \d+ is in no entry: it was inserted past the chain$/),
    ]);
  });

  test('finds a row removed by whoever closed the gap', async () => {
    const [, second] = await entries();
    await cheat(
      `DELETE FROM control_plane.audit_log WHERE id = ${second}`,
      `DELETE FROM control_plane.audit_chain WHERE audit_id = ${second}`,
      `UPDATE control_plane.audit_chain SET sequence = -sequence + 100 WHERE sequence > 2`,
      `UPDATE control_plane.audit_chain SET sequence = 100 - sequence - 1 WHERE sequence > 50`,
      `UPDATE control_plane.audit_head SET sequence = 4`,
    );
    expect(await problems()).toEqual([
      expect.stringContaining('entry 2 '),
      expect.stringContaining('entry 3 '),
      expect.stringContaining('entry 4 '),
    ]);
  });

  test('finds a chain written anew as a whole, by a head that was noted', async () => {
    const { head } = await verifyAuditChain(control);
    await cheat(
      'TRUNCATE control_plane.audit_log, control_plane.audit_chain',
      `UPDATE control_plane.audit_head SET sequence = 0, hash = decode(repeat('00', 32), 'hex')`,
    );
    for (const action of ['f', 'g', 'h', 'i', 'j'])
      await appendAudit(control, { ...record, action });
    expect(await problems()).toEqual([]);
    const { findings } = await verifyAuditChain(control, head);
    expect(findings).toMatchObject([
      { sequence: 5, problem: expect.stringContaining('anew') as string },
    ]);
  });
});

describe('appendAudit', () => {
  test('keeps the chain whole under transactions at once, long and undone ones too', async () => {
    await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        control
          .transaction(async (trx) => {
            await appendAudit(trx, { ...record, action: `at once ${index}` });
            // Its row's id was drawn long before the others' by the time it commits.
            await trx.raw('SELECT pg_sleep(?)', [(index % 4) / 50]);
            if (index % 5 === 0) throw new Error('undone');
            if (index % 7 === 0) await appendAudit(trx, { ...record, action: `second ${index}` });
          })
          .catch((error: unknown) => {
            if (!(error instanceof Error && error.message === 'undone')) throw error;
          }),
      ),
    );
    const report = await verifyAuditChain(control);
    expect(report).toMatchObject({ checked: 5 + 32 + 4, findings: [] });
  });

  test('a transaction that goes on holds nobody up', async () => {
    const open = await control.transaction();
    await appendAudit(open, record);
    await appendAudit(control, { ...record, action: 'meanwhile' });
    await open.rollback();
    expect(await verifyAuditChain(control)).toMatchObject({ checked: 6, findings: [] });
  });

  test.each([
    ['UPDATE', `UPDATE control_plane.audit_log SET actor = 'x'`],
    ['DELETE', `DELETE FROM control_plane.audit_log`],
    ['TRUNCATE', `TRUNCATE control_plane.audit_log`],
  ])('refuses %s even to its owner', async (_what, statement) => {
    await expect(world.query(statement)).rejects.toThrow('the audit log is append-only');
  });
});

describe('pruneAudit', () => {
  const { details: _, ...by } = { ...record, action: 'pruneAudit' };

  async function age(count: number): Promise<void> {
    const { rows } = await control.raw<{ rows: { id: number }[] }>(
      'SELECT audit_id AS id FROM control_plane.audit_chain ORDER BY sequence LIMIT ?',
      [count],
    );
    // Written ten days ago, so that its hash is of then.
    await cheat(
      'TRUNCATE control_plane.audit_log, control_plane.audit_chain',
      `UPDATE control_plane.audit_head SET sequence = 0, hash = decode(repeat('00', 32), 'hex')`,
    );
    for (const _row of rows) {
      await world.query(
        `INSERT INTO control_plane.audit_log (at, actor, partner, action, outcome)
         VALUES (now() - interval '10 days', 'x', 'p', 'old', 'SUCCEEDED')`,
      );
    }
    await appendAudit(control, { ...record, action: 'young' });
  }

  test('removes what is old, and what is left can still be verified', async () => {
    await age(4);
    expect(await pruneAudit(control, 30, by)).toBe(0);
    expect(await pruneAudit(control, 5, by)).toBe(4);
    const report = await verifyAuditChain(control);
    expect(report).toMatchObject({
      checked: 2,
      findings: [],
      anchor: { sequence: 4 },
      head: { sequence: 6 },
    });
    const rows = await world.query(
      'SELECT action, details FROM control_plane.audit_log ORDER BY id',
    );
    expect(rows).toMatchObject([
      { action: 'young' },
      { action: 'pruneAudit', details: { through: 4, rows: 4 } },
    ]);
  });

  test('what is removed beyond the anchor still shows', async () => {
    await age(3);
    await pruneAudit(control, 5, by);
    const [young] = await entries();
    await cheat(
      `DELETE FROM control_plane.audit_log WHERE id = ${young}`,
      `DELETE FROM control_plane.audit_chain WHERE audit_id = ${young}`,
    );
    expect(await problems()).toEqual(['entry 4 is removed']);
  });
});

describe('npm run verify-audit', () => {
  const run = (...args: string[]) => runCli('verify-audit', env(), args);
  const env = () => ({
    DATABASE_URL: world.controlUrl,
    ENCRYPTION_KEY: world.encryptionKey,
    AUTH_MODE: 'open',
  });

  test('says that all is well, and where the chain ends', async () => {
    const { code, stdout, stderr } = await run();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^The audit log is intact: 5 entries\.\nHead: 5:[0-9a-f]{64}\n$/);
    const head = stdout.trim().split(' ').at(-1)!;
    expect((await run(head)).code).toBe(0);
    expect((await run(`5:${'0'.repeat(64)}`)).code).toBe(1);
  });

  test('names what was changed, and fails', async () => {
    const [first] = await entries();
    await cheat(`UPDATE control_plane.audit_log SET actor = 'x' WHERE id = ${first}`);
    const { code, stderr } = await run();
    expect(code).toBe(1);
    expect(stderr).toContain(`entry 1 (row ${first}) was changed\n`);
  });

  test('npm run prune-audit keeps everything unless told otherwise', async () => {
    const kept = await runCli('prune-audit', env());
    expect(kept).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('everything is kept') as string,
    });
    const pruned = await runCli('prune-audit', { ...env(), AUDIT_RETENTION_DAYS: '1' });
    expect(pruned.stdout).toBe('0 entries were older than 1 days and are removed.\n');
  });
});
