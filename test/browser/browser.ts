/** A browser that reaches the gateway under test and nothing else. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { describe, expect } from 'vitest';

const given = process.env['CHROMIUM_PATH'];
const executablePath = given ?? '/usr/bin/chromium';
if (given !== undefined && !existsSync(given)) throw new Error(`CHROMIUM_PATH: no file ${given}`);

/** A suite that needs the browser; without one it says so and is skipped. */
export function describeInBrowser(name: string, suite: () => void): void {
  if (existsSync(executablePath)) describe(name, suite);
  else {
    console.warn(`${name}: skipped, there is no ${executablePath} (another one: CHROMIUM_PATH)`);
    describe.skip(`${name} (no browser)`, suite);
  }
}

/** Starts it. Chromium itself is told to stay at home, too. */
export function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox', // has no rights to make one as root, or in a container
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

export interface OfflinePage {
  readonly page: Page;
  /** Fails when the page tried to reach anything but its own origin, or complained of anything. */
  readonly expectNothingOutside: () => void;
}

/** Opens a page of the gateway with every outside address blocked. */
export async function openOffline(browser: Browser, url: string): Promise<OfflinePage> {
  const { origin } = new URL(url);
  const outside: string[] = [];
  const complaints: string[] = [];
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  await context.route(
    (address) => address.origin !== origin,
    async (route) => {
      outside.push(route.request().url());
      await route.abort();
    },
  );
  await context.routeWebSocket(
    (address) => address.host !== new URL(url).host,
    (socket) => {
      outside.push(socket.url());
      return socket.close();
    },
  );
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  // What the content policy forbids is told of here.
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  await page.goto(url);
  return {
    page,
    expectNothingOutside() {
      expect({ outside, complaints }).toEqual({ outside: [], complaints: [] });
    },
  };
}

/** Where UPDATE_SCREENSHOTS is set, takes the picture of this name for the docs: of what is in view. */
export async function pictureForDocs(
  page: Page,
  name: string,
  options: { readonly fullPage?: boolean } = {},
): Promise<void> {
  if (process.env['UPDATE_SCREENSHOTS'] === undefined) return;
  const path = fileURLToPath(new URL(`../../docs/images/${name}.png`, import.meta.url));
  await page.screenshot({ path, animations: 'disabled', caret: 'hide', ...options });
}
