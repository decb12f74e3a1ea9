/**
 * `createTenant` over HTTP against a bare `CREATE DATABASE … TEMPLATE` on the same embedded server,
 * interleaved in one run, with a CHECKPOINT before every 15 pairs: machines differ and servers slow
 * down as their buffers fill, so only the ratio of the medians says something.
 *
 * `npm run bench -- --pairs 60`
 */
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import pino from 'pino';
import { startApp } from '../src/app.ts';
import { readConfig } from '../src/config.ts';
import { startEmbedded } from '../src/postgres/embedded/server.ts';
import { generateEncryptionKey } from '../src/crypto/envelope.ts';

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '45' } } });
const pairs = Math.min(500, Math.max(15, Number(values.pairs)));
const goal = 2.5;
const warmUp = 3;

const dataDir = await mkdtemp(join(tmpdir(), 'tenantry-bench-'));
const server = await startEmbedded({ dataDir });
const client = new pg.Client(server.url);
try {
  await client.connect();
  const app = await startApp(
    readConfig(
      {
        DATABASE_URL: server.url,
        ENCRYPTION_KEY: generateEncryptionKey(),
        AUTH_MODE: 'open',
        PORT: '0',
        RATE_LIMIT_CREATIONS_PER_MINUTE: '0',
      },
      false,
    ),
    { log: pino({ level: 'silent' }) },
  );
  try {
    await report(await measure(app.url));
  } finally {
    await app.close();
  }
} finally {
  await client.end();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
}

async function measure(url: string): Promise<{ create: number[]; bare: number[] }> {
  const { rows } = await client.query<{ datname: string }>(
    "SELECT datname FROM pg_database WHERE datname LIKE 'tpl\\_%'",
  );
  const template = rows[0]?.datname ?? '';
  const create: number[] = [];
  const bare: number[] = [];
  for (let pair = 0; pair < pairs + warmUp; pair += 1) {
    if (pair % 15 === 0) await client.query('CHECKPOINT');
    const measured = {
      create: await timed(() => createTenant(url, pair)),
      bare: await timed(() =>
        client.query(`CREATE DATABASE bench_${pair} TEMPLATE "${template}" STRATEGY WAL_LOG`),
      ),
    };
    if (pair < warmUp) continue;
    create.push(measured.create);
    bare.push(measured.bare);
  }
  return { create, bare };
}

async function createTenant(url: string, index: number): Promise<void> {
  const query = `mutation { createTenant(input: { name: "bench ${index}" }) {
    tenant { id status } apiKey userErrors { message } } }`;
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  const text = await response.text();
  if (!text.includes('"ACTIVE"')) throw new Error(`createTenant failed: ${text}`);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
}

async function report({ create, bare }: { create: number[]; bare: number[] }): Promise<void> {
  const result = {
    measure: 'createTenant over HTTP, DATABASE isolation, no standby, p50',
    floor: 'bare CREATE DATABASE … TEMPLATE, p50',
    pairs: create.length,
    createMs: round(median(create)),
    floorMs: round(median(bare)),
    ratio: round(median(create) / median(bare)),
    goal,
  };
  const folder = new URL('results/', import.meta.url);
  await mkdir(folder, { recursive: true });
  await writeFile(new URL('create-tenant.json', folder), `${JSON.stringify(result, null, 2)}\n`);
  const table = `| measure | p50 | floor p50 | ratio | goal |
| --- | --- | --- | --- | --- |
| ${result.measure} | ${result.createMs} ms | ${result.floorMs} ms | ${result.ratio} | ≤ ${goal} |
`;
  await writeFile(new URL('create-tenant.md', folder), table);
  console.log(table);
  if (result.ratio > goal) process.exitCode = 1;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
