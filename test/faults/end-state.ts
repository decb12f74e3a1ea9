/**
 * What has to hold after every fault, asked of the registry and of the server with SQL of its own: not by
 * the code that is tested.
 */
import pg from 'pg';
import { createKeyRing } from '../../src/crypto/envelope.ts';
import { withDatabase } from '../control-template.ts';
import { expectOrderly, type EventRow } from '../provisioning/traces.ts';

export interface EndStateOptions {
  readonly controlUrl: string;
  /** Of the cluster's superuser. */
  readonly serverUrl: string;
  readonly sharedDatabase: string;
  readonly encryptionKey: string;
}

/** What is asked of the control plane and, where both are on one server, of the cluster as well. */
const questions: Readonly<Record<string, string>> = {
  'an operation without an end': `SELECT id::text || ' ' || status FROM control_plane.operations
    WHERE finished_at IS NULL`,
  'a batch without an end': `SELECT id::text FROM control_plane.batches WHERE finished_at IS NULL`,
  'a leftover job': `SELECT id::text || ' ' || state::text FROM control_plane_jobs.job
    WHERE name = 'operations' AND state < 'completed'`,
  'a tenant between made and undone': `SELECT t.id::text || ' ' || t.status || ' ' || d.status
    FROM control_plane.tenants t JOIN control_plane.tenant_databases d ON d.tenant_id = t.id
    WHERE (t.status, d.status) NOT IN (('ACTIVE', 'PROVISIONED'), ('FAILED', 'DROPPED'),
      ('DELETED', 'PROVISIONED'), ('SUSPENDED', 'PROVISIONED'))`,
  'an operation that says otherwise than its tenant': `SELECT o.id::text || ' ' || o.status
    FROM control_plane.operations o JOIN control_plane.tenants t ON t.id = o.tenant_id
    WHERE o.kind = 'CREATE' AND (o.status = 'SUCCEEDED') = (t.status = 'FAILED')`,
  'a secret of an operation that has ended': `SELECT id::text FROM control_plane.operations
    WHERE finished_at IS NOT NULL AND secrets_encrypted IS NOT NULL`,
  'an API key of nobody': `SELECT k.id::text FROM control_plane.api_keys k
    JOIN control_plane.tenants t ON t.id = k.tenant_id WHERE t.status = 'FAILED'`,
  'a standby or template half made': `SELECT 'standby ' || id FROM control_plane.standbys
    WHERE status <> 'READY' UNION ALL
    SELECT 'template ' || id FROM control_plane.templates WHERE status <> 'READY'`,
  'a database or role that belongs to nothing': `
    WITH live AS (
      SELECT tenant_id::text AS id, database_name, isolation, owner_role, login_role,
          'svc_' || replace(tenant_id::text, '-', '_') AS service_role
        FROM control_plane.tenant_databases WHERE status <> 'DROPPED'
      UNION ALL SELECT id::text, database_name, isolation, owner_role, login_role,
          'svc_' || replace(id::text, '-', '_')
        FROM control_plane.standbys
      UNION ALL SELECT id::text, database_name, 'DATABASE', owner_role, NULL,
          'tps_' || replace(id::text, '-', '_')
        FROM control_plane.templates
      UNION ALL SELECT id::text, database_name, 'DATABASE', group_role, NULL, NULL
        FROM control_plane.shared_databases),
    made AS (
      SELECT datname AS name, shobj_description(oid, 'pg_database') AS marker FROM pg_database
      UNION ALL SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles)
    SELECT name || ' ' || coalesce(marker, '(unmarked)') FROM made
    WHERE (marker LIKE 'tenantry:1:%' OR name ~ '^(car|own|usr|svc|tpl|tpo|tps|shd|dbtools_tenant|tenantry_tenants)_')
      AND (SELECT count(*) FROM live WHERE split_part(marker, ':', 4) = live.id
        AND (name IN (owner_role, login_role, service_role) OR isolation = 'DATABASE' AND name = database_name)) <> 1`,
  'something recorded that is not there': `
    WITH wanted AS (
      SELECT 'database' AS kind, database_name AS name FROM control_plane.tenant_databases
        WHERE status <> 'DROPPED'
      UNION SELECT 'role', unnest(ARRAY[owner_role, login_role, 'svc_' || replace(tenant_id::text, '-', '_')])
        FROM control_plane.tenant_databases WHERE status <> 'DROPPED'
      UNION SELECT 'database', database_name FROM control_plane.standbys
      UNION SELECT 'role', unnest(ARRAY[owner_role, login_role,
        'svc_' || replace(id::text, '-', '_')]) FROM control_plane.standbys
      UNION SELECT 'database', database_name FROM control_plane.templates
      UNION SELECT 'role', unnest(ARRAY[owner_role, 'tps_' || replace(id::text, '-', '_')])
        FROM control_plane.templates)
    SELECT kind || ' ' || name FROM wanted
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE kind = 'database' AND datname = name)
      AND NOT EXISTS (SELECT FROM pg_roles WHERE kind = 'role' AND rolname = name)`,
  'an interrupted drop': `SELECT datname::text FROM pg_database WHERE datconnlimit = -2`,
  'a database open to PUBLIC': `SELECT datname::text FROM pg_database,
      aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl
    WHERE acl.grantee = 0 AND datname <> 'template0'`,
  'a session of a tenant': `SELECT usename || ' in ' || datname FROM pg_stat_activity
    WHERE usename ~ '^(usr|svc|tps)_' OR datname ~ '^(car|dbtools_tenant|tpl|shd)_'
      AND backend_type = 'client backend'`,
  'an advisory lock': `SELECT l.pid::text || ' ' || a.application_name FROM pg_locks l
    JOIN pg_stat_activity a USING (pid)
    -- By one lock of its own, each instance that lives is known.
    WHERE l.locktype = 'advisory' AND a.application_name LIKE 'tenantry%'
      AND a.application_name NOT LIKE 'tenantry gateway%'`,
  'a transaction that stays open': `SELECT pid::text || ' ' || left(query, 60) FROM pg_stat_activity
    WHERE application_name LIKE 'tenantry%' AND state LIKE 'idle in transaction%'
      AND state_change < now() - interval '2 seconds'`,
};

const inShared = `
  SELECT nspname::text AS name, obj_description(n.oid, 'pg_namespace') AS marker,
    EXISTS (SELECT FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS acl
      WHERE acl.grantee = 0) AS open
  FROM pg_namespace n WHERE nspname NOT LIKE 'pg\\_%'
    AND nspname NOT IN ('information_schema', 'public')`;

/** Looks over one installation, again and again. */
export function createEndState(options: EndStateOptions) {
  const { controlUrl, encryptionKey, serverUrl, sharedDatabase } = options;
  const keyRing = createKeyRing({ current: encryptionKey });
  const seenTenants = new Set<string>();
  const seenOperations = new Set<string>();

  async function rows<T>(url: string, sql: string, values: unknown[] = []): Promise<T[]> {
    const client = new pg.Client({ connectionString: url, application_name: 'check' });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(sql, values)).rows as T[];
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async function problems(): Promise<string[]> {
    const found: string[] = [];
    for (const [what, sql] of Object.entries(questions)) {
      const answers = await rows<Record<string, string>>(controlUrl, sql);
      for (const answer of answers) found.push(`${what}: ${Object.values(answer).join()}`);
    }
    const [shared] = await rows(serverUrl, 'SELECT FROM pg_database WHERE datname = $1', [
      sharedDatabase,
    ]);
    const schemas =
      shared === undefined
        ? []
        : await rows<{ name: string; marker: string | null; open: boolean }>(
            withDatabase(serverUrl, sharedDatabase),
            inShared,
          );
    const recorded = await rows<{ name: string; id: string }>(
      controlUrl,
      `SELECT schema_name AS name, tenant_id::text AS id FROM control_plane.tenant_databases
       WHERE isolation = 'SCHEMA' AND status <> 'DROPPED'
       UNION ALL SELECT schema_name, id::text FROM control_plane.standbys WHERE isolation = 'SCHEMA'`,
    );
    for (const { name, marker, open } of schemas) {
      const owner = recorded.find((one) => one.name === name);
      if (owner === undefined || marker?.includes(owner.id) !== true) {
        found.push(`a schema that belongs to nothing: ${name} ${marker ?? '(unmarked)'}`);
      }
      if (open) found.push(`a schema open to PUBLIC: ${name}`);
    }
    const there = new Set(schemas.map(({ name }) => name));
    for (const { name } of recorded) {
      if (!there.has(name)) found.push(`something recorded that is not there: schema ${name}`);
    }
    if (found.length > 0) return found;
    return [...(await brokenLogins()), ...(await disorderlyEvents())];
  }

  /** Each stored connection string logs in, and finds the tables. */
  async function brokenLogins(): Promise<string[]> {
    const tenants = await rows<{ id: string; sealed: string }>(
      controlUrl,
      `SELECT tenant_id AS id, connection_string_encrypted AS sealed
       FROM control_plane.tenant_databases WHERE status = 'PROVISIONED'`,
    );
    const found: string[] = [];
    for (const { id, sealed } of tenants.filter((one) => !seenTenants.has(one.id))) {
      const url = keyRing.open(sealed, 'connection-string', id);
      const failed = await rows(url, 'SELECT count(*) FROM settings, activity_log').then(
        () => null,
        (error: unknown) => (error as Error).message,
      );
      if (failed === null) seenTenants.add(id);
      else found.push(`a stored connection string that does not work: ${id} ${failed}`);
    }
    return found;
  }

  async function disorderlyEvents(): Promise<string[]> {
    const events = await rows<EventRow & { id: string }>(
      controlUrl,
      `SELECT operation_id::text AS id, step, status, operation_status AS "operationStatus",
         percent, message FROM control_plane.operation_events
       WHERE NOT operation_id::text = ANY ($1) ORDER BY sequence`,
      [[...seenOperations]],
    );
    const operations = await rows<{ id: string }>(
      controlUrl,
      'SELECT id::text FROM control_plane.operations WHERE NOT id::text = ANY ($1)',
      [[...seenOperations]],
    );
    const byOperation = Map.groupBy(events, ({ id }) => id);
    const found: string[] = [];
    for (const { id } of operations) {
      try {
        expectOrderly(byOperation.get(id) ?? []);
        seenOperations.add(id);
      } catch (error) {
        found.push(
          `events out of order: ${id} ${(error as Error).message.split('\n', 1)[0] ?? ''}`,
        );
      }
    }
    return found;
  }

  return {
    rows: <T>(sql: string, values?: unknown[]) => rows<T>(controlUrl, sql, values),

    /** Waits until all is well, twice in a row; milliseconds it took, and what is wrong otherwise. */
    settle: async (timeoutMs: number): Promise<{ ms: number; left: readonly string[] }> => {
      const begun = performance.now();
      let left: string[];
      do {
        left = await problems().catch((error: unknown) => [`cannot look: ${String(error)}`]);
        const ms = performance.now() - begun;
        if (left.length === 0) return { ms, left };
        await new Promise((resolve) => setTimeout(resolve, 250));
      } while (performance.now() - begun < timeoutMs);
      return { ms: performance.now() - begun, left };
    },
  };
}
