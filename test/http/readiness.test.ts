import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Knex } from 'knex';
import { openControl } from '../../src/control/database.ts';
import { createKeyRing, generateEncryptionKey } from '../../src/crypto/envelope.ts';
import type { OperationQueue } from '../../src/jobs/operation-queue.ts';
import { openCluster, type Cluster } from '../../src/postgres/cluster.ts';
import { connectionOptions } from '../../src/postgres/connection.ts';
import { checkReadiness } from '../../src/provisioning/readiness.ts';
import { createWorld, type World } from '../harness.ts';

let world: World;
let control: Knex;
const clusters: Cluster[] = [];

beforeAll(async () => {
  world = await createWorld();
  const options = { applicationName: 'test', statementTimeoutMs: 5000 };
  const connection = connectionOptions(world.controlUrl, options);
  control = openControl({ connection, poolMax: 2, poolTimeoutMs: 5000 });
});
afterAll(async () => {
  await control.destroy();
  for (const cluster of clusters) await cluster.close();
  await world.close();
});

function clusterAt(name: string, url: string): Cluster {
  const cluster = openCluster({
    name,
    url,
    connectionsMax: 3,
    waitTimeoutMs: 5000,
    statementTimeoutMs: 5000,
  });
  clusters.push(cluster);
  return cluster;
}

const key = generateEncryptionKey();
const working = { ping: () => Promise.resolve() } as OperationQueue;
const gone = { ping: () => Promise.reject(new Error('gone')) } as unknown as OperationQueue;

describe('GET /readyz: what it checks', () => {
  test('a lost cluster is degraded, and the others go on', async () => {
    const lost = new URL(world.controlUrl);
    lost.port = '1';
    const both = [clusterAt('eu-1', world.controlUrl), clusterAt('eu-2', lost.href)];
    const readiness = await checkReadiness({
      control,
      controlVersion: null,
      queue: working,
      keyRing: createKeyRing({ current: key }),
      clusters: new Map(both.map((cluster) => [cluster.name, cluster])),
    });
    expect(readiness.ready).toBe(true);
    expect(readiness.checks).toMatchObject({
      'cluster:eu-1': 'ok',
      'cluster:eu-2': 'degraded: does not work',
    });
    expect(JSON.stringify(readiness)).not.toMatch(/ECONNREFUSED|127\.0\.0\.1|postgres:/);
  });

  test('without its queue it is not ready', async () => {
    const readiness = await checkReadiness({
      control,
      controlVersion: null,
      queue: gone,
      keyRing: createKeyRing({ current: key }),
      clusters: new Map(),
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
      clusters: new Map(),
    });
    expect(readiness).toMatchObject({
      ready: false,
      checks: { controlPlane: 'ok', migrations: 'failed: does not work' },
    });
  });
});
