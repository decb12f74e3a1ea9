import { isLoopback } from '../auth/loopback.ts';

/** What a request to another name is answered in open mode. */
export const loopbackOnlyMessage = 'In open mode only requests to a loopback name are served';

/** Whether a `Host` header names this machine by a loopback name; its port does not matter. */
export function isLoopbackHost(header: string | null): boolean {
  if (header === null) return false;
  const name = header.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  // Browsers resolve every name below localhost to this machine by themselves.
  return isLoopback(name) || name.toLowerCase().endsWith('.localhost');
}
