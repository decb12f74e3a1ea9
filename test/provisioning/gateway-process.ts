/**
 * A gateway in a process of its own, to be killed. Failpoints come as `HOLD`, a list of points: the
 * first operation stops for good at the first of them, the next one at the second, and so on; and as
 * `FAIL`, points that fail always. Tells on stdout, a line each: its address, then every point at
 * which an operation has stopped.
 */
import pino from 'pino';
import { startApp } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';

const listOf = (name: string): string[] => (process.env[name] ?? '').split(',').filter(Boolean);
const held = listOf('HOLD');
const failing = new Set(listOf('FAIL'));

const app = await startApp(readConfig(process.env, false), {
  log: pino({ level: 'silent' }),
  failpoints: {
    async reach(point) {
      if (point === held[0]) {
        held.shift();
        console.log(point);
        await new Promise(() => {});
      }
      if (failing.has(point)) throw new Error('failpoint');
    },
  },
});
console.log(app.url);
