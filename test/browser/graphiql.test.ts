import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { scriptFailpoints } from '../provisioning/failpoints.ts';
import { describeInBrowser, openBrowser, openOffline, pictureForDocs } from './browser.ts';

describeInBrowser('GraphiQL', () => {
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
    gateway = await world.start({ failpoints });
  });
  afterEach(async () => {
    failpoints.clear();
    for (const context of browser.contexts()) await context.close();
    await world.close();
  });

  test('loads, and runs createTenant from the ready example', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/graphql`);
    await run(page, 'CreateTenant');
    await answer(page, '"status": "ACTIVE"').waitFor();
    await answer(page, '"databaseName"').waitFor();
    const { tenants } = await gateway.graphql<{ tenants: object }>(
      '{ tenants(first: 2) { nodes { name status } } }',
    );
    expect(tenants).toEqual({ nodes: [{ name: 'Acme Corp', status: 'ACTIVE' }] });
    await pictureForDocs(page, 'graphiql');
    expectNothingOutside();
  });

  test('watches it being made in another tab, step by step', async () => {
    const watching = await openOffline(browser, `${gateway.url}/graphql`);
    const streams = watching.page.waitForResponse(
      async (response) => (await response.headerValue('content-type')) === 'text/event-stream',
    );
    await run(watching.page, 'WatchTenant');
    await streams;
    const held = failpoints.hold('create_database:before');
    const creating = await openOffline(browser, `${gateway.url}/graphql`);
    await run(creating.page, 'CreateTenant');
    await held.reached;
    await answer(watching.page, '"step": "create_database"').waitFor();
    await answer(watching.page, '"status": "STARTED"').waitFor();
    held.release();
    await answer(watching.page, '"percent": 100').waitFor();
    await answer(creating.page, '"status": "ACTIVE"').waitFor();
    watching.expectNothingOutside();
    creating.expectNothingOutside();
  });
});

/** Runs one of the operations that the page opens with. */
async function run(page: Page, operation: string): Promise<void> {
  await page.getByRole('button', { name: /^Execute query/ }).click();
  await page.getByRole('menuitem', { name: operation, exact: true }).click();
}

/** The answer, as soon as it holds this text. */
function answer(page: Page, text: string): Locator {
  return page.locator('.graphiql-response').filter({ hasText: text });
}
