import type { IncomingMessage } from 'node:http';

/** The longest body that any request may have, bytes. */
export const maxBodyBytes = 1024 * 1024;

/** Reads a whole body; null when it is longer than allowed, as soon as that is known. */
export async function readWholeBody(request: IncomingMessage): Promise<Buffer | null> {
  if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) return null;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBodyBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
