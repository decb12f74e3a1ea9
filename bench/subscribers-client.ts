/**
 * The subscribers of `bench/subscribers.ts`, in a process of their own. Some share WebSockets
 * (`graphql-transport-ws`), the others read `GET /api/batches/{id}/events`. They look for the sequence
 * of each event alone: what clients do with the rest is not what is measured.
 */
import { Agent, request } from 'node:http';
import { WebSocket } from 'ws';

/** What is to be opened. */
export interface Load {
  readonly url: string;
  readonly batchId: string;
  readonly sockets: number;
  readonly perSocket: number;
  readonly streams: number;
}

/** What came of one event: how often, and when the last of them, in milliseconds since 1970. */
export type Deliveries = Record<string, { readonly count: number; readonly lastAt: number }>;

const query = `subscription ($batchId: ID!) {
  tenantProvisioningProgress(batchId: $batchId) {
    sequence operationId tenantId batchId step status percent message at operationStatus
    batch { total succeeded failed percent }
  }
}`;
const deliveries: Record<string, { count: number; lastAt: number }> = {};
let ended = 0;
let wanted = 0;

process.on('message', (load: Load) => {
  open(load).then(
    () => process.send?.('opened'),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});

async function open({ url, batchId, sockets, perSocket, streams }: Load): Promise<void> {
  wanted = sockets * perSocket + streams;
  const agent = new Agent({ maxSockets: Infinity });
  await Promise.all([
    ...Array.from({ length: sockets }, () => openSocket(url, batchId, perSocket)),
    ...Array.from({ length: streams }, () => openStream(url, batchId, agent)),
  ]);
}

function arrived(sequence: string, at: number): void {
  const event = (deliveries[sequence] ??= { count: 0, lastAt: 0 });
  event.count += 1;
  event.lastAt = at;
}

function over(): void {
  ended += 1;
  if (ended === wanted) process.send?.(deliveries);
}

const now = (): number => performance.timeOrigin + performance.now();

function openSocket(url: string, batchId: string, count: number): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const socket = new WebSocket(`${url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
  socket.on('error', reject);
  socket.on('open', () => {
    socket.send('{"type":"connection_init"}');
  });
  socket.on('message', (message: Buffer) => {
    const at = now();
    const text = message.toString('latin1');
    const type = /"type":"(\w+)"/.exec(text)?.[1];
    if (type === 'next') {
      const sequence = /"sequence":(\d+)/.exec(text)?.[1];
      if (sequence === undefined) throw new Error(text);
      arrived(sequence, at);
    } else if (type === 'connection_ack') {
      for (let id = 1; id <= count; id += 1) {
        const payload = { query, variables: { batchId } };
        socket.send(JSON.stringify({ id: String(id), type: 'subscribe', payload }));
      }
      socket.send('{"type":"ping"}');
    } else if (type === 'pong') resolve(undefined);
    else if (type === 'complete') over();
    else throw new Error(text);
  });
  return promise;
}

function openStream(url: string, batchId: string, agent: Agent): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const sent = request(`${url}/api/batches/${batchId}/events`, { agent }, (response) => {
    if (response.statusCode !== 200) {
      reject(new Error(`a stream was refused with ${String(response.statusCode)}`));
      return;
    }
    let rest = '';
    response.on('data', (chunk: Buffer) => {
      const at = now();
      resolve(undefined);
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith('id: ')) arrived(line.slice(4), at);
    });
    response.on('end', over);
  });
  sent.on('error', reject);
  sent.end();
  return promise;
}
