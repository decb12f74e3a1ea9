/**
 * What it costs to know who asks: `{ viewer { subject } }` with a token against `{ __typename }` of the
 * local operator, from two gateways in one process on one control plane, in short rounds that take turns:
 * machines differ, so only the ratio of the medians says something.
 *
 * `npm run bench:auth -- --rounds 20`
 */
import { Agent, request } from 'node:http';
import { parseArgs } from 'node:util';
import { signToken } from '../src/crypto/tokens.ts';
import { median, publish, round } from './figures.ts';
import { openBenchServer } from './server.ts';

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

const server = await openBenchServer();
const agent = new Agent({ keepAlive: true, maxSockets: connections });
try {
  const jwt = {
    AUTH_MODE: 'jwt',
    JWT_SECRET: secret,
    JWT_ISSUER: parties.issuer,
    JWT_AUDIENCE: parties.audience,
  };
  const known = { Authorization: `Bearer ${await token()}` };
  await report(
    await server.withGateway('auth', {}, (open) =>
      server.withGateway('auth', jwt, (closed) =>
        measure(
          { url: open, body: '{ __typename }', headers: {}, answer: '"Query"' },
          { url: closed, body: '{ viewer { subject } }', headers: known, answer: '"bench"' },
        ),
      ),
    ),
  );
} finally {
  agent.destroy();
  await server.close();
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

async function report({ plain, known }: { plain: number[]; known: number[] }): Promise<void> {
  const ratio = round(median(known) / median(plain));
  const result = {
    measure: '{ viewer { subject } } with a token, requests/s',
    floor: '{ __typename } in open mode, requests/s',
    rounds: known.length,
    viewerPerSecond: Math.round(median(known)),
    typenamePerSecond: Math.round(median(plain)),
    ratio,
    goal,
  };
  const table = `| measure | median | floor median | ratio | goal |
| --- | --- | --- | --- | --- |
| ${result.measure} | ${result.viewerPerSecond} | ${result.typenamePerSecond} | ${ratio} | ≥ ${goal} |
`;
  await publish('auth', result, table);
  if (ratio < goal) process.exitCode = 1;
}
