import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { textFramesLength, writeTextFrames } from '../../src/http/text-frames.ts';

let server: WebSocketServer;
beforeAll(async () => {
  server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
});
afterAll(() => {
  server.close();
});

/** What a client of `ws` reads of them. */
async function read(beginning: string, rests: readonly string[]): Promise<string[]> {
  server.once('connection', (socket, request) => {
    const bytes = rests.map((rest) => Buffer.from(rest));
    const messages = { beginning: Buffer.from(beginning), rests: bytes };
    const length = textFramesLength(messages);
    const frames = Buffer.alloc(3 + length + 1);
    expect(writeTextFrames(frames, 3, messages)).toBe(3 + length);
    request.socket.write(frames.subarray(3, 3 + length));
    socket.close();
  });
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const messages: string[] = [];
  client.on('message', (message: Buffer) => messages.push(message.toString()));
  const [code] = (await once(client, 'close')) as [number];
  expect(code).toBe(1005); // closed in order: nothing was wrong with a frame
  return messages;
}

test('writeTextFrames: frames are read by a client as the messages they were made of', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.string({ unit: 'grapheme', maxLength: 50 }),
      fc.array(fc.string({ unit: 'grapheme', maxLength: 300 }), { maxLength: 20 }),
      async (beginning, rests) => {
        expect(await read(beginning, rests)).toEqual(rests.map((rest) => beginning + rest));
      },
    ),
    { numRuns: 50 },
  );
});

test('writeTextFrames: frames have the header that the length asks for', async () => {
  const lengths = [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 200_000];
  const rests = lengths.map((length) => 'x'.repeat(length));
  expect(await read('', rests)).toEqual(rests);
});
