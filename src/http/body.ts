import type { IncomingMessage } from 'node:http';

/** The longest body that any request may have, bytes. */
export const maxBodyBytes = 1024 * 1024;

// Many clients send all of a body before they read the answer. To close on them with bytes still
// unread resets the connection, and they see a broken pipe instead of the 413.
const maxDiscardedBytes = 32 * 1024 * 1024;

/**
 * Reads a whole body; null when it is longer than allowed. What is too long is read on and thrown
 * away, so that the client comes to read the answer, unless there is far too much of it.
 */
export async function readWholeBody(request: IncomingMessage): Promise<Buffer | null> {
  if (Number(request.headers['content-length'] ?? 0) > maxDiscardedBytes) return null;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxDiscardedBytes) return null;
    if (length > maxBodyBytes) chunks.length = 0;
    else chunks.push(chunk);
  }
  return length > maxBodyBytes ? null : Buffer.concat(chunks);
}
