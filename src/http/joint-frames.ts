import type { Writable } from 'node:stream';
import { createSpareBuffers } from './spare-buffers.ts';
import { textFramesLength, writeTextFrames, type AlikeMessages } from './text-frames.ts';

/** Messages that wait for their turn on one socket, to be written in one piece. */
export interface JointFrames {
  /** How many bytes wait. */
  readonly bytes: number;
  /** Adds messages. @param done called when the kernel has taken them, or never will */
  add(messages: AlikeMessages, done: () => void): void;
  /** Writes all that wait. */
  flush(): void;
}

/** As much as goes to a thousand subscribers at once. */
const spares = createSpareBuffers(4 * 1024 * 1024);

/** @param isOpen whether the socket takes messages still; those that wait when it does not are dropped */
export function createJointFrames(wire: Writable, isOpen: () => boolean): JointFrames {
  let waiting: AlikeMessages[] = [];
  let told: (() => void)[] = [];
  let bytes = 0;

  return {
    get bytes() {
      return bytes;
    },

    add(messages, done) {
      waiting.push(messages);
      told.push(done);
      bytes += textFramesLength(messages);
    },

    flush() {
      if (waiting.length === 0) return;
      const [all, dones, length] = [waiting, told, bytes];
      [waiting, told, bytes] = [[], [], 0];
      const tell = (): void => {
        for (const done of dones) done();
      };
      if (!isOpen()) {
        tell();
        return;
      }
      const buffer = spares.take(length);
      let at = 0;
      for (const messages of all) at = writeTextFrames(buffer, at, messages);
      wire.write(buffer.subarray(0, at), (error) => {
        // Of a socket that was cut off in the middle the kernel may still read.
        if (error === undefined || error === null) spares.giveBack(buffer);
        tell();
      });
    },
  };
}
