import { defineBrowserProvider } from "@vitest/browser";
import type { Browser, Page } from "puppeteer";
import type {
  BrowserCommand,
  BrowserCommandContext,
  BrowserProvider,
  BrowserProviderOption,
  TestProject,
} from "vitest/node";
import { launch } from "./chromium.ts";

declare module "vitest/node" {
  interface _BrowserNames {
    puppeteer: "chromium";
  }
  interface BrowserCommandContext {
    page: Page;
  }
}

/** The commands Vitest's own client calls. Clicking and typing are left out: these tests have no page to click. */
const commands: Record<string, BrowserCommand<never[]>> = {
  __vitest_viewport: (context: BrowserCommandContext, size: { width: number; height: number }) =>
    context.page.setViewport(size),
  __vitest_cleanup: async () => {},
};

/** A Vitest browser provider on puppeteer: one browser, and one context and page for each session. */
class PuppeteerProvider implements BrowserProvider {
  readonly name = "puppeteer";
  readonly supportsParallelism = true;
  #browser: Promise<Browser> | undefined;
  #pages = new Map<string, Page>();

  constructor(project: TestProject) {
    for (const [name, command] of Object.entries(commands)) {
      project.browser?.registerCommand(name as never, command as never);
    }
  }

  getCommandsContext(sessionId: string): { page: Page | undefined } {
    return { page: this.#pages.get(sessionId) };
  }

  async openPage(sessionId: string, url: string): Promise<void> {
    await this.#pages.get(sessionId)?.close();
    const browser = await (this.#browser ??= launch());
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    this.#pages.set(sessionId, page);
    await page.goto(url, { timeout: 0 });
  }

  async close(): Promise<void> {
    const browser = this.#browser;
    this.#browser = undefined;
    await (await browser)?.close();
  }
}

/** Goes to `test.browser.provider` in the Vitest configuration. */
export const puppeteerProvider = (): BrowserProviderOption =>
  defineBrowserProvider({
    name: "puppeteer",
    supportedBrowser: ["chromium"],
    providerFactory: (project) => new PuppeteerProvider(project),
  });
