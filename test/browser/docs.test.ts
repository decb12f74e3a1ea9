import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, type TestGateway, type World } from '../harness.ts';
import { describeInBrowser, openBrowser, openOffline, pictureForDocs } from './browser.ts';

describeInBrowser('/docs', () => {
  let browser: Browser;
  let world: World;
  let gateway: TestGateway;

  beforeAll(async () => {
    world = await createWorld();
    gateway = await world.start();
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser.close();
    await world.close();
  });

  test('shows every route of the document', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/docs`);
    const { json } = await gateway.get('/openapi.json');
    const { paths } = json as { paths: Record<string, Record<string, { tags: string[] }>> };
    // A route that two contracts share stands in both their chapters.
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { tags }]) =>
        tags.map(() => ({ path, method: method.toUpperCase() })),
      ),
    );
    const shown = page.locator('.opblock');
    await shown.nth(routes.length - 1).waitFor();
    const texts = await page.locator('.opblock-summary').evaluateAll((summaries) =>
      summaries.map((summary) => ({
        // A break may follow each slash: it is no part of the path.
        path: summary.querySelector('[data-path]')?.getAttribute('data-path'),
        method: summary.querySelector('.opblock-summary-method')?.textContent,
      })),
    );
    const inOrder = (a: object, b: object): number =>
      JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
    expect(texts.toSorted(inOrder)).toEqual(routes.toSorted(inOrder));
    await pictureForDocs(page, 'docs', { fullPage: true });
    for (const chapter of ['Contract A', 'Contract B', 'Operations', 'Service']) {
      expect(await page.getByRole('heading', { name: chapter }).count()).toBe(1);
    }
    expectNothingOutside();
  });

  test('a route opens with its examples, its problems unfold, and it can be tried out', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/docs`);
    const creation = page.locator('#operations-Contract_B-createTenantB');
    await creation.getByRole('button', { name: /^POST/ }).click();
    await creation.getByText('"name": "Acme Corp"').first().waitFor();
    await creation.getByText('Idempotency-Key', { exact: true }).first().waitFor();

    await creation.getByRole('button', { name: /^Something that must be unique/ }).click();
    await creation.getByText(`"Tenant with slug 'acme' already exists"`).waitFor();

    await creation.getByRole('button', { name: 'Try it out' }).click();
    await creation.getByRole('button', { name: 'Execute' }).click();
    await creation.locator('.live-responses-table').getByText('"status": "active"').waitFor();
    expect((await gateway.get('/api/tenants/acme')).status).toBe(200);
    expectNothingOutside();
  });

  test('anything that it loaded from elsewhere would be seen', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, `${gateway.url}/docs`);
    const told = page.waitForEvent('console', (message) => message.type() === 'error');
    await page.evaluate(() => fetch('https://elsewhere.test/').catch(() => undefined));
    await told;
    expect(expectNothingOutside).toThrow();
  });

  test('the page at / leads there', async () => {
    const { page, expectNothingOutside } = await openOffline(browser, gateway.url);
    await page.getByRole('link', { name: 'REST reference' }).click();
    await page.locator('.opblock').first().waitFor();
    expect(page.url()).toBe(`${gateway.url}/docs`);
    expectNothingOutside();
  });
});
