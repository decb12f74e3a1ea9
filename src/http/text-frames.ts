/**
 * WebSocket text frames of several messages that begin alike, one after the other in one buffer, as a
 * server sends them: not masked, not compressed. One buffer for all of them, where `ws` makes two and a
 * callback of each message: with many subscribers that is most of what telling them costs.
 *
 * @param beginning what each message begins with, UTF-8
 * @param rests what follows in each, UTF-8
 * @see https://www.rfc-editor.org/rfc/rfc6455#section-5.2
 */
export function textFrames(beginning: Buffer, rests: readonly Buffer[]): Buffer {
  const lengths = rests.map((rest) => beginning.length + rest.length);
  const total = lengths.reduce((sum, length) => sum + headerLength(length) + length, 0);
  const frames = Buffer.allocUnsafe(total);
  let at = 0;
  for (const [index, rest] of rests.entries()) {
    at = writeHeader(frames, at, lengths[index] ?? 0);
    frames.set(beginning, at);
    frames.set(rest, at + beginning.length);
    at += lengths[index] ?? 0;
  }
  return frames;
}

const lastTextFrame = 0x81;

function headerLength(length: number): number {
  if (length < 126) return 2;
  return length < 65_536 ? 4 : 10;
}

/** Returns the place behind it. */
function writeHeader(frames: Buffer, at: number, length: number): number {
  frames[at] = lastTextFrame;
  if (length < 126) {
    frames[at + 1] = length;
  } else if (length < 65_536) {
    frames[at + 1] = 126;
    frames.writeUInt16BE(length, at + 2);
  } else {
    frames[at + 1] = 127;
    frames.writeBigUInt64BE(BigInt(length), at + 2);
  }
  return at + headerLength(length);
}
