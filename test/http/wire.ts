import { request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http';

/** What `fetch` does not let one send. */
export interface WireRequest {
  readonly method?: string;
  readonly path: string;
  /** `Host` among them replaces the right one. */
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array;
  /** Without a Content-Length, in pieces. */
  readonly chunked?: boolean;
}

export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Parsed; undefined when the answer is no JSON. */
  readonly json: unknown;
}

const pieceBytes = 64 * 1024;

/** One request on a connection of its own; all of the body is sent before the answer is read. */
export function exchange(url: string, wire: WireRequest): Promise<WireAnswer> {
  const { method = 'GET', path, headers = {}, body = '', chunked = false } = wire;
  const bytes = Buffer.from(body);
  const { hostname, port } = new URL(url);
  const length = bytes.length === 0 || chunked ? {} : { 'Content-Length': bytes.length };
  return new Promise((resolve, reject) => {
    const sent = request({
      host: hostname,
      port,
      method,
      path,
      headers: { ...length, ...headers },
      setHost: !Object.keys(headers).some((name) => name.toLowerCase() === 'host'),
      agent: false,
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString();
        const { statusCode = 0, headers: received } = response;
        resolve({ status: statusCode, headers: received, text, json: parsed(text) });
      });
    });
    for (let start = 0; start < bytes.length; start += pieceBytes) {
      sent.write(bytes.subarray(start, start + pieceBytes));
    }
    sent.end();
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
