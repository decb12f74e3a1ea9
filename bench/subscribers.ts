/**
 * 1,000 subscribers to one batch of 50 schemas: how long it takes from the commit of an event to the
 * last of them, and what each of them costs the gateway in memory. Gateway and subscribers are processes
 * of their own. Half of the subscribers share 25 WebSockets, half read server-sent events over REST.
 *
 * The batch is held back until all have subscribed. When an event was committed is what PostgreSQL says
 * (`track_commit_timestamp`), by the same clock.
 *
 * `npm run bench:subscribers -- --rounds 6`
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { median, publish, round } from './figures.ts';
import type { Memory } from './gateway-process.ts';
import { child, ended, messageFrom, openBenchServer, postGraphQL } from './server.ts';
import type { Deliveries, Load } from './subscribers-client.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '6' } } });
const rounds = Math.min(20, Math.max(1, Number(values.rounds)));
const load = { sockets: 25, perSocket: 20, streams: 500 };
const subscribers = load.sockets * load.perSocket + load.streams;
const goals = { p99Ms: 150, bytesEach: 50 * 1024 };
const size = 50;
const roundTimeoutMs = 120_000;

interface Round {
  /** From each event's commit to its last delivery, milliseconds. */
  readonly latenesses: readonly number[];
  readonly batchSeconds: number;
  /** Of each subscriber, bytes. */
  readonly heapEach: number;
  readonly residentEach: number;
}

const createBatch = `mutation ($tenants: [CreateTenantInput!]!) {
  createTenantsBatch(input: { tenants: $tenants, wait: false }) {
    batch { id } userErrors { message }
  }
}`;

const server = await openBenchServer(['track_commit_timestamp=on']);
try {
  const settings = await server.settingsFor('subscribers');
  const measured: Round[] = [];
  for (let turn = -1; turn < rounds; turn += 1) {
    const one = await oneRound(settings);
    if (turn >= 0) measured.push(one); // the first one warms up the server
  }
  await report(measured);
} finally {
  await server.close();
}

/** What came of one batch that all watch. */
interface Watched {
  readonly batchId: string;
  readonly deliveries: Deliveries;
  readonly seconds: number;
  /** What the gateway held before and after they subscribed. */
  readonly before: Memory;
  readonly after: Memory;
}

async function oneRound(settings: Readonly<Record<string, string>>): Promise<Round> {
  const gateway = child('./gateway-process.ts', settings, ['--expose-gc']);
  const clients = child('./subscribers-client.ts', {}, []);
  const control = new pg.Client(server.url('subscribers'));
  control.on('error', () => undefined); // told by the query under way
  const late = AbortSignal.timeout(roundTimeoutMs);
  try {
    const url = await messageFrom<string>(gateway, late);
    await control.connect();
    await warmUp(url);
    // How late events are is not measured where they are sent to as many for the first time. Memory is:
    // what was taken once is not given back.
    const first = await watchedBy({ gateway, clients }, control, url, late);
    const second = await watchedBy({ gateway, clients }, control, url, late);
    return {
      latenesses: await latenesses(control, second.batchId, second.deliveries),
      batchSeconds: second.seconds,
      heapEach: (first.after.heap - first.before.heap) / subscribers,
      residentEach: (first.after.resident - first.before.resident) / subscribers,
    };
  } finally {
    await control.end();
    clients.kill();
    await ended(gateway);
  }
}

/** Has all of them subscribe to a batch, and lets it begin. */
async function watchedBy(
  { gateway, clients }: Readonly<Record<'gateway' | 'clients', ChildProcess>>,
  control: pg.Client,
  url: string,
  late: AbortSignal,
): Promise<Watched> {
  // What whoever begins items takes: none begin before it is given back.
  await control.query('SELECT pg_advisory_lock(7311, 2)');
  const batchId = await acceptBatch(url);
  const before = await memoryOf(gateway, late);
  clients.send({ url, batchId, ...load } satisfies Load);
  await messageFrom<'opened'>(clients, late);
  await sleep(1_000); // the last of them have got as far as waiting
  const after = await memoryOf(gateway, late);
  const begun = performance.now();
  await control.query('SELECT pg_advisory_unlock(7311, 2)');
  const deliveries = await messageFrom<Deliveries>(clients, late);
  const seconds = (performance.now() - begun) / 1000;
  return { batchId, deliveries, seconds, before, after };
}

/** Every event has to have come to every subscriber. */
async function latenesses(
  control: pg.Client,
  batchId: string,
  deliveries: Deliveries,
): Promise<number[]> {
  const { rows } = await control.query<{ sequence: string; at: string }>(
    `SELECT sequence, extract(epoch FROM pg_xact_commit_timestamp(xid::text::xid)) * 1000 AS at
     FROM control_plane.operation_events WHERE batch_id = $1 ORDER BY sequence`,
    [batchId],
  );
  return rows.map(({ sequence, at }) => {
    const event = deliveries[sequence];
    if (event?.count !== subscribers) {
      throw new Error(`event ${sequence} came ${event?.count ?? 0} times`);
    }
    return event.lastAt - Number(at);
  });
}

async function acceptBatch(url: string): Promise<string> {
  const tenants = Array.from({ length: size }, () => ({ name: 'watched', isolation: 'SCHEMA' }));
  const text = await postGraphQL(url, createBatch, { tenants });
  const id = /"batch":\{"id":"([^"]+)"/.exec(text)?.[1];
  if (id === undefined) throw new Error(`the batch was not accepted: ${text}`);
  return id;
}

/** A batch and its story: what runs for the first time is not what is measured. */
async function warmUp(url: string): Promise<void> {
  const response = await fetch(`${url}/api/batches/${await acceptBatch(url)}/events`);
  await response.text();
}

async function memoryOf(gateway: ChildProcess, signal: AbortSignal): Promise<Memory> {
  gateway.send('memory');
  return messageFrom<Memory>(gateway, signal);
}

async function report(measured: readonly Round[]): Promise<void> {
  const all = measured.flatMap((one) => one.latenesses).toSorted((a, b) => a - b);
  const at = (share: number): number => round(all[Math.ceil(all.length * share) - 1] ?? NaN);
  const result = {
    subscribers,
    events: all.length,
    rounds: measured.length,
    batchSeconds: round(median(measured.map((one) => one.batchSeconds))),
    lateness: { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) },
    p99MsOfRounds: measured.map((one) => {
      const own = one.latenesses.toSorted((a, b) => a - b);
      return round(own[Math.ceil(own.length * 0.99) - 1] ?? NaN);
    }),
    heapKbEach: round(median(measured.map((one) => one.heapEach)) / 1024),
    residentKbEach: round(median(measured.map((one) => one.residentEach)) / 1024),
  };
  const { heapKbEach, lateness, residentKbEach } = result;
  const table = [
    '| measure | value | goal |',
    '| --- | --- | --- |',
    `| ${subscribers} subscribers: commit of an event to its last delivery, p99 | ${lateness.p99Ms} ms (rounds: ${result.p99MsOfRounds.join(', ')}) | < ${goals.p99Ms} ms |`,
    `| the same, p50 | ${lateness.p50Ms} ms | |`,
    `| memory of the gateway for each subscriber, resident | ${residentKbEach} KB | < ${goals.bytesEach / 1024} KB |`,
    `| the same, heap and buffers | ${heapKbEach} KB | |`,
    `| the batch of ${size} schemas took | ${result.batchSeconds} s | |`,
    '',
  ].join('\n');
  await publish('subscribers', result, table);
  const reached = lateness.p99Ms < goals.p99Ms && residentKbEach * 1024 < goals.bytesEach;
  if (!reached) process.exitCode = 1;
}
