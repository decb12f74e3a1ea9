/** Messages that begin alike. */
export interface AlikeMessages {
  /** What each of them begins with, UTF-8. */
  readonly beginning: Buffer;
  /** What follows in each, UTF-8. */
  readonly rests: readonly Buffer[];
}

/** How many bytes `writeTextFrames` writes for them. */
export function textFramesLength({ beginning, rests }: AlikeMessages): number {
  let total = 0;
  for (const rest of rests) {
    const length = beginning.length + rest.length;
    total += headerLength(length) + length;
  }
  return total;
}

/**
 * Writes messages as WebSocket text frames, one after the other, as a server sends them: not masked, not
 * compressed. Into one buffer for all of them, where `ws` makes two and a callback of each message: with
 * many subscribers that is most of what telling them costs.
 *
 * @param at where the first begins; there has to be room from there on
 * @returns the place behind the last
 * @see https://www.rfc-editor.org/rfc/rfc6455#section-5.2
 */
export function writeTextFrames(
  target: Buffer,
  at: number,
  { beginning, rests }: AlikeMessages,
): number {
  let place = at;
  for (const rest of rests) {
    place = writeHeader(target, place, beginning.length + rest.length);
    target.set(beginning, place);
    target.set(rest, place + beginning.length);
    place += beginning.length + rest.length;
  }
  return place;
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
