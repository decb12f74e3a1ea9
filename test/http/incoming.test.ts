import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { isLoopbackHost } from '../../src/http/host.ts';
import { describeIncoming } from '../../src/http/incoming.ts';

describe('the client’s address, with TRUST_PROXY', () => {
  const address = (forwarded: string | undefined, trusted: number): string | null => {
    const socket = new Socket();
    Object.defineProperty(socket, 'remoteAddress', { value: '10.0.0.9' });
    const request = new IncomingMessage(socket);
    if (forwarded !== undefined) request.headers['x-forwarded-for'] = forwarded;
    return describeIncoming(request, new ServerResponse(request), trusted).ipAddress;
  };

  test.for<[forwarded: string | undefined, trusted: number, believed: string]>([
    [undefined, 0, '10.0.0.9'],
    ['1.1.1.1', 0, '10.0.0.9'],
    ['1.1.1.1, 2.2.2.2', 0, '10.0.0.9'],
    [undefined, 1, '10.0.0.9'],
    ['', 1, '10.0.0.9'],
    [' , ', 1, '10.0.0.9'],
    ['1.1.1.1', 1, '1.1.1.1'],
    // What stands further left, the client may have made up.
    ['6.6.6.6, 1.1.1.1', 1, '1.1.1.1'],
    ['6.6.6.6, 1.1.1.1, 2.2.2.2', 2, '1.1.1.1'],
    ['6.6.6.6,1.1.1.1 , 2.2.2.2', 2, '1.1.1.1'],
    ['1.1.1.1', 2, '1.1.1.1'],
  ])('%j of %i proxies: %s', ([forwarded, trusted, believed]) => {
    expect(address(forwarded, trusted)).toBe(believed);
  });
});

describe('loopback names', () => {
  test.for([
    'localhost',
    'localhost:4000',
    'LocalHost:4000',
    'a.b.localhost',
    '127.0.0.1',
    '127.0.0.1:4000',
    '127.255.255.254',
    '[::1]',
    '[::1]:4000',
    '[0:0:0:0:0:0:0:1]',
  ])('%s', (name) => {
    expect(isLoopbackHost(name)).toBe(true);
  });

  test.for([
    null,
    '',
    ':4000',
    'localhost.example.com',
    'localhost.',
    'xlocalhost',
    '.localhost.evil.com',
    'localhost@evil.com',
    'evil.com#localhost',
    'localhost:4000:4000',
    '128.0.0.1',
    '126.255.255.255',
    '0.0.0.0',
    '127.0.0.1.evil.com',
    '127.1',
    '2130706433',
    '0x7f.0.0.1',
    '[::]',
    '[::2]',
    '[fe80::1]',
    '[::ffff:8.8.8.8]',
    'localhost, evil.com',
    'localhost evil.com',
  ])('not: %j', (name) => {
    expect(isLoopbackHost(name)).toBe(false);
  });
});
