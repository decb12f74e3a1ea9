/** Buffers that are used again. */
export interface SpareBuffers {
  /** A buffer of at least this length, in bytes; what is in it is left over from others. */
  take(length: number): Buffer;
  /** To be called once nobody reads from it any more. */
  giveBack(buffer: Buffer): void;
}

const smallest = 16 * 1024;

/**
 * Keeps buffers for use again, as far as they fit into `maxIdleBytes`. What they hold is outside of V8's
 * heap, and by how much of that is thrown away V8 decides when to go through the whole heap: with many
 * subscribers, several times a second.
 *
 * @see https://github.com/nodejs/node/issues/1671 and V8's `v8-external-memory-accounter.h`
 */
export function createSpareBuffers(maxIdleBytes: number): SpareBuffers {
  const idle = new Map<number, Buffer[]>();
  let idleBytes = 0;

  return {
    take(length) {
      const size = Math.max(smallest, 2 ** Math.ceil(Math.log2(length)));
      const spare = idle.get(size)?.pop();
      if (spare === undefined) return Buffer.allocUnsafeSlow(size);
      idleBytes -= size;
      return spare;
    },

    giveBack(buffer) {
      const size = buffer.length;
      if (idleBytes + size > maxIdleBytes) return;
      idleBytes += size;
      const alike = idle.get(size);
      if (alike === undefined) idle.set(size, [buffer]);
      else alike.push(buffer);
    },
  };
}
