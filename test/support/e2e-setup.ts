import { createServer } from "vite";
import type { TestProject } from "vitest/node";
import { launch } from "../../tools/chromium.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Address of the Vite server of the demo, with a slash at its end. */
    demoUrl: string;
    /** Where puppeteer connects to the browser that all end-to-end files share. */
    browserEndpoint: string;
  }
}

/** Vitest's globalSetup of the end-to-end project: one Vite server and one Chromium. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Nothing reloads the page in the middle of a test, not even an edit of the sources.
  const quiet = { port: 0, hmr: false, watch: null } as const;
  const server = await createServer({ configFile: "vite.config.ts", server: quiet, logLevel: "error" });
  await server.listen();
  const url = server.resolvedUrls?.local[0];
  if (!url) throw new Error("the Vite server of the end-to-end tests has no local address");
  const browser = await launch();
  project.provide("demoUrl", url);
  project.provide("browserEndpoint", browser.wsEndpoint());
  return async () => {
    await browser.close();
    await server.close();
  };
}
