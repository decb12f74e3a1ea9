import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Knex } from 'knex';
import { openControl } from '../../src/control/database.ts';
import { createKeyRing, generateEncryptionKey } from '../../src/crypto/envelope.ts';
import type { OperationQueue } from '../../src/jobs/operation-queue.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import type { ClusterState } from '../../src/provisioning/cluster-watch.ts';
import { checkReadiness } from '../../src/provisioning/readiness.ts';
import { createWorld, type World } from '../harness.ts';

let world: World;
let control: Knex;

beforeAll(async () => {
  world = await createWorld();
  const options = { applicationName: 'test', statementTimeoutMs: 5000 };
  const connection = connectionOptions(world.controlUrl, options);
  control = openControl({ connection, poolMax: 2, poolTimeoutMs: 5000 });
});
afterAll(async () => {
  await control.destroy();
  await world.close();
});

const key = generateEncryptionKey();
const working = { ping: () => Promise.resolve() } as OperationQueue;
const gone = { ping: () => Promise.reject(new Error('gone')) } as unknown as OperationQueue;

const watch = { states: () => new Map<string, ClusterState>() };

describe('GET /readyz: what it checks', () => {
  test.each([
    ['UP', 'ok'],
    ['DOWN', 'degraded: down'],
    ['BUSY', 'degraded: no connection is free'],
    ['STARTING', 'degraded: down'],
  ] as const)('a cluster that is %s: %s, and it is ready', async (state, shown) => {
    const states = new Map<string, ClusterState>([
      ['eu-1', 'UP'],
      ['eu-2', state],
    ]);
    const readiness = await checkReadiness({
      control,
      controlVersion: null,
      queue: working,
      keyRing: createKeyRing({ current: key }),
      watch: { states: () => states },
    });
    expect(readiness.ready).toBe(true);
    expect(readiness.checks).toMatchObject({ 'cluster:eu-1': 'ok', 'cluster:eu-2': shown });
  });

  test('without its queue it is not ready', async () => {
    const readiness = await checkReadiness({
      control,
      controlVersion: null,
      queue: gone,
      keyRing: createKeyRing({ current: key }),
      watch,
    });
    expect(readiness).toMatchObject({
      ready: false,
      checks: { controlPlane: 'ok', queue: 'failed: does not work', encryptionKey: 'ok' },
    });
  });

  test('without its newest migration it is not ready', async () => {
    const readiness = await checkReadiness({
      control,
      controlVersion: '29991231235959_not_there',
      queue: working,
      keyRing: createKeyRing({ current: key }),
      watch,
    });
    expect(readiness).toMatchObject({
      ready: false,
      checks: { controlPlane: 'ok', migrations: 'failed: does not work' },
    });
  });
});
