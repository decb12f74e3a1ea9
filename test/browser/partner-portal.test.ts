import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { bearer, startWithTokens, tokenSettings } from '../tokens.ts';
import { describeInBrowser, openBrowser, openOffline, pictureForDocs } from './browser.ts';

describeInBrowser('The partner portal', () => {
  const failpoints = scriptFailpoints();
  let browser: Browser;
  let world: World;
  let gateway: TestGateway;

  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser.close());
  beforeEach(async () => {
    world = await createWorld();
    gateway = await world.start({ failpoints, settings: { BATCH_CONCURRENCY: '2' } });
  });
  afterEach(async () => {
    failpoints.clear();
    for (const context of browser.contexts()) await context.close();
    await world.close();
  });

  const rows = (page: Page) => page.getByRole('listitem');
  const bars = (page: Page) => rows(page).getByRole('progressbar');
  const all = (page: Page) => page.getByRole('progressbar', { name: 'All tenants' });
  const done = (page: Page) => page.getByRole('status').filter({ hasText: /^Done/ });

  async function fill(page: Page, fields: { count?: number; prefix?: string; names?: string }) {
    if (fields.prefix !== undefined) await page.getByLabel('Names begin with').fill(fields.prefix);
    if (fields.count !== undefined) {
      await page.getByLabel('How many').fill(String(fields.count));
    }
    if (fields.names !== undefined) {
      await page.getByText('More', { exact: true }).click();
      await page.getByLabel('Names, one a line').fill(fields.names);
    }
    await page.getByLabel('Each gets').selectOption('SCHEMA');
  }

  const start = (page: Page) => page.getByRole('button', { name: 'Make them' }).click();

  test('shows each tenant and all of them being made, then each key once', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/portal`);
    await fill(page, { prefix: 'Customer', count: 6 });
    let reached = 0;
    const held = Promise.withResolvers<undefined>();
    // Three go through; the others stop half-way until they have been looked at.
    failpoints.at('verify_connection:before', () =>
      ++reached > 3 ? held.promise : Promise.resolve(),
    );
    await start(page);
    await expect.poll(() => rows(page).filter({ hasText: 'Ready' }).count()).toBe(3);
    await expect.poll(() => rows(page).filter({ hasText: 'verifying' }).count()).toBe(2);
    expect(await bars(page).count()).toBe(6);
    expect(await bars(page).first().getAttribute('aria-labelledby')).toBe('name-0');
    const percent = Number(await all(page).getAttribute('value'));
    expect(percent).toBeGreaterThan(50);
    expect(percent).toBeLessThan(100);
    await page.emulateMedia({ reducedMotion: 'reduce' }); // bars stand where they are going
    await page.setViewportSize({ width: 1000, height: 780 });
    await pictureForDocs(page, 'partner-portal');
    held.resolve(undefined);
    await done(page).waitFor();
    expect(await all(page).getAttribute('value')).toBe('100');
    const keys = await rows(page).locator('code').allTextContents();
    expect(keys).toHaveLength(6);
    for (const key of keys) {
      const { json } = await gateway.post(
        '/graphql',
        { query: '{ tenants { nodes { name } } }' },
        { 'X-API-Key': key },
      );
      expect(JSON.stringify(json)).toMatch(/"name":"Customer [1-6]"/);
    }
    expectNothingOutside();
  });

  test('goes on where it was when the connection is lost, and misses nothing', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/livez`);
    const subscriptions: { afterSequence: number }[] = [];
    const heard: number[] = [];
    await page.routeWebSocket(/\/graphql$/, (socket) => {
      const server = socket.connectToServer();
      const isFirst = subscriptions.length === 0;
      socket.onMessage((message) => {
        const { type, payload } = JSON.parse(message.toString()) as {
          type: string;
          payload: { variables: { afterSequence: number } };
        };
        if (type === 'subscribe') subscriptions.push(payload.variables);
        server.send(message);
      });
      let events = 0;
      server.onMessage((message) => {
        const { type, payload } = JSON.parse(message.toString()) as {
          type: string;
          payload?: { data: { tenantProvisioningProgress: { sequence: number } } };
        };
        if (type === 'next') {
          events += 1;
          if (isFirst && events > 5) {
            void socket.close({ code: 1011 });
            void server.close();
            return;
          }
          heard.push(payload!.data.tenantProvisioningProgress.sequence);
        }
        socket.send(message);
      });
    });
    await page.goto(`${gateway.url}/portal`);
    await fill(page, { count: 3 });
    await start(page);
    await done(page).waitFor();
    expect(subscriptions).toHaveLength(2);
    expect(subscriptions).toEqual([
      expect.objectContaining({ afterSequence: 0 }),
      expect.objectContaining({ afterSequence: heard[4] }),
    ]);
    const told = await world.query<{ sequence: string }>(
      'SELECT sequence FROM control_plane.operation_events WHERE batch_id IS NOT NULL ORDER BY 1',
    );
    expect(heard).toEqual(told.map(({ sequence }) => Number(sequence)));
    expect(await rows(page).locator('code').count()).toBe(3);
    expectNothingOutside();
  });

  test('names that are refused say why; with "all or none" nothing is made', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/portal`);
    await fill(page, { names: `Right\n${'x'.repeat(256)}` });
    await start(page);
    await done(page).waitFor();
    await expect.poll(() => rows(page).nth(1).textContent()).toContain('name must have 1 to 255');
    expect(await rows(page).nth(0).locator('code').count()).toBe(1);
    await page.getByRole('checkbox', { name: /^All or none/ }).check();
    await start(page);
    await page.getByRole('alert').filter({ hasText: 'name must have 1 to 255' }).waitFor();
    expectNothingOutside();
  });

  test('takes a token where one is asked for', async () => {
    const jwt = await startWithTokens(world, { GRAPHIQL: 'on' });
    const { page } = await openOffline(browser, `${jwt.url}/portal`);
    await fill(page, { count: 1 });
    await start(page);
    await page
      .getByRole('alert')
      .filter({ hasText: /credentials/i })
      .waitFor();
    const { Authorization } = await bearer({ roles: ['partner-admin'], partner: 'portal' });
    await page.getByText('More', { exact: true }).click();
    await page.getByLabel(/^Token/).fill(Authorization.replace('Bearer ', ''));
    await start(page);
    await done(page).waitFor();
    expect(await rows(page).locator('code').count()).toBe(1);
    expect(tokenSettings.AUTH_MODE).toBe('jwt');
  });
});
