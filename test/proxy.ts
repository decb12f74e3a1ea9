import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A way to a server that can be broken. */
export interface Proxy {
  /** Connection string through it. */
  readonly url: string;
  /** Forwards nothing any more, and keeps all connections: as when a cable is pulled. */
  stall(): void;
  /** Lets through what is said to the server, and none of its answers, on the connections there are. */
  mute(): void;
  /** Goes on as if nothing had been. */
  resume(): void;
  /** Ends all connections at once. */
  cut(): void;
  close(): Promise<void>;
}

/** Opens a proxy on this machine to a server, by its connection string. */
export async function openProxy(target: string): Promise<Proxy> {
  const { hostname, port } = new URL(target);
  const pairs = new Set<readonly [Socket, Socket]>();
  let stalled = false;
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    const pair = [near, far] as const;
    pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.pipe(to);
      from.on('error', () => undefined);
      from.once('close', () => {
        pairs.delete(pair);
        to.destroy();
      });
    }
    if (stalled) hold(pair);
  });
  function hold([near, far]: readonly [Socket, Socket]): void {
    near.unpipe(far).pause();
    far.unpipe(near).pause();
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    stall() {
      stalled = true;
      for (const pair of pairs) hold(pair);
    },
    mute() {
      for (const [near, far] of pairs) far.unpipe(near).pause();
    },
    resume() {
      stalled = false;
      for (const [near, far] of pairs) {
        near.pipe(far);
        far.pipe(near);
      }
    },
    cut() {
      for (const [near, far] of pairs) {
        near.destroy();
        far.destroy();
      }
    },
    async close() {
      for (const [near] of pairs) near.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
