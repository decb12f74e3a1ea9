/**
 * A gateway in a process of its own, started with `--expose-gc`, so that its memory is nobody else's. Its
 * settings are its environment. It sends its address, and for every message what memory it holds.
 */
import pino from 'pino';
import { startApp } from '../src/app.ts';
import { readConfig } from '../src/config.ts';

/** What a gateway process holds after a garbage collection, bytes. */
export interface Memory {
  readonly heap: number;
  readonly resident: number;
}

const app = await startApp(readConfig(process.env, false), { log: pino({ level: 'silent' }) });
process.on('message', () => {
  globalThis.gc?.({ type: 'major', execution: 'sync' });
  const { external, heapUsed, rss } = process.memoryUsage();
  process.send?.({ heap: heapUsed + external, resident: rss } satisfies Memory);
});
process.on('disconnect', () => {
  void app.close();
});
process.send?.(app.url);
