import { BlockList, isIP } from 'node:net';

const addresses = new BlockList();
addresses.addSubnet('127.0.0.0', 8, 'ipv4');
addresses.addAddress('::1', 'ipv6');

/** Whether an address or name is this machine alone, which is where the local operator sits. */
export function isLoopback(text: string): boolean {
  const family = isIP(text);
  if (family === 0) return text.toLowerCase() === 'localhost';
  return addresses.check(text, family === 4 ? 'ipv4' : 'ipv6');
}
