import puppeteer, { type Browser, type Page } from "puppeteer";
import { inject } from "vitest";

/**
 * For end-to-end tests: opens a page of the demo in a fresh browser context (its own storage) and hands it to `use`,
 * with the browser for what only it can do, such as crashing the GPU process. Closes the context afterwards.
 *
 * @param path below the demo's root, such as "" or "index.html?recipe=..."
 */
export async function withPage(path: string, use: (page: Page, browser: Browser) => Promise<void>): Promise<void> {
  const browser = await puppeteer.connect({ browserWSEndpoint: inject("browserEndpoint") });
  const context = await browser.createBrowserContext();
  try {
    const page = await context.newPage();
    await page.goto(new URL(path, inject("demoUrl")).href);
    await use(page, browser);
  } finally {
    await context.close();
    await browser.disconnect();
  }
}
