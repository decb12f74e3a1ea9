/**
 * The subscribers of `bench/subscribers.ts`, in a process of their own. Some share WebSockets
 * (`graphql-transport-ws`), the others read `GET /api/batches/{id}/events`. They look for the sequence
 * of each event alone, in the bytes as they come: what clients do with the rest is not what is measured,
 * and they share the machine with what is.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

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
let deliveries: Record<string, { count: number; lastAt: number }> = {};
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
  deliveries = {};
  ended = 0;
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

/**
 * Counts what comes: each event has one `mark`, with the digits of its sequence number behind it. What a
 * chunk ends in the middle of is looked at with the next one.
 */
function counter(mark: string): (chunk: Buffer) => string {
  let rest = '';
  return (chunk) => {
    const at = now();
    const text = rest + chunk.toString('latin1');
    let done = 0;
    for (;;) {
      const found = text.indexOf(mark, done);
      if (found < 0) break;
      const from = found + mark.length;
      let to = from;
      while (to < text.length && isDigit(text.charCodeAt(to))) to += 1;
      if (to === text.length) {
        rest = text.slice(found);
        return text;
      }
      arrived(text.slice(from, to), at);
      done = to;
    }
    rest = text.slice(Math.max(done, text.length - longestMark + 1));
    return text;
  };
}

const completion = '"type":"complete"';
const longestMark = completion.length;

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57;
}

/** A frame of a client; masked, as it has to be, by zeros. */
function frame(message: object): Buffer {
  const payload = Buffer.from(JSON.stringify(message));
  const header = Buffer.from([0x81, 0xfe, 0, 0, 0, 0, 0, 0]);
  header.writeUInt16BE(payload.length, 2);
  return Buffer.concat([header, payload]);
}

async function openSocket(url: string, batchId: string, count: number): Promise<void> {
  const sent = request(`${url}/graphql`, {
    headers: {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Protocol': 'graphql-transport-ws',
    },
  });
  sent.end();
  const [, socket] = (await once(sent, 'upgrade')) as [IncomingMessage, Socket];
  const ready = Promise.withResolvers<undefined>();
  const read = counter('"sequence":');
  let completed = 0;
  socket.on('error', ready.reject);
  socket.on('data', (chunk: Buffer) => {
    const text = read(chunk);
    if (text.includes('"type":"connection_ack"')) subscribe();
    if (text.includes('"type":"pong"')) ready.resolve(undefined);
    for (let at = text.indexOf(completion); at >= 0; at = text.indexOf(completion, at + 1)) {
      completed += 1;
      over();
    }
    if (completed === count) socket.destroy();
  });
  function subscribe(): void {
    for (let id = 1; id <= count; id += 1) {
      const payload = { query, variables: { batchId } };
      socket.write(frame({ id: String(id), type: 'subscribe', payload }));
    }
    socket.write(frame({ type: 'ping' }));
  }
  socket.write(frame({ type: 'connection_init' }));
  await ready.promise;
}

function openStream(url: string, batchId: string, agent: Agent): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const sent = request(`${url}/api/batches/${batchId}/events`, { agent }, (response) => {
    if (response.statusCode !== 200) {
      reject(new Error(`a stream was refused with ${String(response.statusCode)}`));
      return;
    }
    const count = counter('\nid: ');
    response.on('data', (chunk: Buffer) => {
      count(chunk);
      resolve(undefined);
    });
    response.on('end', over);
  });
  sent.on('error', reject);
  sent.end();
  return promise;
}
