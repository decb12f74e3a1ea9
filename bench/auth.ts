/**
 * What it costs to know who asks: `{ viewer { subject } }` with a token against `{ __typename }` of the
 * local operator, from two gateways in one process on one control plane, in short rounds that take turns:
 * machines differ, so only the ratio of the medians says something.
 *
 * `npm run bench:auth -- --rounds 20`
 */
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pino from 'pino';
import { startApp } from '../src/app.ts';
import { readConfig } from '../src/config.ts';
import { generateEncryptionKey } from '../src/crypto/envelope.ts';
import { signToken } from '../src/crypto/tokens.ts';
import { startEmbedded } from '../src/postgres/embedded/server.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' } } });
const rounds = Math.min(100, Math.max(5, Number(values.rounds)));
const warmUp = 3;
const roundMs = 300;
const connections = 8;
const goal = 0.7;
const parties = { issuer: 'bench', audience: 'bench' };
const secret = 'a secret for this run, of 32 bytes or more';

interface Load {
  readonly url: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What every answer has to hold. */
  readonly answer: string;
}

const dataDir = await mkdtemp(join(tmpdir(), 'tenantry-bench-'));
const server = await startEmbedded({ dataDir });
const agent = new Agent({ keepAlive: true, maxSockets: connections });
try {
  const common = {
    DATABASE_URL: server.url,
    ENCRYPTION_KEY: generateEncryptionKey(),
    PORT: '0',
    DATA_DIR: dataDir,
    STANDBY_DATABASES: '0',
    STANDBY_SCHEMAS: '0',
  };
  const options = { log: pino({ level: 'silent' }) };
  const jwt = {
    AUTH_MODE: 'jwt',
    JWT_SECRET: secret,
    JWT_ISSUER: parties.issuer,
    JWT_AUDIENCE: parties.audience,
  };
  const open = await startApp(readConfig({ ...common, AUTH_MODE: 'open' }, false), options);
  const closed = await startApp(readConfig({ ...common, ...jwt }, false), options);
  try {
    await report(
      await measure(
        { url: open.url, body: '{ __typename }', headers: {}, answer: '"Query"' },
        {
          url: closed.url,
          body: '{ viewer { subject } }',
          headers: { Authorization: `Bearer ${await token()}` },
          answer: '"bench"',
        },
      ),
    );
  } finally {
    await closed.close();
    await open.close();
  }
} finally {
  agent.destroy();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
}

function token(): Promise<string> {
  const claims = { sub: 'bench', roles: ['partner-admin'], partner: 'bench' };
  return signToken(new TextEncoder().encode(secret), claims, { ...parties, lifetimeSeconds: 3600 });
}

async function measure(plain: Load, known: Load): Promise<{ plain: number[]; known: number[] }> {
  const result = { plain: [] as number[], known: [] as number[] };
  for (let round = 0; round < rounds + warmUp; round += 1) {
    const measured = { plain: await perSecond(plain), known: await perSecond(known) };
    if (round < warmUp) continue;
    result.plain.push(measured.plain);
    result.known.push(measured.known);
  }
  return result;
}

/** Requests a second, from as many clients as there are connections, each with one after the other. */
async function perSecond(load: Load): Promise<number> {
  const begun = performance.now();
  let count = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() - begun < roundMs) {
        await post(load);
        count += 1;
      }
    }),
  );
  return (count * 1000) / (performance.now() - begun);
}

function post({ url, body, headers, answer }: Load): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/graphql`, {
      method: 'POST',
      agent,
      headers: { 'Content-Type': 'application/json', ...headers },
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => {
        if (text.includes(answer)) resolve();
        else reject(new Error(`an unexpected answer: ${text}`));
      });
    });
    sent.end(JSON.stringify({ query: body }));
  });
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

async function report({ plain, known }: { plain: number[]; known: number[] }): Promise<void> {
  const ratio = Math.round((median(known) / median(plain)) * 100) / 100;
  const result = {
    measure: '{ viewer { subject } } with a token, requests/s',
    floor: '{ __typename } in open mode, requests/s',
    rounds: known.length,
    viewerPerSecond: Math.round(median(known)),
    typenamePerSecond: Math.round(median(plain)),
    ratio,
    goal,
  };
  const folder = new URL('results/', import.meta.url);
  await mkdir(folder, { recursive: true });
  await writeFile(new URL('auth.json', folder), `${JSON.stringify(result, null, 2)}\n`);
  const table = `| measure | median | floor median | ratio | goal |
| --- | --- | --- | --- | --- |
| ${result.measure} | ${result.viewerPerSecond} | ${result.typenamePerSecond} | ${ratio} | ≥ ${goal} |
`;
  await writeFile(new URL('auth.md', folder), table);
  console.log(table);
  if (ratio < goal) process.exitCode = 1;
}
