/**
 * The subscribers of `bench/subscribers.ts`, in a process of their own. Some share WebSockets
 * (`graphql-transport-ws`), the others read `GET /api/batches/{id}/events`. They look for the sequence
 * of each event alone, in the bytes as the kernel hands them over: what clients do with the rest is not
 * what is measured, and a thousand of them share the machine with what is.
 */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';

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
/** By sequence. */
let counts: number[] = [];
let lastAt: number[] = [];
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
  counts = [];
  lastAt = [];
  ended = 0;
  wanted = sockets * perSocket + streams;
  await Promise.all([
    ...Array.from({ length: sockets }, () => openSocket(url, batchId, perSocket)),
    ...Array.from({ length: streams }, () => openStream(url, batchId)),
  ]);
}

function arrived(sequence: number, at: number): void {
  counts[sequence] = (counts[sequence] ?? 0) + 1;
  lastAt[sequence] = at;
}

function over(): void {
  ended += 1;
  if (ended < wanted) return;
  const deliveries: Record<string, Deliveries[string]> = {};
  counts.forEach((count, sequence) => {
    deliveries[sequence] = { count, lastAt: lastAt[sequence] ?? NaN };
  });
  process.send?.(deliveries);
}

const now = (): number => performance.timeOrigin + performance.now();

/** All sockets read into it in turn: what is not looked at at once is copied. */
const shared = Buffer.allocUnsafe(512 * 1024);

/** A socket that hands over its bytes as they come, without the streams in between. */
function openBytes(url: string, onBytes: (bytes: Buffer) => void): Socket {
  const { hostname, port } = new URL(url);
  return connect({
    host: hostname,
    port: Number(port),
    onread: {
      buffer: shared,
      callback: (length) => {
        onBytes(shared.subarray(0, length));
        return true;
      },
    },
  });
}

/**
 * Looks for a mark in bytes as they come. What they end in the middle of is looked at with the next ones.
 *
 * @param found told where a mark ends; answers where to go on, or with null: it needs to see more
 */
function seeker(
  mark: string,
  found: (all: Buffer, to: number) => number | null,
): (bytes: Buffer) => void {
  const looked = Buffer.from(mark);
  let rest = Buffer.alloc(0);
  return (bytes) => {
    const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    let done = 0;
    for (let at = all.indexOf(looked); at >= 0; at = all.indexOf(looked, done)) {
      const next = found(all, at + looked.length);
      if (next === null) {
        rest = Buffer.from(all.subarray(at));
        return;
      }
      done = next;
    }
    rest = Buffer.from(all.subarray(beginningOf(looked, all, done)));
  };
}

/** Counts events: each has one `mark`, with the digits of its sequence number behind it. */
function counter(mark: string): (bytes: Buffer) => void {
  let at = 0;
  const seek = seeker(mark, (all, from) => {
    let to = from;
    let sequence = 0;
    for (let digit = digitAt(all, to); digit >= 0; digit = digitAt(all, to)) {
      sequence = sequence * 10 + digit;
      to += 1;
    }
    if (to === all.length) return null; // there may be more digits
    arrived(sequence, at);
    return to;
  });
  return (bytes) => {
    at = now();
    seek(bytes);
  };
}

/** Negative: it is none. */
function digitAt(bytes: Buffer, place: number): number {
  const byte = bytes[place] ?? 0;
  return byte >= 48 && byte <= 57 ? byte - 48 : -1;
}

/** Where the end of the bytes may be the beginning of the mark; behind the end: nowhere. */
function beginningOf(mark: Buffer, bytes: Buffer, from: number): number {
  const first = Math.max(from, bytes.length - mark.length + 1);
  for (let place = first; place < bytes.length; place += 1) {
    if (mark.subarray(0, bytes.length - place).equals(bytes.subarray(place))) return place;
  }
  return bytes.length;
}

/** How often `mark` has come, over all bytes so far. */
function occurrences(mark: string): (bytes: Buffer) => number {
  let count = 0;
  const seek = seeker(mark, (_, to) => {
    count += 1;
    return to;
  });
  return (bytes) => {
    seek(bytes);
    return count;
  };
}

/** A frame of a client; masked, as it has to be, by zeros. */
function frame(message: object): Buffer {
  const payload = Buffer.from(JSON.stringify(message));
  const header = Buffer.from([0x81, 0xfe, 0, 0, 0, 0, 0, 0]);
  header.writeUInt16BE(payload.length, 2);
  return Buffer.concat([header, payload]);
}

async function openSocket(url: string, batchId: string, count: number): Promise<void> {
  const ready = Promise.withResolvers<undefined>();
  const read = counter('"sequence":');
  const completions = occurrences('"type":"complete"');
  const upgraded = occurrences('\r\n\r\n');
  const acknowledged = occurrences('"type":"connection_ack"');
  const ponged = occurrences('"type":"pong"');
  let state: 'ASKED' | 'UPGRADED' | 'SUBSCRIBED' | 'READY' = 'ASKED';
  let completed = 0;
  const socket = openBytes(url, (bytes) => {
    read(bytes);
    if (state === 'ASKED' && upgraded(bytes) > 0) {
      state = 'UPGRADED';
      socket.write(frame({ type: 'connection_init' }));
    } else if (state === 'UPGRADED' && acknowledged(bytes) > 0) {
      state = 'SUBSCRIBED';
      for (let id = 1; id <= count; id += 1) {
        const payload = { query, variables: { batchId } };
        socket.write(frame({ id: String(id), type: 'subscribe', payload }));
      }
      socket.write(frame({ type: 'ping' }));
    } else if (state === 'SUBSCRIBED' && ponged(bytes) > 0) {
      state = 'READY';
      ready.resolve(undefined);
    }
    for (const all = completions(bytes); completed < all; completed += 1) over();
    if (completed === count) socket.destroy();
  });
  socket.on('error', ready.reject);
  socket.write(
    [
      'GET /graphql HTTP/1.1',
      `Host: ${new URL(url).host}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Protocol: graphql-transport-ws',
      '\r\n',
    ].join('\r\n'),
  );
  await ready.promise;
}

async function openStream(url: string, batchId: string): Promise<void> {
  const ready = Promise.withResolvers<undefined>();
  const read = counter('\nid: ');
  const began = occurrences('\r\n\r\n');
  let opened = false;
  const socket = openBytes(url, (bytes) => {
    read(bytes);
    if (opened || began(bytes) === 0) return;
    opened = true;
    const status = bytes.subarray(0, 12).toString('latin1');
    if (status === 'HTTP/1.1 200') ready.resolve(undefined);
    else ready.reject(new Error(`a stream was refused with ${status}`));
  });
  socket.on('error', ready.reject);
  socket.on('end', over);
  socket.write(
    [
      `GET /api/batches/${batchId}/events HTTP/1.1`,
      `Host: ${new URL(url).host}`,
      'Connection: close',
      '\r\n',
    ].join('\r\n'),
  );
  await ready.promise;
}
